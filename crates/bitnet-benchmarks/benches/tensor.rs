//! Ops of a decoder layer on the device that `bitnet` would choose; sizes of a 2B model.

use bitnet_benchmarks::{device, floats};
use bitnet_core::{
    Tensor,
    ops::{self, Codes, Glu},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const HIDDEN: usize = 2560;

fn rows(c: &mut Criterion) {
    let device = device();
    let weight = Tensor::from_slice(&device, [HIDDEN], &floats(HIDDEN)).expect("memory");
    let mut group = c.benchmark_group("rows");
    for tokens in [1usize, 64] {
        let x = Tensor::from_slice(&device, [tokens, HIDDEN], &floats(tokens * HIDDEN)).expect("memory");
        group.throughput(Throughput::Elements((tokens * HIDDEN) as u64));
        group.bench_function(BenchmarkId::new("rms_norm", tokens), |b| {
            b.iter(|| ops::rms_norm(&x, &weight, 1e-5))
        });
        group.bench_function(BenchmarkId::new("quantize_activation", tokens), |b| {
            b.iter(|| Codes::quantize(&x))
        });
        group.bench_function(BenchmarkId::new("glu relu2", tokens), |b| {
            b.iter(|| ops::glu(Glu::Relu2, &x, &x))
        });
        group
            .bench_function(BenchmarkId::new("glu silu", tokens), |b| b.iter(|| ops::glu(Glu::Silu, &x, &x)));
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
