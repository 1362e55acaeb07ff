//! The crate gemm called directly: the one peer whose interface is pointers.
#![expect(unsafe_code, reason = "the crate has no safe interface")]

use criterion::{BenchmarkGroup, BenchmarkId, measurement::WallTime};
use gemm::{Parallelism, gemm};
use std::hint::black_box;

/// `x: [N, N]` times `w: [N, N]` in f32, on one thread, into memory that is there.
pub fn square(group: &mut BenchmarkGroup<'_, WallTime>, n: usize) {
    let (x, w) = (crate::floats(n * n), crate::floats(n * n));
    let mut y = vec![0.0; n * n];
    group.bench_function(BenchmarkId::new("gemm", n), |b| b.iter(|| multiply(&x, &w, black_box(&mut y), n)));
}

/// `y = x · w`, all `[N, N]`.
fn multiply(x: &[f32], w: &[f32], y: &mut [f32], n: usize) {
    assert!([x.len(), w.len(), y.len()] == [n * n; 3], "square matrices");
    let (x, w, y, stride, none) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr(), n as isize, Parallelism::None);
    // SAFETY: `multiply` checked that each pointer is to `n` rows of `n` numbers, and the borrow of `y` excludes the others.
    unsafe {
        gemm(n, n, n, y, 1, stride, false, x, 1, stride, w, 1, stride, 0.0, 1.0, false, false, false, none);
    }
}
