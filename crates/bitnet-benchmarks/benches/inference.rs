//! Prefill and decode of a small random model, and sampling from a large vocabulary.

use bitnet_benchmarks::{device, floats};
use bitnet_core::ops::cache::CacheType;
use bitnet_inference::{LanguageModel, Rng, Sampler, SamplingParams, local::LocalModel};
use bitnet_model::{
    batch::{Batch, Logits},
    synthetic,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn forward(c: &mut Criterion) {
    let config = synthetic::Shape::named("tiny").expect("the shape exists").config();
    let decoder = synthetic::decoder(&config, &device(), 1).expect("memory");
    let mut model = LocalModel::new(decoder, 512, CacheType::F16).expect("memory");
    let blocks: Vec<u32> = (0..16).collect();
    let mut group = c.benchmark_group("forward");
    for tokens in [1u32, 64] {
        let mut batch = Batch::default();
        batch.push(&(0..tokens).collect::<Vec<_>>(), 0, blocks.clone(), Logits::Last);
        let mut logits = Vec::new();
        group.throughput(Throughput::Elements(u64::from(tokens)));
        group.bench_function(BenchmarkId::from_parameter(tokens), |b| {
            b.iter(|| {
                logits.clear();
                model.forward(&batch, &mut logits).expect("the batch is valid");
            });
        });
    }
}

fn sampling(c: &mut Criterion) {
    let logits = floats(128_256);
    let (mut sampler, mut rng) = (Sampler::default(), Rng::new(1));
    for (name, params) in [("greedy", SamplingParams::greedy()), ("default", SamplingParams::default())] {
        c.bench_function(&format!("sample {name}"), |b| {
            b.iter(|| sampler.pick(&logits, &[1, 2, 3], &params, &mut rng));
        });
    }
}

criterion_group!(benches, forward, sampling);
criterion_main!(benches);
