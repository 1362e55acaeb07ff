//! Speed, as llama-bench measures it.

use crate::{
    args::{self, Cache, DeviceArgs, FileArgs},
    commands::doctor,
    session::resolve,
    ui::Ui,
};
use anyhow::{Context, Result, anyhow, ensure};
use bitnet_core::{
    Device,
    cpu::{ceilings, kernels::Kernels, threads::Threads, topology::Topology},
    ops::cache::CacheType,
};
use bitnet_inference::{
    LanguageModel,
    local::{self, LocalModel},
};
use bitnet_model::{
    Checkpoint, Decoder,
    batch::{BLOCK_LEN, Batch, Logits},
    checkpoint::Options,
    synthetic,
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode, time::Instant};

/// How the table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A Markdown table.
    Md,
    /// A receipt: machine, build, command, raw samples.
    Json,
    Csv,
}

/// Measure prefill and decode speed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet bench -m model.gguf -p 512 -n 128 -t 2\n  \
    bitnet bench --synthetic 2b-4t -o json > receipt.json\n\nSynthetic shapes: 2b-4t, large, 3b, falcon3-7b, llama3-8b, tiny. \
    The weights are random, the sizes are those of the published model, so that anyone can measure without a download.\n\n\
    The ceiling of decoding is the read bandwidth, that of prefill the int8 peak, both measured beside every repetition.")]
pub(crate) struct BenchArgs {
    /// A GGUF file or a Hugging Face folder.
    #[arg(short, long, value_name = "PATH", env = "BITNET_MODEL", required_unless_present = "synthetic")]
    model: Option<PathBuf>,
    /// A random model of a published shape, built in memory.
    #[arg(long, value_name = "SHAPE", env = "BITNET_SYNTHETIC", conflicts_with = "model")]
    synthetic: Option<String>,
    /// Prompt lengths to prefill.
    #[arg(short, long, value_delimiter = ',', default_value = "512", env = "BITNET_BENCH_PROMPT")]
    prompt: Vec<usize>,
    /// Numbers of tokens to decode.
    #[arg(short = 'n', long, value_delimiter = ',', default_value = "128", env = "BITNET_BENCH_GEN")]
    predict: Vec<usize>,
    /// Positions that are in the cache before each measurement.
    #[arg(short, long, default_value_t = 0, env = "BITNET_BENCH_DEPTH")]
    depth: usize,
    /// Repetitions.
    #[arg(short, long, default_value_t = 5, env = "BITNET_BENCH_REPEAT")]
    repeat: usize,
    /// How keys and values are stored.
    #[arg(long, default_value = "f16", env = "BITNET_CACHE_TYPE")]
    cache_type: Cache,
    /// How to write the results.
    #[arg(short, long, default_value = "md", env = "BITNET_BENCH_OUTPUT")]
    output: Output,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    files: FileArgs,
}

/// One line of the table.
struct Row {
    test: String,
    /// Tokens a second of each repetition.
    samples: Vec<f64>,
    /// Share of the read bandwidth (decoding) or of the int8 peak (prefill) in each repetition, the ceiling measured right
    /// before it: on a shared machine it changes from second to second.
    shares: Vec<f64>,
    ceiling: Ceiling,
}

/// What bounds a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ceiling {
    Bandwidth,
    Int8,
}

/// Measures ceilings again and again, with one team of threads and one set of bytes.
struct Machine {
    threads: Threads,
    data: Vec<u64>,
    kernels: &'static Kernels,
}

impl Machine {
    /// Bytes that are read: more than the caches hold.
    const SAMPLE: usize = 256 << 20;

    fn new(device: &Device) -> Self {
        let kernels =
            device.name().strip_prefix("cpu/").and_then(Kernels::by_name).unwrap_or(Kernels::best());
        Self {
            threads: Threads::new(device.threads()),
            data: vec![1; Self::SAMPLE / size_of::<u64>()],
            kernels,
        }
    }

    /// Bytes, or multiply-adds, a second.
    fn measure(&self, ceiling: Ceiling) -> f64 {
        match ceiling {
            Ceiling::Bandwidth => ceilings::read_bandwidth(&self.threads, &self.data, 3),
            Ceiling::Int8 => ceilings::integer_peak(&self.threads, self.kernels, 3),
        }
    }
}

pub(crate) fn run(args: &BenchArgs, ui: &Ui) -> Result<ExitCode> {
    ensure!(args.repeat > 0, "-r 0: expected at least one repetition");
    let begin = Instant::now();
    let (name, decoder) = decoder(args, ui)?;
    let load = begin.elapsed().as_secs_f64();
    let bytes = decoder.weight_bytes();
    let context = args.depth + args.prompt.iter().chain(&args.predict).max().copied().unwrap_or(1) + 1;
    let mut model = LocalModel::new(decoder, context, CacheType::from(args.cache_type))?;
    let tests = args.prompt.iter().map(|&n| (n, true)).chain(args.predict.iter().map(|&n| (n, false)));
    let machine = Machine::new(model.device());
    let mut rows = Vec::new();
    for (tokens, prefill) in tests.filter(|(tokens, _)| *tokens > 0) {
        rows.push(measure(&mut model, args, &machine, tokens, prefill, ui)?);
    }
    report(args, &name, &model, bytes, load, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn decoder(args: &BenchArgs, ui: &Ui) -> Result<(String, Decoder)> {
    let options = args::options(&args.device, &args.files, 0, args.cache_type);
    let device = Device::open(&options.device, options.threads)?;
    if let Some(name) = &args.synthetic {
        let known = || synthetic::SHAPES.map(|shape| shape.name).join(", ");
        let shape = synthetic::Shape::named(name)
            .with_context(|| format!("--synthetic {name}: expected one of {}", known()))?;
        return Ok((format!("{name} (synthetic)"), synthetic::decoder(&shape.config(), &device, 1)?));
    }
    let path = resolve(args.model.as_deref().context("expected a model (-m) or a shape (--synthetic)")?)?;
    let opened = Options { load_mode: options.load_mode, i2s_layout: options.i2s_layout };
    let checkpoint = Checkpoint::open(&path, opened)?;
    let bar = ui.progress("loading", checkpoint.weight_bytes(), true);
    let decoder = local::decoder(&checkpoint, &device, &|done, _| bar.set_position(done));
    bar.finish_and_clear();
    Ok((path.display().to_string(), decoder?))
}

/// Runs `tokens` tokens from position `start`: at once, or one by one.
fn pass(model: &mut LocalModel, start: usize, tokens: usize, at_once: bool) -> Result<()> {
    let vocab = model.vocab_size() as u32;
    let blocks: Vec<u32> = (0..(start + tokens).div_ceil(BLOCK_LEN) as u32).collect();
    let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 7919 + 13) % vocab).collect();
    let mut logits = Vec::new();
    let chunk = if at_once { 512 } else { 1 };
    for (i, ids) in ids.chunks(chunk).enumerate() {
        let mut batch = Batch::default();
        batch.push(ids, start + i * chunk, blocks.clone(), Logits::Last);
        logits.clear();
        model.forward(&batch, &mut logits).map_err(|e| anyhow!(e))?;
    }
    Ok(())
}

fn measure(
    model: &mut LocalModel,
    args: &BenchArgs,
    machine: &Machine,
    tokens: usize,
    prefill: bool,
    ui: &Ui,
) -> Result<Row> {
    let (ceiling, work) = if prefill {
        (Ceiling::Int8, ternary_weights(model))
    } else {
        (Ceiling::Bandwidth, read_bytes(model))
    };
    let bar = ui.progress("measuring", args.repeat as u64 + 1, false);
    pass(model, 0, args.depth, true)?;
    // Warms caches, pages and threads up.
    pass(model, args.depth, if prefill { tokens } else { tokens.min(8) }, prefill)?;
    bar.inc(1);
    let (mut samples, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        let limit = machine.measure(ceiling);
        let begin = Instant::now();
        pass(model, args.depth, tokens, prefill)?;
        let rate = tokens as f64 / begin.elapsed().as_secs_f64();
        samples.push(rate);
        shares.push(rate * work / limit);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let depth = if args.depth > 0 { format!(" @ d{}", args.depth) } else { String::new() };
    let test = format!("{}{tokens}{depth}", if prefill { "pp" } else { "tg" });
    Ok(Row { test, samples, shares, ceiling })
}

/// Weights of the projections: multiply-adds that every token needs.
fn ternary_weights(model: &LocalModel) -> f64 {
    let config = model.config();
    let tables = if config.tie_word_embeddings { 1 } else { 2 };
    config.parameters() as f64 - (tables * config.vocab_size * config.hidden_size) as f64
}

/// Bytes of weights that one token reads: all of them, but of an embedding that is not the head a single row.
fn read_bytes(model: &LocalModel) -> f64 {
    let decoder = model.decoder();
    let unread = if decoder.lm_head.is_some() { decoder.embed_tokens.bytes() } else { 0 };
    (decoder.weight_bytes() - unread) as f64
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

fn deviation(samples: &[f64]) -> f64 {
    let mean = mean(samples);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    (squares / (samples.len().max(2) - 1) as f64).sqrt()
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn report(
    args: &BenchArgs,
    name: &str,
    model: &LocalModel,
    bytes: usize,
    load: f64,
    rows: &[Row],
) -> Result<()> {
    let device = model.device();
    let parameters = model.config().parameters() as f64;
    match args.output {
        Output::Md => {
            outln!("| model | size | params | backend | threads | test | t/s |")?;
            outln!("|---|---:|---:|---|---:|---:|---:|---:|")?;
            for row in rows {
                outln!(
                    "| {name} | {:.2} MiB | {:.2} M | {} | {} | {} | {:.2} ± {:.2} | {:.0} % |",
                    bytes as f64 / f64::from(1 << 20),
                    parameters / 1e6,
                    device.name(),
                    device.threads(),
                    row.test,
                    mean(&row.samples),
                    deviation(&row.samples),
                    100.0 * median(&row.shares),
                )?;
            }
        }
        Output::Csv => {
            outln!("model,size_bytes,parameters,backend,threads,test,mean_tps,stddev_tps")?;
            for row in rows {
                let (mean, deviation) = (mean(&row.samples), deviation(&row.samples));
                outln!(
                    "{name:?},{bytes},{parameters},{},{},{},{mean},{deviation}",
                    device.name(),
                    device.threads(),
                    row.test
                )?;
            }
        }
        Output::Json => {
            outln!("{}", serde_json::to_string_pretty(&receipt(name, model, bytes, load, rows))?)?
        }
    }
    Ok(())
}

fn receipt(name: &str, model: &LocalModel, bytes: usize, load: f64, rows: &[Row]) -> Value {
    let device = model.device();
    let bandwidth = doctor::bandwidth(device.threads());
    let tests: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "test": row.test,
                "samples_tps": row.samples,
                "mean_tps": mean(&row.samples),
                "stddev_tps": deviation(&row.samples),
                "median_tps": median(&row.samples),
                "ceiling": match row.ceiling { Ceiling::Bandwidth => "read bandwidth", Ceiling::Int8 => "int8 peak" },
                "samples_share": row.shares,
                "median_share": median(&row.shares),
            })
        })
        .collect();
    json!({
        "model": name,
        "weight_bytes": bytes,
        "parameters": model.config().parameters(),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("BITNET_COMMIT"),
        "command": std::env::args().collect::<Vec<_>>(),
        "cpu": Topology::detect().model,
        "backend": device.name(),
        "threads": device.threads(),
        "fallbacks": device.fallbacks(),
        "read_bandwidth_gb_per_s": bandwidth,
        "load_seconds": load,
        "pool": device.pool().stats().to_string(),
        "tests": tests,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!((deviation(&[1.0, 3.0]) - 2f64.sqrt()).abs() < 1e-12);
    }
}
