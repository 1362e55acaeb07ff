//! Every format's way to bytes and back, the rounding of weights and activations, and what it costs to measure the loss.
//! Throughput is in values.

use bitnet_benchmarks::{codes, criterion, floats, peers};
use bitnet_quant::formats::{base3, i2s};
use bitnet_quant::{Format, Scales, Ternary, activation, metrics, ternary};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const ROWS: usize = 64;
const COLS: usize = 2560;
const LEN: usize = ROWS * COLS;

fn values<'a>(c: &'a mut Criterion, name: &str, len: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(len as u64));
    group
}

fn matrix() -> Ternary {
    Ternary { rows: ROWS, cols: COLS, codes: codes(LEN), scales: Scales::Tensor(0.5) }
}

/// Ternary formats that can hold the matrix, with its bytes.
fn packed(matrix: &Ternary) -> impl Iterator<Item = (Format, Vec<u8>)> {
    let ternary = Format::ALL.into_iter().filter(|format| format.is_ternary());
    ternary.filter_map(|format| Some((format, format.pack(matrix).ok()?)))
}

fn pack(c: &mut Criterion) {
    let matrix = matrix();
    let mut group = values(c, "quantization/pack", LEN);
    for (format, _) in packed(&matrix) {
        group.bench_function(format.name(), |b| b.iter(|| format.pack(&matrix).expect("it fits")));
    }
}

fn unpack(c: &mut Criterion) {
    let mut group = values(c, "quantization/unpack", LEN);
    for (format, bytes) in packed(&matrix()) {
        group.bench_function(format.name(), |b| {
            b.iter(|| format.unpack(&bytes, ROWS, COLS).expect("sound bytes"))
        });
    }
}

/// The way of a loaded matrix: scales that are all the same become one.
fn repack(c: &mut Criterion) {
    let mut group = values(c, "quantization/repack to i2_s", LEN);
    for (format, bytes) in packed(&matrix()).filter(|(format, _)| *format != Format::I2S) {
        group.bench_function(format.name(), |b| {
            b.iter(|| {
                let mut matrix = format.unpack(&bytes, ROWS, COLS).expect("sound bytes");
                matrix.scales = matrix.scales.simplify(&matrix.codes, COLS);
                Format::I2S.pack(&matrix).expect("one scale")
            });
        });
    }
}

/// Formats that rows of floats can be written in, with the bytes of one.
fn stored(row: &[f32]) -> impl Iterator<Item = (Format, Vec<u8>)> {
    Format::ALL.into_iter().filter_map(|format| {
        let mut bytes = vec![0; format.tensor_bytes(1, row.len()).ok()?];
        format.quantize_row(row, &mut bytes).ok()?;
        Some((format, bytes))
    })
}

fn quantize_rows(c: &mut Criterion) {
    let row = floats(COLS);
    let mut group = values(c, "quantization/quantize row", COLS);
    for (format, mut bytes) in stored(&row) {
        group.bench_function(format.name(), |b| {
            b.iter(|| format.quantize_row(&row, &mut bytes).expect("it fits"))
        });
    }
    peers::quantize(&mut group, &row);
}

/// Rows that hold their scales themselves: floats, and ternary ones with a scale for a group.
fn dequantize_rows(c: &mut Criterion) {
    let row = floats(COLS);
    let mut out = vec![0.0; COLS];
    let one = Ternary { rows: 1, cols: COLS, codes: codes(COLS), scales: Scales::Tensor(0.5) };
    let mut group = values(c, "quantization/dequantize row", COLS);
    for (format, bytes) in stored(&row).chain(packed(&one)) {
        if format.dequantize_row(&bytes, &mut out).is_ok() {
            group.bench_function(format.name(), |b| {
                b.iter(|| format.dequantize_row(&bytes, &mut out).expect("sound bytes"))
            });
        }
    }
    peers::dequantize(&mut group, &row);
}

fn dequantize_codes(c: &mut Criterion) {
    let mut matrix = matrix();
    let mut out = vec![0.0; COLS];
    let mut group = values(c, "quantization/dequantize codes", COLS);
    let groups = Scales::Group { len: 128, values: vec![0.5; ROWS * COLS / 128] };
    for scales in [Scales::Tensor(0.5), Scales::Row(vec![0.5; ROWS]), groups] {
        matrix.scales = scales;
        group.bench_function(matrix.scales.granularity(), |b| b.iter(|| matrix.dequantize_row(7, &mut out)));
    }
}

fn weights(c: &mut Criterion) {
    let x = floats(LEN);
    let mut out = vec![0; LEN];
    let mut group = c.benchmark_group("quantization/ternarize");
    for len in [COLS, LEN] {
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| ternary::ternarize(&x[..len], &mut out));
        });
    }
    group.finish();
    values(c, "quantization/absmean", LEN).bench_function("f32", |b| b.iter(|| ternary::absmean(&x)));
}

fn activations(c: &mut Criterion) {
    let x = floats(6912);
    let mut out = vec![0; x.len()];
    let mut group = c.benchmark_group("quantization/activation");
    for len in [640, 2560, 6912] {
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| activation::quantize(&x[..len], &mut out));
        });
    }
}

fn codes_to_bytes(c: &mut Criterion) {
    let codes = codes(LEN);
    let mut bytes = vec![0; LEN / 4];
    let mut group = values(c, "quantization/pack codes", LEN);
    group.bench_function("i2_s", |b| b.iter(|| i2s::pack_codes(&codes, &mut bytes).expect("whole blocks")));
    group.bench_function("base 3", |b| {
        b.iter(|| {
            for (byte, codes) in bytes.iter_mut().zip(codes.chunks_exact(5)) {
                *byte = base3::pack(codes.iter().copied());
            }
            black_box(&bytes);
        });
    });
}

fn reference_dot(c: &mut Criterion) {
    let mut row = vec![0; COLS / 4];
    i2s::pack_codes(&codes(COLS), &mut row).expect("whole blocks");
    let mut x = vec![0; COLS];
    activation::quantize(&floats(COLS), &mut x);
    values(c, "quantization/reference dot", COLS).bench_function("i2_s", |b| b.iter(|| i2s::dot(&row, &x)));
}

fn scales(c: &mut Criterion) {
    let matrix = matrix();
    let groups = || Scales::Group { len: 256, values: vec![0.5; LEN / 256] };
    let mut group = values(c, "quantization/simplify scales", LEN);
    group.bench_function("group to tensor", |b| b.iter(|| groups().simplify(&matrix.codes, COLS)));
}

fn losses(c: &mut Criterion) {
    let (x, y) = (floats(LEN), floats(LEN + 1).split_off(1));
    let mut group = values(c, "quantization/loss", LEN);
    group.bench_function("mse", |b| b.iter(|| metrics::mse(&x, &y)));
    group.bench_function("sqnr", |b| b.iter(|| metrics::sqnr(&x, &y)));
    group.bench_function("cosine", |b| b.iter(|| metrics::cosine(&x, &y)));
}

fn counts(c: &mut Criterion) {
    let codes = codes(LEN);
    let mut group = values(c, "quantization/count codes", LEN);
    group.bench_function("histogram", |b| b.iter(|| metrics::histogram(&codes)));
    group.bench_function("density", |b| b.iter(|| metrics::density(&codes)));
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = pack, unpack, repack, quantize_rows, dequantize_rows, dequantize_codes, weights, activations, codes_to_bytes,
        reference_dot, scales, losses, counts
}
criterion_main!(benches);
