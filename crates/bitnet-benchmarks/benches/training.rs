//! Steps of training a small decoder, and the ops that they are made of.

use bitnet_benchmarks::{criterion, device, file, tensor, work};
use bitnet_core::ops::{self, Adam};
use bitnet_core::{DType, Device, Tensor};
use bitnet_model::batch::{Batch, Logits};
use bitnet_model::{Config, Decoder, layers::Quantization};
use bitnet_training::{RunConfig, data::Windows, parallel::Team};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Tokens of a window, windows of a step and characters of the small configuration.
const CONTEXT: usize = 64;
const WINDOWS: usize = 12;
const VOCABULARY: usize = 65;

fn config() -> Config {
    let run = RunConfig::read(&file("configs/shakespeare-char.toml"), &[]).expect("part of the repository");
    run.shape(VOCABULARY).expect("it is valid")
}

fn windows(count: usize) -> Windows {
    let (mut batch, mut targets) = (Batch::default(), Vec::new());
    for window in 0..count {
        let ids: Vec<u32> = (0..=CONTEXT).map(|i| ((window * 31 + i * i * 7) % VOCABULARY) as u32).collect();
        batch.push(&ids[..CONTEXT], 0, Vec::new(), Logits::All);
        targets.extend(ids[1..].iter().map(|&id| i64::from(id)));
    }
    Windows { batch, targets }
}

/// Gradients of one pass with all threads, and of as many passes as workers with one thread each.
fn gradients(c: &mut Criterion) {
    let mut group = c.benchmark_group("training/gradients");
    let tokens = CONTEXT * WINDOWS;
    group.throughput(work(6 * config().parameters() as usize * tokens, 0));
    let threads = device().threads();
    for (name, quantization) in [("f32", Quantization::OFF), ("ternary", Quantization::BITNET)] {
        for (how, device_threads, workers) in [("threads", threads, 1), ("workers", 1, threads)] {
            let device = Device::open("cpu", Some(device_threads)).expect("every machine has a processor");
            let decoder = Decoder::random(&config(), quantization, &device, 1).expect("memory");
            let team = Team::new(workers).expect("threads");
            let passes: Vec<Windows> =
                (0..workers).map(|_| windows(WINDOWS / workers.min(WINDOWS))).collect();
            group.bench_function(BenchmarkId::new(name, how), |b| {
                b.iter(|| team.gradients(&decoder, None, &passes, 1e-3).expect("memory"));
            });
        }
    }
}

/// Elements of the operands of ops: 4096 rows of 1024.
const SHAPE: [usize; 2] = [4096, 1024];

fn ops_of_training(c: &mut Criterion) {
    let device = device();
    let x = tensor(&device, SHAPE);
    let mut group = c.benchmark_group("training/rounding");
    group.throughput(work(4 * x.shape().len(), 2 * x.bytes()));
    group.bench_function("fake_quantize", |b| b.iter(|| ops::fake_quantize(&x).expect("memory")));
    group.bench_function("fake_ternarize", |b| b.iter(|| ops::fake_ternarize(&x, None).expect("memory")));
    group.bench_function("fake_ternarize by 128", |b| {
        b.iter(|| ops::fake_ternarize(&x, Some(128)).expect("memory"));
    });
    group.finish();
    let mut group = c.benchmark_group("training/loss");
    group.throughput(work(8 * x.shape().len(), 2 * x.bytes()));
    let targets: Vec<i64> = (0..SHAPE[0] as i64).map(|i| i % SHAPE[1] as i64).collect();
    let logits = x.trainable().expect("floats");
    group.bench_function("cross_entropy and its gradient", |b| {
        b.iter(|| {
            let losses = ops::cross_entropy(&logits, &targets).expect("memory");
            losses.sum((), false).and_then(|sum| sum.backward()).expect("memory")
        });
    });
    group.finish();
    adam(c, &x);
}

fn adam(c: &mut Criterion, g: &Tensor) {
    let mut group = c.benchmark_group("training/optimizer");
    let zeros = || Tensor::zeros(g.device(), SHAPE, DType::F32).expect("memory");
    let [mut w, mut m, mut v] = [zeros(), zeros(), zeros()];
    group.throughput(work(14 * g.shape().len(), 7 * g.bytes()));
    let step = Adam {
        lr: 1e-3,
        betas: [0.9, 0.95],
        eps: 1e-8,
        weight_decay: 0.1,
        decoupled: true,
        step: 10,
        gradient_scale: 1.0,
    };
    group.bench_function("adamw", |b| {
        b.iter(|| ops::adam(&step, &mut w, g, &mut m, &mut v).expect("memory"));
    });
}

fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("training/causal_attention");
    let device = device();
    for len in [64, 512] {
        let heads = || tensor(&device, [1024, 8, 64]).trainable().expect("floats");
        let (q, k, v) = (heads(), heads(), heads());
        let lens = vec![len; 1024 / len];
        group.throughput(work(7 * 2 * 1024 * len * 8 * 64, 0));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| {
                let y = ops::causal_attention(&q, &k, &v, &lens).expect("memory");
                y.backward_from(&y.detach()).expect("memory")
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = gradients, ops_of_training, attention
}
criterion_main!(benches);
