//! Dense products, each thread with its own rows or columns of the result: a row by a row-major matrix here, all others through the
//! `gemm` crate.

use super::{kernels::Kernels, partition::Columns, threads::Threads};
use crate::{
    Layout, Result,
    view::{View, ViewMut},
};
use gemm::Parallelism;

/// Multiplications that are worth a thread of their own.
const GRAIN: usize = 1 << 16;
/// Rows and columns are shared in multiples of this, so that the library sees whole tiles.
const TILE: usize = 16;

/// One matrix inside a slice: where it starts and how far apart its rows and columns lie.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    start: usize,
    rows: usize,
    cols: usize,
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Matrix `index` of a batch.
    fn of(data: &'a [f32], layout: Layout, mut index: usize) -> Self {
        let shape = layout.shape();
        let (outer, inner) = shape.dims().split_at(shape.rank() - 2);
        let (steps, strides) = layout.strides().split_at(outer.len());
        let mut start = layout.offset();
        for (&extent, step) in outer.iter().zip(steps).rev() {
            start += index % extent * step;
            index /= extent;
        }
        Self { data, start, rows: inner[0], cols: inner[1], strides: [strides[0], strides[1]] }
    }

    fn narrow_rows(self, first: usize, rows: usize) -> Self {
        Self { start: self.start + first * self.strides[0], rows, ..self }
    }

    fn narrow_cols(self, first: usize, cols: usize) -> Self {
        Self { start: self.start + first * self.strides[1], cols, ..self }
    }

    /// The elements from the first on, after a check that the last one is among them.
    fn elements(&self) -> &'a [f32] {
        let last = |extent: usize, stride: usize| extent.saturating_sub(1) * stride;
        let end = self.start + last(self.rows, self.strides[0]) + last(self.cols, self.strides[1]);
        &self.data[self.start..=end]
    }
}

/// `y = a · b` with `row_stride` elements between the rows of `y`.
///
/// # Safety
///
/// `y` points to `a.rows` rows of `b.cols` elements that nobody else uses.
unsafe fn multiply(a: Matrix<'_>, b: Matrix<'_>, y: *mut f32, row_stride: usize) {
    let (left, right) = (a.elements().as_ptr(), b.elements().as_ptr());
    let [a_rows, a_cols] = a.strides.map(|s| s as isize);
    let [b_rows, b_cols] = b.strides.map(|s| s as isize);
    // SAFETY: `elements` checked that both operands lie inside their slices; the caller answers for `y`.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            y,
            1,
            row_stride as isize,
            false,
            left,
            a_cols,
            a_rows,
            right,
            b_cols,
            b_rows,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// `y: [.., M, N] = a: [.., M, K] · b: [.., K, N]`.
pub(super) fn matmul(
    kernels: &Kernels,
    threads: &Threads,
    a: View<'_>,
    b: View<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let op = "matmul";
    let (left, right, shape) = (a.layout(), b.layout(), y.shape());
    let (a, b) = (a.whole::<f32>(op)?, b.whole::<f32>(op)?);
    let inner = left.shape().last();
    let (rows, cols) = (shape.dims()[shape.rank() - 2], shape.last());
    let y = y.into_slice::<f32>(op)?;
    if inner == 0 || y.is_empty() {
        y.fill(0.0);
        return Ok(());
    }
    let batch = y.len() / (rows * cols);
    let product = |index| (Matrix::of(a, left, index), Matrix::of(b, right, index));
    if batch >= threads.len() {
        threads.for_each_item_mut(y, rows * cols, |index, y| {
            let (a, b) = product(index);
            // SAFETY: the chunk is one matrix of the result.
            unsafe { multiply(a, b, y.as_mut_ptr(), cols) };
        });
        return Ok(());
    }
    for (index, y) in y.chunks_mut(rows * cols).enumerate() {
        let (a, b) = product(index);
        one(kernels, threads, a, b, y);
    }
    Ok(())
}

/// One product, shared between the threads by its longer side.
fn one(kernels: &Kernels, threads: &Threads, a: Matrix<'_>, b: Matrix<'_>, y: &mut [f32]) {
    let (rows, cols) = (a.rows, b.cols);
    let grain = |other: usize| GRAIN.div_ceil((a.cols * other).max(1)).next_multiple_of(TILE);
    if rows >= cols {
        let each = grain(cols).max(rows.div_ceil(threads.len()).next_multiple_of(TILE));
        threads.for_each_chunk_mut(y, each * cols, |chunk, y| {
            let a = a.narrow_rows(chunk * each, y.len() / cols);
            // SAFETY: the chunk is these rows of the result.
            unsafe { multiply(a, b, y.as_mut_ptr(), cols) };
        });
        return;
    }
    let columns = Columns::new(y, cols);
    if rows == 1 && a.strides[1] == 1 && b.strides[1] == 1 {
        return threads.for_each_range(cols, grain(1), |range| {
            // SAFETY: the ranges are disjoint.
            let mut part = unsafe { columns.part(range.clone()) };
            let b = b.narrow_cols(range.start, range.len());
            (kernels.matmul_row)(a.elements(), b.elements(), b.strides[0], part.row_mut(0));
        });
    }
    threads.for_each_range(cols, grain(rows), |range| {
        // SAFETY: the ranges are disjoint.
        let mut part = unsafe { columns.part(range.clone()) };
        let b = b.narrow_cols(range.start, range.len());
        // SAFETY: the part is these columns of the result.
        unsafe { multiply(a, b, part.as_mut_ptr(), cols) };
    });
}
