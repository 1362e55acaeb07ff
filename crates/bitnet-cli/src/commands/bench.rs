//! Speed, as llama-bench measures it.

mod first;
mod pass;
mod report;

pub(crate) use pass::{Pass, Weights};
pub(crate) use report::median;

use crate::{
    args::{Cache, FileArgs, Head},
    memory_report::MemoryArgs,
    session::{self, resolve},
    tuned,
    ui::Ui,
    values,
};
use anyhow::{Context, Result};
use bitnet_core::{
    Device, Tensor,
    cpu::{ceilings, kernels::Kernels, threads::Threads},
    device::ThreadCounts,
    ops::cache::CacheType,
};
use bitnet_inference::{MAX_LOOKUP, head, local::LocalModel, triples};
use bitnet_model::{
    batch::{BLOCK_LEN, Logits},
    kv::KvCache,
    synthetic,
};
use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use first::First;
use std::{path::PathBuf, process::ExitCode, time::Instant};
use tracing::info;

/// How the table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A Markdown table.
    Md,
    /// A receipt: machine, build, command, raw samples.
    Json,
    Csv,
}

/// Measure prefill and decode speed, and the time to the first token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet bench -m model.gguf -p 512 -n 128 -t 2\n  \
    bitnet bench -m model.gguf -p 0 --lookup 0,1,2,4,8\n  \
    bitnet bench -m model.gguf -p 0 -n 0 --ttft 16\n  \
    bitnet bench --synthetic 2b-4t -p 0 --head q6_k --sequences 1,8\n  \
    bitnet bench --synthetic 2b-4t -o json > receipt.json\n\nSynthetic shapes: 2b-4t, large, 3b, falcon3-7b, llama3-8b, tiny. \
    The weights are random, the sizes are those of the published model, so that anyone can measure without a download.\n\n\
    The ceiling of decoding is the read bandwidth, that of prefill the int8 peak, both measured before and after every repetition.")]
pub(crate) struct BenchArgs {
    /// A GGUF file or a Hugging Face folder.
    #[arg(short, long, value_name = "PATH", env = "BITNET_MODEL", required_unless_present = "synthetic")]
    model: Option<PathBuf>,
    /// A random model of a published shape, built in memory.
    #[arg(long, value_name = "SHAPE", env = "BITNET_SYNTHETIC", conflicts_with = "model",
        value_parser = PossibleValuesParser::new(synthetic::SHAPES.iter().map(|shape| shape.name)))]
    synthetic: Option<String>,
    /// Prompt lengths to prefill, separated by commas.
    #[arg(
        short,
        long,
        alias = "n-prompt",
        value_delimiter = ',',
        default_value = "512",
        env = "BITNET_BENCH_PROMPT",
        value_parser = values::from(0)
    )]
    prompt: Vec<usize>,
    /// Numbers of tokens to decode, separated by commas.
    #[arg(short = 'n', long, aliases = ["n-gen", "n-predict"], value_delimiter = ',', default_value = "128", env = "BITNET_BENCH_GEN", value_parser = values::from(0))]
    predict: Vec<usize>,
    /// Positions that are in the cache before each measurement, separated by commas.
    #[arg(
        short,
        long,
        alias = "n-depth",
        value_delimiter = ',',
        default_value = "0",
        env = "BITNET_BENCH_DEPTH",
        value_parser = values::from(0)
    )]
    depth: Vec<usize>,
    /// Guessed tokens that each decoding step computes ahead, separated by commas: the speed if all of them are right.
    #[arg(
        long,
        aliases = ["draft", "draft-max"],
        value_delimiter = ',',
        default_value = "0",
        env = "BITNET_BENCH_LOOKUP",
        value_parser = values::up_to(MAX_LOOKUP)
    )]
    lookup: Vec<usize>,
    /// Sequences that decode side by side, separated by commas; tokens of all of them are counted.
    #[arg(
        long,
        aliases = ["parallel", "npl"],
        value_delimiter = ',',
        default_value = "1",
        value_name = "N",
        env = "BITNET_BENCH_SEQUENCES",
        value_parser = values::from(1)
    )]
    sequences: Vec<usize>,
    /// Prompt lengths to measure the time to the first token with, separated by commas: from opening the file, or of a synthetic
    /// model from the prompt, to the token.
    #[arg(long, value_delimiter = ',', value_name = "N", env = "BITNET_BENCH_TTFT", value_parser = values::from(1))]
    ttft: Vec<usize>,
    /// Repetitions.
    #[arg(short, long, alias = "repetitions", default_value_t = 5, env = "BITNET_BENCH_REPEAT", value_parser = values::from(1))]
    repeat: usize,
    /// Most tokens of a prompt that are computed at once.
    #[arg(short, long, default_value_t = 512, value_name = "N", env = "BITNET_BATCH_SIZE", value_parser = values::from(1))]
    batch_size: usize,
    /// How keys and values are stored.
    #[arg(long, aliases = ["cache-type-k", "cache-type-v"], default_value = "f16", env = "BITNET_CACHE_TYPE")]
    cache_type: Cache,
    /// How the head, which scores the tokens, is held; decoding has the 40 likeliest to choose from.
    #[arg(long, default_value = "auto", env = "BITNET_HEAD")]
    head: Head,
    /// Holds a copy of the ternary weights for steps of one token, 5/3 bits a weight: the same text, sooner where memory is the limit and the
    /// processor has AVX-512.
    #[arg(long, env = "BITNET_DECODE_COPY")]
    decode_copy: bool,
    /// How to write the results.
    #[arg(short, long, default_value = "md", env = "BITNET_BENCH_OUTPUT")]
    output: Output,
    /// Device: auto, cpu, or a tier such as cpu/avx2 (see `bitnet devices`).
    #[arg(long, default_value = "auto", env = "BITNET_DEVICE", value_parser = values::device)]
    device: String,
    /// Numbers of threads, separated by commas [default: what `bitnet tune` found, else one for each physical core].
    #[arg(short, long, value_name = "N", value_delimiter = ',', env = "BITNET_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// Numbers of threads for steps of more than one token, the first with the first of --threads and so on, the last with all
    /// further ones [default: as --threads].
    #[arg(long, value_name = "N", value_delimiter = ',', env = "BITNET_THREADS_BATCH", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads_batch: Vec<u16>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// A measurement to make.
#[derive(Clone, Copy)]
struct Test {
    tokens: usize,
    depth: usize,
    prefill: bool,
    /// Tokens that a decoding step computes beside the first.
    lookup: usize,
    /// Sequences that decode side by side.
    sequences: usize,
}

impl Test {
    fn name(self) -> String {
        let depth = if self.depth > 0 { format!(" @ d{}", self.depth) } else { String::new() };
        let lookup = if self.lookup > 0 { format!(" +{}", self.lookup) } else { String::new() };
        let sequences = if self.sequences > 1 { format!(" x{}", self.sequences) } else { String::new() };
        format!("{}{}{sequences}{lookup}{depth}", if self.prefill { "pp" } else { "tg" }, self.tokens)
    }

    /// Tokens of a step; those of the longest are enough to tell one from more.
    fn step(self) -> usize {
        if self.prefill { self.tokens } else { self.sequences * (1 + self.lookup) }
    }

    /// Blocks of the cache that each sequence has.
    fn blocks(self) -> usize {
        self.depth.saturating_add(self.tokens).div_ceil(BLOCK_LEN)
    }
}

impl BenchArgs {
    fn tests(&self) -> Vec<Test> {
        let lengths = |depth: usize| {
            let prefill = self.prompt.iter().map(move |&tokens| Test {
                tokens,
                depth,
                prefill: true,
                lookup: 0,
                sequences: 1,
            });
            let decode = self.sequences.iter().flat_map(move |&sequences| {
                self.lookup.iter().flat_map(move |&lookup| {
                    self.predict.iter().map(move |&tokens| Test {
                        tokens,
                        depth,
                        prefill: false,
                        lookup,
                        sequences,
                    })
                })
            });
            prefill.chain(decode)
        };
        self.depth.iter().flat_map(|&depth| lengths(depth)).filter(|test| test.tokens > 0).collect()
    }

    fn weights(&self) -> Weights<'_> {
        Weights { model: self.model.as_deref(), synthetic: self.synthetic.as_deref(), files: &self.files }
    }

    /// Numbers of threads, as pairs.
    fn teams(&self, ui: &Ui) -> Vec<ThreadCounts> {
        let nth = |counts: &[u16], i: usize| counts.get(i).or(counts.last()).copied();
        let pairs = self.threads.len().max(self.threads_batch.len()).max(1);
        let pair = |i| tuned::counts(nth(&self.threads, i), nth(&self.threads_batch, i), ui);
        (0..pairs).map(pair).collect()
    }
}

/// One line of the table.
struct Row {
    test: String,
    threads: usize,
    /// Tokens a second of each repetition.
    samples: Vec<f64>,
    /// Read bandwidth (decoding) or int8 peak (prefill) of each repetition, in bytes or multiply-adds a second: the mean of right before and
    /// right after it, because on a shared machine it changes from second to second.
    limits: Vec<f64>,
    /// Bytes that a token reads, or multiply-adds that it needs.
    work: f64,
    ceiling: Ceiling,
}

impl Row {
    /// Share of the ceiling in each repetition.
    fn shares(&self) -> Vec<f64> {
        self.samples.iter().zip(&self.limits).map(|(rate, limit)| rate * self.work / limit).collect()
    }
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
    data: Tensor,
    kernels: &'static Kernels,
}

impl Machine {
    /// Bytes that are read: more than the caches hold.
    const SAMPLE: usize = 256 << 20;

    fn new(device: &Device) -> Result<Self> {
        let kernels =
            device.name().strip_prefix("cpu/").and_then(Kernels::by_name).unwrap_or(Kernels::best());
        Ok(Self { threads: Threads::new(device.threads()), data: ceilings::sample(Self::SAMPLE)?, kernels })
    }

    /// Bytes, or multiply-adds, a second of this many threads.
    fn measure(&self, ceiling: Ceiling, threads: usize) -> Result<f64> {
        let threads = self.threads.first(threads);
        Ok(match ceiling {
            Ceiling::Bandwidth => ceilings::read_bandwidth(&threads, self.data.as_slice()?, 3),
            Ceiling::Int8 => ceilings::integer_peak(&threads, self.kernels, 3),
        })
    }
}

pub(crate) fn run(args: &BenchArgs, ui: &Ui) -> Result<ExitCode> {
    let tests = args.tests();
    let blocks = tests.iter().map(|test| test.blocks().saturating_mul(test.sequences)).max().unwrap_or(0);
    let longest = args.ttft.iter().max().map_or(0, |tokens| (tokens + 1).div_ceil(BLOCK_LEN));
    let context = blocks.max(longest).max(1).saturating_mul(BLOCK_LEN);
    let (mut rows, mut first, mut last) = (Vec::new(), Vec::new(), None);
    for threads in args.teams(ui) {
        // Two models at once may not fit.
        drop(last.take());
        if let Some(path) = &args.model {
            let path = resolve(path)?;
            for &tokens in &args.ttft {
                first.push(First::of_file(args, &path, threads, tokens)?);
            }
        }
        let device = Device::open(&args.device, threads)?;
        args.memory.begin(device.pool());
        let begin = Instant::now();
        let (name, mut decoder) = args.weights().decoder(&device, ui)?;
        if let Some(note) = head::quantize(&mut decoder, args.head.into())? {
            ui.note(&note);
        }
        if args.decode_copy {
            ui.note(&triples::copy(&mut decoder, &|_, _| {})?);
        }
        let load = begin.elapsed().as_secs_f64();
        info!("{name}: {} with {}, opened in {load:.3} s", device.name(), session::threads(&device));
        let machine = Machine::new(&device)?;
        let mut model = LocalModel::new(decoder, context, CacheType::from(args.cache_type))?;
        if args.model.is_none() {
            for &tokens in &args.ttft {
                let (measured, back) = First::of_model(args, model, tokens)?;
                first.push(measured);
                model = back;
            }
        }
        if args.head != Head::File {
            model.screen_later().iter().for_each(|note| ui.note(note));
            model.finish_screen();
        }
        for test in &tests {
            rows.push(measure(&mut model, args, &machine, *test, ui)?);
        }
        last = Some(report::Measured { name, load, model, machine });
    }
    let measured = last.context("expected at least one number of threads (-t)")?;
    args.memory.write(measured.model.device().pool(), ui)?;
    measured.report(args.output, &rows, &first)?;
    Ok(ExitCode::SUCCESS)
}

fn measure(model: &mut LocalModel, args: &BenchArgs, machine: &Machine, test: Test, ui: &Ui) -> Result<Row> {
    let Test { tokens, depth, prefill, lookup, sequences } = test;
    let (ceiling, work, chunk, logits) = if prefill {
        (Ceiling::Int8, ternary_weights(model), args.batch_size, Logits::Last)
    } else {
        let step = 1 + lookup;
        let weights = model.decoder().decode_bytes(step * sequences) as f64 / (step * sequences) as f64;
        let position = KvCache::block_bytes(model.config(), args.cache_type.into()) as f64 / BLOCK_LEN as f64;
        let seen = depth as f64 + tokens as f64 / 2.0;
        (Ceiling::Bandwidth, weights + seen * position, step, Logits::All)
    };
    let threads = model.device().threads_for(test.step());
    let bar = ui.progress("measuring", args.repeat as u64 + 1, false);
    let pass = Pass { start: depth, tokens, chunk, sequences, blocks: test.blocks(), logits };
    Pass { start: 0, tokens: depth, chunk: args.batch_size, logits: Logits::Last, ..pass }.run(model)?;
    // Warms caches, pages and threads up.
    Pass { tokens: if prefill { tokens } else { tokens.min(8) }, ..pass }.run(model)?;
    bar.inc(1);
    let (mut samples, mut limits) = (Vec::new(), Vec::new());
    let mut before = machine.measure(ceiling, threads)?;
    for _ in 0..args.repeat {
        let begin = Instant::now();
        pass.run(model)?;
        let rate = (tokens * sequences) as f64 / begin.elapsed().as_secs_f64();
        samples.push(rate);
        let after = machine.measure(ceiling, threads)?;
        limits.push((before + after) / 2.0);
        before = after;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Row { test: test.name(), threads, samples, limits, work, ceiling })
}

/// Weights of the projections: multiply-adds that every token needs.
fn ternary_weights(model: &LocalModel) -> f64 {
    let config = model.config();
    let tables = if config.tie_word_embeddings { 1 } else { 2 };
    config.parameters() as f64 - (tables * config.vocab_size * config.hidden_size) as f64
}
