//! Without the feature `peers` there is nobody to compare with.

use criterion::{BenchmarkGroup, measurement::WallTime};

/// Does nothing.
pub fn product(_group: &mut BenchmarkGroup<'_, WallTime>, _tokens: usize, _rows: usize, _cols: usize) {}

/// Does nothing.
pub fn quantized_product(
    _group: &mut BenchmarkGroup<'_, WallTime>,
    _tokens: usize,
    _rows: usize,
    _cols: usize,
) {
}

/// Does nothing.
pub fn quantize(_group: &mut BenchmarkGroup<'_, WallTime>, _x: &[f32]) {}

/// Does nothing.
pub fn dequantize(_group: &mut BenchmarkGroup<'_, WallTime>, _x: &[f32]) {}

/// Does nothing.
pub fn square(_group: &mut BenchmarkGroup<'_, WallTime>, _n: usize) {}
