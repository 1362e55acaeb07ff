//! What is in a model file.

use crate::{args::FileArgs, session::resolve, ui::printable};
use anyhow::Result;
use bitnet_core::Device;
use bitnet_inference::local;
use bitnet_model::{
    Checkpoint, Tokenizer,
    checkpoint::{Options, Weight},
    weights::{Source, gguf::Value as GgufValue},
};
use bitnet_quant::{Scales, metrics};
use clap::Args;
use serde_json::{Map, Value, json};
use std::{path::PathBuf, process::ExitCode};

/// Longest metadata value that is shown whole.
const SHOWN: usize = 80;

/// Show metadata, tensors, ternary density and scales of a model.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bitnet inspect model.gguf\n  bitnet inspect folder --json | jq .tensors"
)]
pub(crate) struct InspectArgs {
    /// A GGUF file or a Hugging Face folder.
    #[arg(value_name = "PATH", env = "BITNET_MODEL")]
    model: PathBuf,
    /// Write one JSON object.
    #[arg(long, env = "BITNET_JSON")]
    json: bool,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode> {
    let path = resolve(&args.model)?;
    let options =
        Options { load_mode: args.files.load_mode.into(), i2s_layout: args.files.i2s_layout.format() };
    let source = Source::open(&path, options.load_mode)?;
    let metadata = metadata(&source);
    let stored = tensors(&source);
    // A file that cannot be run can still be looked at.
    let mut checkpoint = Checkpoint::from_source(source, options);
    if let Ok(checkpoint) = &mut checkpoint {
        settle_layout(checkpoint)?;
    }
    let (ternary, damage) = match checkpoint.as_ref().map(projections) {
        Ok(Ok(ternary)) => (ternary, None),
        Ok(Err(damage)) => (Vec::new(), Some(damage.to_string())),
        Err(_) => (Vec::new(), None),
    };
    let problem = checkpoint.as_ref().err().map(ToString::to_string).or(damage);
    let report = json!({
        "path": path,
        "runs": problem.is_none(),
        "problem": problem,
        "i2s_layout": checkpoint.as_ref().ok().and_then(|c| c.i2s_decision()).map(|d| json!({
            "layout": d.layout.name(), "evidence": format!("{:?}", d.evidence).to_lowercase(),
        })),
        "parameters": checkpoint.as_ref().ok().map(|c| c.config().parameters()),
        "metadata": metadata,
        "tensors": stored,
        "ternary": ternary,
    });
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print_report(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// As whatever runs the model does; a model without a readable vocabulary keeps the layout of every published file.
fn settle_layout(checkpoint: &mut Checkpoint) -> Result<()> {
    if let Ok((tokenizer, _)) = Tokenizer::of(checkpoint.source()) {
        local::settle_i2s_layout(checkpoint, &Device::open("cpu", None)?, &tokenizer)?;
    }
    Ok(())
}

fn metadata(source: &Source) -> Value {
    match source {
        Source::Gguf(gguf) => {
            let pairs = gguf.metadata().iter().map(|(key, value)| (key.to_owned(), shown(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Source::Folder(folder) => serde_json::from_str(folder.config_text()).unwrap_or(Value::Null),
    }
}

/// A value, or the type and length of one that nobody would read.
fn shown(value: &GgufValue) -> Value {
    match value {
        GgufValue::String(text) => json!(text),
        GgufValue::Bool(b) => json!(b),
        GgufValue::F32(x) => json!(x),
        GgufValue::F64(x) => json!(x),
        GgufValue::Array(array) => json!(format!("{} entries, {}", array.len(), value.type_name())),
        other => match other.integer().and_then(|n| i64::try_from(n).ok()) {
            Some(n) => json!(n),
            None => json!(format!("{other:?}")),
        },
    }
}

fn tensors(source: &Source) -> Vec<Value> {
    match source {
        Source::Gguf(gguf) => gguf
            .tensors()
            .iter()
            .map(|t| json!({ "name": t.name, "shape": t.shape, "type": t.format.name(), "bytes": t.range.len() }))
            .collect(),
        Source::Folder(folder) => folder
            .names()
            .filter_map(|name| Some((name, folder.tensor(name)?)))
            .map(|(name, t)| {
                json!({ "name": name, "shape": t.shape, "type": format!("{:?}", t.dtype).to_lowercase(), "bytes": t.bytes.len() })
            })
            .collect(),
    }
}

fn projections(checkpoint: &Checkpoint) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (layer, name) in checkpoint.projections() {
        let weight = checkpoint.projection(layer, name)?;
        if let Some(entry) = ternary(&weight)? {
            all.push(entry);
        }
    }
    Ok(all)
}

fn ternary(weight: &Weight) -> Result<Option<Value>> {
    let matrix = match weight.ternary()? {
        Some(matrix) => matrix,
        None if weight.format.is_ternary() => weight.unpacked()?,
        None => return Ok(None),
    };
    let (scale, granularity) = match &matrix.scales {
        Scales::Tensor(scale) => (json!(scale), "tensor".to_owned()),
        Scales::Row(values) => (range(values), "row".to_owned()),
        Scales::Group { len, values } => (range(values), format!("group of {len}")),
    };
    Ok(Some(json!({
        "name": weight.name,
        "format": weight.format.name(),
        "shape": [weight.rows, weight.cols],
        "density": metrics::density(&matrix.codes),
        "codes": metrics::histogram(&matrix.codes),
        "scale": scale,
        "scale_of": granularity,
    })))
}

fn range(values: &[f32]) -> Value {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    json!({ "min": min, "max": max })
}

fn print_report(report: &Value) -> Result<()> {
    outln!("{}", report["path"].as_str().unwrap_or_default())?;
    if let Some(problem) = report["problem"].as_str() {
        outln!("cannot be run: {}", printable(problem))?;
    }
    if let Some(layout) = report["i2s_layout"]["layout"].as_str() {
        outln!("I2_S layout {layout}, by {}", text(&report["i2s_layout"]["evidence"]))?;
    }
    if let Some(parameters) = report["parameters"].as_u64() {
        outln!("{:.1} M parameters", parameters as f64 / 1e6)?;
    }
    outln!("\nmetadata")?;
    for (key, value) in report["metadata"].as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned).replace('\n', "\\n");
        let cut: String = text.chars().take(SHOWN).collect();
        let more = if cut.len() < text.len() { "…" } else { "" };
        outln!("  {} = {}{more}", printable(key), printable(&cut))?;
    }
    outln!("\ntensors")?;
    for tensor in report["tensors"].as_array().into_iter().flatten() {
        let name = printable(text(&tensor["name"]));
        outln!("  {name:<48} {:<8} {}", text(&tensor["type"]), tensor["shape"])?;
    }
    let ternary = report["ternary"].as_array();
    if ternary.is_some_and(|t| !t.is_empty()) {
        outln!("\nternary matrices                                  nonzero   scale")?;
        for matrix in ternary.into_iter().flatten() {
            let density = matrix["density"].as_f64().unwrap_or_default();
            outln!("  {:<48} {:>5.1} %   {}", text(&matrix["name"]), 100.0 * density, matrix["scale"])?;
        }
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
