//! Writes a Hugging Face folder with packed weights.

use super::{Job, Progress, Target, in_order, jobs, report, table, with_scale};
use crate::{
    Checkpoint, Error, Result, Tokenizer,
    arch::{
        describe::{activation_name, describe},
        projection_shape,
    },
    checkpoint::Weight,
    config::Family,
    weights::{
        FileSlice, Source,
        safetensors::{Dtype, Spec, Writer},
    },
};
use bitnet_core::interchange::atomic::{AtomicFolder, atomic_write};
use bitnet_quant::{Format, Scales, Ternary};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Files of a source folder that stay as they are.
const COPIED: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
];

pub(super) fn write(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    out: &Path,
    target: Target,
    progress: Progress<'_>,
) -> Result<()> {
    let config = config(checkpoint, tokenizer)?;
    let folder = AtomicFolder::create(out)?;
    fill(checkpoint, tokenizer, &config, folder.path(), target, progress)?;
    Ok(folder.commit()?)
}

fn fill(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    config: &Value,
    out: &Path,
    target: Target,
    progress: Progress<'_>,
) -> Result<()> {
    weights(checkpoint, out, target, progress)?;
    match checkpoint.source() {
        Source::Folder(folder) => {
            for name in COPIED {
                if let Ok(bytes) = fs::read(folder.path().join(name)) {
                    text(&out.join(name), &bytes)?;
                }
            }
        }
        Source::Gguf(_) => {
            let (json, settings) = tokenizer.to_json();
            text(&out.join("tokenizer.json"), json.as_bytes())?;
            text(&out.join("tokenizer_config.json"), settings.as_bytes())?;
            let generation = json!({ "bos_token_id": tokenizer.bos(), "eos_token_id": tokenizer.eos() });
            text(&out.join("generation_config.json"), generation.to_string().as_bytes())?;
        }
    }
    let config = serde_json::to_string_pretty(config).expect("a JSON value can be written");
    text(&out.join("config.json"), config.as_bytes())
}

fn text(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(atomic_write(path, |file| file.write(bytes))?)
}

/// The tensors of a job: a projection has a scale beside it.
type Tensors = Vec<(Spec, FileSlice)>;

fn weights(checkpoint: &Checkpoint, out: &Path, target: Target, progress: Progress<'_>) -> Result<()> {
    let jobs = jobs(checkpoint);
    let mut specs = Vec::new();
    for job in &jobs {
        specs.extend(announced(checkpoint, job, target)?);
    }
    let mut writer = Writer::create(out.join("model.safetensors"), &specs)?;
    in_order(
        &jobs,
        |job| tensors(checkpoint, job, target),
        |tensors| {
            for (_, bytes) in &tensors {
                writer.tensor(bytes)?;
                report(progress, bytes)?;
            }
            Ok(())
        },
    )?;
    writer.finish()
}

fn spec(name: &str, suffix: &str, shape: &[usize], dtype: Dtype) -> Spec {
    Spec { name: format!("{name}.{suffix}"), shape: shape.to_vec(), dtype }
}

/// Names, shapes and types, without the work of packing.
fn announced(checkpoint: &Checkpoint, job: &Job, target: Target) -> Result<Vec<Spec>> {
    Ok(match job {
        Job::Norm { name, width } => vec![spec(name, "weight", &[*width], Dtype::F32)],
        Job::Projection { layer, name } => {
            let (rows, cols) = projection_shape(checkpoint.config(), name);
            let full = format!("model.layers.{layer}.{name}");
            Format::HfPacked
                .tensor_bytes(rows, cols)
                .map_err(|error| Error::Tensor { name: full.clone(), error })?;
            vec![
                spec(&full, "weight", &[rows / 4, cols], Dtype::U8),
                spec(&full, "weight_scale", &[1], Dtype::F32),
            ]
        }
        Job::Embedding => vec![table_spec(&checkpoint.embedding()?, target)?],
        Job::Head => vec![table_spec(&head(checkpoint)?, target)?],
    })
}

fn head(checkpoint: &Checkpoint) -> Result<Weight> {
    checkpoint.head()?.ok_or(Error::MissingTensor { name: "lm_head.weight".into() })
}

/// Safetensors hold plain floats: other formats become f32, which holds them exactly.
fn float(weight: &Weight, target: Target) -> Result<(Format, Dtype)> {
    let wanted = target.embedding.unwrap_or(weight.format);
    match wanted {
        Format::F16 => Ok((Format::F16, Dtype::F16)),
        Format::BF16 => Ok((Format::BF16, Dtype::BF16)),
        Format::F32 => Ok((Format::F32, Dtype::F32)),
        _ if target.embedding.is_none() => Ok((Format::F32, Dtype::F32)),
        other => Err(Error::TensorType {
            name: weight.name.clone(),
            expected: "f32, f16 or bf16 in a Hugging Face folder",
            got: other.name().into(),
        }),
    }
}

fn table_spec(weight: &Weight, target: Target) -> Result<Spec> {
    let (_, dtype) = float(weight, target)?;
    Ok(spec(&weight.name, "weight", &[weight.rows, weight.cols], dtype))
}

fn tensors(checkpoint: &Checkpoint, job: &Job, target: Target) -> Result<Tensors> {
    let specs = announced(checkpoint, job, target)?;
    let bytes = match job {
        Job::Norm { name, width } => {
            let bytes: Vec<u8> =
                checkpoint.norm(name, *width)?.iter().flat_map(|x| x.to_le_bytes()).collect();
            vec![bytes.into()]
        }
        Job::Embedding => vec![stored(&checkpoint.embedding()?, target)?],
        Job::Head => vec![stored(&head(checkpoint)?, target)?],
        Job::Projection { layer, name } => packed(&checkpoint.projection(*layer, name)?)?,
    };
    Ok(specs.into_iter().zip(bytes).collect())
}

fn stored(weight: &Weight, target: Target) -> Result<FileSlice> {
    let (format, _) = float(weight, target)?;
    Ok(table(weight, Some(format))?.1)
}

/// Codes, and the scale that multiplies them.
fn packed(weight: &Weight) -> Result<Vec<FileSlice>> {
    let Some(matrix) = weight.ternary()? else {
        let expected = "one ternary scale for the matrix; transformers has no packed form for others";
        return Err(Error::TensorType {
            name: format!("{}.weight", weight.name),
            expected,
            got: weight.format.name().into(),
        });
    };
    let codes = Format::HfPacked.pack(&matrix).map_err(|e| weight.error(e))?;
    let Ternary { scales: Scales::Tensor(scale), .. } = with_scale(matrix) else {
        unreachable!("packing refuses other scales");
    };
    Ok(vec![codes.into(), scale.to_le_bytes().to_vec().into()])
}

/// The `config.json` of the source with another quantization, or a new one.
fn config(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<Value> {
    let mut config = match checkpoint.source() {
        Source::Folder(folder) => folder.config().clone(),
        Source::Gguf(_) => describe(checkpoint.config(), tokenizer.bos(), tokenizer.eos())?,
    };
    // Remote code belongs to the weights as they were; what 1bitLLM's computes, transformers has under its own name.
    config.remove("auto_map");
    if checkpoint.config().family == Family::BitNet {
        config.insert("architectures".into(), json!(["BitNetForCausalLM"]));
        config.insert("model_type".into(), json!(Family::BitNet.name()));
        config.insert("hidden_act".into(), json!(activation_name(checkpoint.config().activation)));
    }
    config.insert("tie_word_embeddings".into(), json!(checkpoint.config().tie_word_embeddings));
    let quantization =
        json!({ "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline" });
    config.insert("quantization_config".into(), quantization);
    Ok(Value::Object(config))
}
