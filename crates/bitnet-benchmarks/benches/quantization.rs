//! Packing and unpacking of every ternary format; throughput in codes.

use bitnet_benchmarks::{codes, floats};
use bitnet_quant::{Format, Scales, Ternary, activation, ternary};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 256;
const COLS: usize = 2560;

fn formats(c: &mut Criterion) {
    let matrix = Ternary { rows: ROWS, cols: COLS, codes: codes(ROWS * COLS), scales: Scales::Tensor(0.5) };
    let mut group = c.benchmark_group("formats");
    group.throughput(Throughput::Elements((ROWS * COLS) as u64));
    for format in Format::ALL.into_iter().filter(|f| f.is_ternary()) {
        let Ok(bytes) = format.pack(&matrix) else { continue };
        group.bench_function(format!("pack {format}"), |b| b.iter(|| format.pack(&matrix)));
        group.bench_function(format!("unpack {format}"), |b| b.iter(|| format.unpack(&bytes, ROWS, COLS)));
    }
}

fn rounding(c: &mut Criterion) {
    let x = floats(ROWS * COLS);
    let mut out = vec![0; x.len()];
    let mut group = c.benchmark_group("rounding");
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("ternarize", |b| b.iter(|| ternary::ternarize(&x, &mut out)));
    group.bench_function("activation", |b| b.iter(|| activation::quantize(&x, &mut out)));
}

criterion_group!(benches, formats, rounding);
criterion_main!(benches);
