//! The same work by other libraries, in the groups of ours and with as many threads as they choose.

#[path = "peers/gemm.rs"]
mod gemm;

pub use self::gemm::square;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use criterion::{BenchmarkGroup, BenchmarkId, measurement::WallTime};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use ndarray::ArrayView2;
use std::sync::Arc;

/// `x: [T, C]` times `w: [R, C]` transposed, in f32.
pub fn product(group: &mut BenchmarkGroup<'_, WallTime>, tokens: usize, rows: usize, cols: usize) {
    let (x, w) = (crate::floats(tokens * cols), crate::floats(rows * cols));
    candle_product(group, (&x, tokens), (&w, rows), cols);
    faer_product(group, (&x, tokens), (&w, rows), cols);
    let view = |data, rows| ArrayView2::from_shape((rows, cols), data).expect("sizes fit");
    let (x, w) = (view(&x[..], tokens), view(&w[..], rows));
    group.bench_function(BenchmarkId::new("ndarray", tokens), |b| b.iter(|| x.dot(&w.t())));
}

fn candle_product(
    group: &mut BenchmarkGroup<'_, WallTime>,
    (x, tokens): (&[f32], usize),
    (w, rows): (&[f32], usize),
    cols: usize,
) {
    let (x, w) = (candle(x, tokens, cols), candle(w, rows, cols).t().expect("two dimensions"));
    group.bench_function(BenchmarkId::new("candle", tokens), |b| b.iter(|| x.matmul(&w).expect("sizes fit")));
}

fn faer_product(
    group: &mut BenchmarkGroup<'_, WallTime>,
    (x, tokens): (&[f32], usize),
    (w, rows): (&[f32], usize),
    cols: usize,
) {
    let (x, w) = (
        MatRef::from_row_major_slice(x, tokens, cols),
        MatRef::from_row_major_slice(w, rows, cols).transpose(),
    );
    let (mut y, par) = (Mat::<f32>::zeros(tokens, rows), Par::rayon(0));
    group.bench_function(BenchmarkId::new("faer", tokens), |b| {
        b.iter(|| matmul(y.as_mut(), Accum::Replace, x, w, 1.0, par));
    });
}

fn candle(data: &[f32], rows: usize, cols: usize) -> Tensor {
    Tensor::from_slice(data, (rows, cols), &Device::Cpu).expect("sizes fit")
}

fn q8_0(data: &[f32], rows: usize, cols: usize) -> QTensor {
    QTensor::quantize(&candle(data, rows, cols), GgmlDType::Q8_0).expect("whole blocks")
}

/// As [`product`], with `w` in Q8_0.
pub fn quantized_product(group: &mut BenchmarkGroup<'_, WallTime>, tokens: usize, rows: usize, cols: usize) {
    let weight = Arc::new(q8_0(&crate::floats(rows * cols), rows, cols));
    let weight = QMatMul::from_arc(weight).expect("a known type");
    let x = candle(&crate::floats(tokens * cols), tokens, cols);
    group.bench_function(BenchmarkId::new("candle", tokens), |b| {
        b.iter(|| weight.forward(&x).expect("sizes fit"))
    });
}

/// A row to Q8_0.
pub fn quantize(group: &mut BenchmarkGroup<'_, WallTime>, x: &[f32]) {
    let x = candle(x, 1, x.len());
    group.bench_function("candle q8_0", |b| {
        b.iter(|| QTensor::quantize(&x, GgmlDType::Q8_0).expect("whole blocks"))
    });
}

/// A row from Q8_0.
pub fn dequantize(group: &mut BenchmarkGroup<'_, WallTime>, x: &[f32]) {
    let row = q8_0(x, 1, x.len());
    group.bench_function("candle q8_0", |b| b.iter(|| row.dequantize(&Device::Cpu).expect("memory")));
}
