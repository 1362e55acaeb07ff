//! From files to text: opening and loading, tokens and templates, prefill and decode, sampling.

use bitnet_benchmarks::{criterion, device, file, floats, tensor};
use bitnet_core::ops::cache::CacheType;
use bitnet_inference::local::{self, LoadOptions, Loaded, LocalModel};
use bitnet_inference::{
    Engine, EngineOptions, LanguageModel, Request, Rng, Sampler, SamplingParams, StopRules, generate,
    generate::TextStream, perplexity,
};
use bitnet_model::batch::{BLOCK_LEN, Batch, Logits};
use bitnet_model::checkpoint::{Checkpoint, Options};
use bitnet_model::convert::{self, Target};
use bitnet_model::layers::{LinearInput, Rope};
use bitnet_model::template::Message;
use bitnet_model::{Config, Tokenizer, synthetic};
use bitnet_quant::Format;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::ops::ControlFlow;
use tempfile::TempDir;

/// A model of two layers, large enough that the ops and not the calls take the time.
fn config() -> Config {
    synthetic::Shape::named("tiny").expect("the shape exists").config()
}

fn model(context: usize, storage: CacheType) -> LocalModel {
    let decoder = synthetic::decoder(&config(), &device(), 1).expect("memory");
    LocalModel::new(decoder, context, storage).expect("memory")
}

/// The model that is part of the program.
fn books() -> Loaded {
    let path = file("crates/bitnet-cli/assets/books-22m.gguf");
    local::open(&path, &LoadOptions::default(), &|_, _| {}).expect("the file is part of the repository")
}

fn blocks(tokens: usize) -> Vec<u32> {
    (0..tokens.div_ceil(BLOCK_LEN) as u32).collect()
}

fn ids(len: u32) -> Vec<u32> {
    (0..len).map(|i| i * 31 % 512).collect()
}

/// Runs a batch, with its logits where they were.
fn forward(model: &mut LocalModel, batch: &Batch, logits: &mut Vec<f32>) {
    logits.clear();
    model.forward(batch, logits).expect("the batch is valid");
}

fn prefill(c: &mut Criterion) {
    let (mut model, mut logits) = (model(512, CacheType::F16), Vec::new());
    let mut group = c.benchmark_group("inference/prefill");
    for tokens in [16, 64, 256] {
        let mut batch = Batch::default();
        batch.push(&ids(tokens), 0, blocks(512), Logits::Last);
        group.throughput(Throughput::Elements(u64::from(tokens)));
        group.bench_function(BenchmarkId::from_parameter(tokens), |b| {
            b.iter(|| forward(&mut model, &batch, &mut logits));
        });
    }
}

fn decode(c: &mut Criterion) {
    let mut logits = Vec::new();
    let mut group = c.benchmark_group("inference/decode at depth");
    group.throughput(Throughput::Elements(1));
    for depth in [0, 128, 1024] {
        let mut model = model(2048, CacheType::F16);
        let mut past = Batch::default();
        past.push(&ids(depth), 0, blocks(2048), Logits::None);
        forward(&mut model, &past, &mut logits);
        let mut batch = Batch::default();
        batch.push(&[7], depth as usize, blocks(2048), Logits::Last);
        group.bench_function(BenchmarkId::from_parameter(depth), |b| {
            b.iter(|| forward(&mut model, &batch, &mut logits));
        });
    }
}

fn decode_caches(c: &mut Criterion) {
    let mut logits = Vec::new();
    let mut group = c.benchmark_group("inference/decode from cache");
    group.throughput(Throughput::Elements(1));
    for (name, storage) in [("f32", CacheType::F32), ("f16", CacheType::F16), ("q8_0", CacheType::Q8_0)] {
        let mut model = model(512, storage);
        let (mut past, mut batch) = (Batch::default(), Batch::default());
        past.push(&ids(480), 0, blocks(512), Logits::None);
        batch.push(&[7], 480, blocks(512), Logits::Last);
        forward(&mut model, &past, &mut logits);
        group.bench_function(name, |b| b.iter(|| forward(&mut model, &batch, &mut logits)));
    }
}

fn decode_batch(c: &mut Criterion) {
    let (mut model, mut logits) = (model(64 * 16, CacheType::F16), Vec::new());
    let mut group = c.benchmark_group("inference/decode sequences");
    for sequences in [1u32, 4, 16] {
        let mut batch = Batch::default();
        (0..sequences).for_each(|i| batch.push(&[i], 0, vec![2 * i, 2 * i + 1], Logits::Last));
        group.throughput(Throughput::Elements(u64::from(sequences)));
        group.bench_function(BenchmarkId::from_parameter(sequences), |b| {
            b.iter(|| forward(&mut model, &batch, &mut logits));
        });
    }
}

/// The logits of every position, as perplexity needs them.
fn heads(c: &mut Criterion) {
    let (mut model, mut logits) = (model(512, CacheType::F16), Vec::new());
    let mut group = c.benchmark_group("inference/logits of 64 tokens");
    for (name, wanted) in [("none", Logits::None), ("last", Logits::Last), ("all", Logits::All)] {
        let mut batch = Batch::default();
        batch.push(&ids(64), 0, blocks(512), wanted);
        group.bench_function(name, |b| b.iter(|| forward(&mut model, &batch, &mut logits)));
    }
}

fn layers(c: &mut Criterion) {
    let config = config();
    let device = device();
    let decoder = synthetic::decoder(&config, &device, 1).expect("memory");
    let layer = &decoder.layers[0];
    let mut group = c.benchmark_group("inference/layer");
    for tokens in [1, 64] {
        let x = tensor(&device, [tokens, config.hidden_size]);
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("norm", tokens), |b| {
            b.iter(|| layer.input_layernorm.forward(&x).expect("memory"))
        });
        group.bench_function(BenchmarkId::new("linear", tokens), |b| {
            b.iter(|| layer.mlp.gate.forward(&LinearInput::new(&x)).expect("memory"));
        });
        group.bench_function(BenchmarkId::new("mlp", tokens), |b| {
            b.iter(|| layer.mlp.forward(&x).expect("memory"))
        });
    }
}

fn rotations(c: &mut Criterion) {
    let (rope, device) = (Rope::new(&config()), device());
    let mut group = c.benchmark_group("inference/rotation");
    for tokens in [1, 256] {
        let positions: Vec<usize> = (0..tokens).collect();
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::from_parameter(tokens), |b| {
            b.iter(|| rope.rotation(&device, &positions).expect("memory"))
        });
    }
}

fn request(prompt: u32, max_tokens: usize) -> Request {
    Request { tokens: ids(prompt), max_tokens: Some(max_tokens), ..Request::default() }
}

fn engine(c: &mut Criterion) {
    const TOKENS: usize = 8;
    let mut group = c.benchmark_group("inference/engine");
    for sequences in [1, 8] {
        let options = EngineOptions { prefix_cache: false, ..EngineOptions::default() };
        let mut engine = Engine::new(model(1024, CacheType::F16), options).expect("the options are valid");
        group.throughput(Throughput::Elements((sequences * TOKENS) as u64));
        group.bench_function(BenchmarkId::new("run", sequences), |b| {
            b.iter(|| {
                (0..sequences).for_each(|_| _ = engine.submit(request(16, TOKENS)).expect("it fits"));
                while !engine.is_idle() {
                    engine.step().expect("the model runs");
                }
            });
        });
    }
}

/// A prompt whose blocks are kept, and one whose blocks are not.
fn prefixes(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference/prefix cache");
    for (name, prefix_cache) in [("without", false), ("with", true)] {
        let options = EngineOptions { prefix_cache, ..EngineOptions::default() };
        let mut engine = Engine::new(model(1024, CacheType::F16), options).expect("the options are valid");
        group.bench_function(name, |b| {
            b.iter(|| {
                generate(&mut engine, request(257, 1), |_| Vec::new(), |_| ControlFlow::Continue(()))
                    .expect("it fits")
            });
        });
    }
}

fn embedded(c: &mut Criterion) {
    let Loaded { model, tokenizer, .. } = books();
    let mut engine = Engine::new(model, EngineOptions::default()).expect("the options are valid");
    let prompt = tokenizer.encode("It was a dark evening in November", true).expect("text");
    let mut group = c.benchmark_group("inference/books-22m");
    for tokens in [1usize, 8] {
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("generate", tokens), |b| {
            let bytes = |id| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
            b.iter(|| {
                let request =
                    Request { tokens: prompt.clone(), max_tokens: Some(tokens), ..Request::default() };
                generate(&mut engine, request, bytes, |_| ControlFlow::Continue(())).expect("it fits")
            });
        });
    }
}

fn scoring(c: &mut Criterion) {
    // The header of an .npy file of version 1 is 128 bytes long here; ids are little-endian.
    let bytes = std::fs::read(file("testdata/books-22m/valid_ids.npy")).expect("part of the repository");
    let ids: Vec<u32> = bytes[128..].as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
    let mut model = books().model;
    let mut group = c.benchmark_group("inference/perplexity");
    group.throughput(Throughput::Elements(64));
    group.bench_function("books-22m", |b| {
        b.iter(|| perplexity::window(&mut model, &ids[..65]).expect("tokens of the model"))
    });
}

fn sampling(c: &mut Criterion) {
    let logits = floats(128_256);
    let (mut sampler, mut rng) = (Sampler::default(), Rng::new(1));
    let default = SamplingParams::default;
    let cases = [
        ("greedy", SamplingParams::greedy()),
        ("default", default()),
        ("penalties", SamplingParams { repeat_penalty: 1.1, presence_penalty: 0.1, ..default() }),
        ("top_p of all", SamplingParams { top_k: 0, ..default() }),
    ];
    let mut group = c.benchmark_group("inference/sample");
    for (name, params) in cases {
        group.bench_function(name, |b| {
            b.iter(|| sampler.pick(&logits, &[1, 2, 3], &params, &mut rng).expect("finite logits"))
        });
    }
}

fn logprobs(c: &mut Criterion) {
    let (logits, mut sampler) = (floats(128_256), Sampler::default());
    let mut group = c.benchmark_group("inference/log-probabilities");
    for best in [0, 20] {
        group.bench_function(BenchmarkId::from_parameter(best), |b| {
            b.iter(|| sampler.score(&logits, 7, best).expect("finite logits"))
        });
    }
}

const STYLES: [&str; 3] = ["gpt2", "llama2", "llama3"];
const TEXT: &str = include_str!("../../../testdata/README.md");

fn tokenizer(style: &str) -> Tokenizer {
    Tokenizer::from_folder(&file("testdata/tokenizers").join(style)).expect("part of the repository")
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference/encode");
    group.throughput(Throughput::Bytes(TEXT.len() as u64));
    for style in STYLES {
        let tokenizer = tokenizer(style);
        group.bench_function(style, |b| b.iter(|| tokenizer.encode(TEXT, true).expect("text")));
    }
}

fn decode_text(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference/decode text");
    group.throughput(Throughput::Bytes(TEXT.len() as u64));
    for style in STYLES {
        let tokenizer = tokenizer(style);
        let ids = tokenizer.encode(TEXT, true).expect("text");
        group.bench_function(style, |b| b.iter(|| tokenizer.decode(&ids, true)));
    }
}

fn open_tokenizer(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference/open tokenizer");
    for style in STYLES {
        group.bench_function(style, |b| b.iter(|| tokenizer(style)));
    }
}

fn templates(c: &mut Criterion) {
    let tokenizer = Tokenizer::from_folder(&file("testdata/bitnet-packed")).expect("part of the repository");
    let mut group = c.benchmark_group("inference/chat template");
    for turns in [1, 16] {
        let messages: Vec<Message> = (0..turns)
            .flat_map(|_| [Message::new("user", "How far is the moon?"), Message::new("assistant", "Far.")])
            .collect();
        group.bench_function(BenchmarkId::from_parameter(turns), |b| {
            b.iter(|| tokenizer.encode_chat(&messages[..2 * turns - 1], true).expect("it has a template"));
        });
    }
}

fn streams(c: &mut Criterion) {
    let pieces: Vec<&[u8]> = TEXT.as_bytes().chunks(3).collect();
    let mut group = c.benchmark_group("inference/text stream");
    group.throughput(Throughput::Bytes(TEXT.len() as u64));
    for (name, strings) in [("no stop", vec![]), ("two stops", vec!["\n\n\n".to_owned(), "</s>".to_owned()])]
    {
        let rules = StopRules { strings, ..StopRules::default() };
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut stream, mut text) = (TextStream::new(&rules), String::new());
                pieces.iter().for_each(|piece| _ = stream.push(piece, &mut text));
                text
            });
        });
    }
}

const CONTAINERS: [(&str, &str); 5] = [
    ("i2_s", "testdata/gguf-bitnet/bitnet-i2_s.gguf"),
    ("tq1_0", "testdata/gguf-bitnet/bitnet-tq1_0.gguf"),
    ("tq2_0", "testdata/gguf-bitnet/bitnet-tq2_0.gguf"),
    ("packed", "testdata/bitnet-packed"),
    ("bf16", "testdata/bitnet-online-bf16"),
];

fn checkpoint(path: &str) -> Checkpoint {
    Checkpoint::open(file(path), Options::default()).expect("part of the repository")
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference/open");
    for (name, path) in CONTAINERS {
        group.bench_function(name, |b| b.iter(|| checkpoint(path)));
    }
}

fn load(c: &mut Criterion) {
    let device = device();
    let mut group = c.benchmark_group("inference/load");
    for (name, path) in CONTAINERS {
        let checkpoint = checkpoint(path);
        group.throughput(Throughput::Bytes(checkpoint.weight_bytes()));
        group.bench_function(name, |b| b.iter(|| checkpoint.decoder(&device, &|_| {}).expect("memory")));
    }
}

fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference/check tensors");
    for (name, path) in CONTAINERS {
        let checkpoint = checkpoint(path);
        group.throughput(Throughput::Bytes(checkpoint.weight_bytes()));
        group.bench_function(name, |b| {
            b.iter(|| checkpoint.check_tensors(&|_| {}).expect("the file is sound"))
        });
    }
}

fn conversions(c: &mut Criterion) {
    let source = checkpoint("testdata/bitnet-packed");
    let (tokenizer, _) = Tokenizer::of(source.source()).expect("part of the repository");
    let mut group = c.benchmark_group("inference/convert");
    for ternary in [Format::I2S, Format::Tq1, Format::Tq2, Format::HfPacked] {
        let target = Target { ternary, embedding: None };
        // A folder that is already there is refused.
        let fresh = || tempfile::tempdir().expect("a folder for temporary files");
        let convert = |folder: TempDir| {
            let out = folder.path().join("out");
            convert::convert(&source, &tokenizer, &out, target, &|_| ControlFlow::Continue(()))
                .expect("it fits");
            folder
        };
        group.bench_function(ternary.name(), |b| b.iter_batched(fresh, convert, BatchSize::PerIteration));
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = prefill, decode, decode_caches, decode_batch, heads, layers, rotations, engine, prefixes, embedded, scoring, sampling,
        logprobs, encode, decode_text, open_tokenizer, templates, streams, open, load, check, conversions
}
criterion_main!(benches);
