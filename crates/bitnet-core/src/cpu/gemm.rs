//! Dense products, each thread with its own rows or columns of the result: a row by a row-major matrix and a few rows by a transposed
//! one in kernels of the tier, all others through the `gemm` crate.

use super::{kernels::Kernels, partition::Columns, threads::Threads};
use crate::{
    Layout, Result,
    buffer::as_bytes,
    view::{View, ViewMut},
};
use gemm::Parallelism;
use std::ops::Range;

/// Multiplications that are worth a thread of their own.
const GRAIN: usize = 1 << 16;
/// Rows and columns are shared in multiples of this, so that the library sees whole tiles.
const TILE: usize = 16;
/// Rows for which rearranging a transposed matrix, as the library does, can take longer than it saves: this many at most, and one
/// for as many elements of the matrix.
const FEW_ROWS: usize = 256;
const ELEMENTS_PER_ROW: usize = 1 << 11;

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
    fn of(data: &'a [f32], layout: &Layout, mut index: usize) -> Self {
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
    if batch > 1 && batch >= threads.len() {
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

/// Whether both matrices are rows without gaps, those of `b` its columns, and so few in `a` that they are best multiplied as they are.
fn few_rows_by_transposed(a: Matrix<'_>, b: Matrix<'_>) -> bool {
    (2..=FEW_ROWS.min(b.rows * b.cols / ELEMENTS_PER_ROW)).contains(&a.rows)
        && a.strides == [a.cols, 1]
        && b.strides == [1, b.rows]
}

/// One product, shared between the threads by its longer side.
fn one(kernels: &Kernels, threads: &Threads, a: Matrix<'_>, b: Matrix<'_>, y: &mut [f32]) {
    let (rows, cols) = (a.rows, b.cols);
    let grain = |other: usize| GRAIN.div_ceil((a.cols * other).max(1)).next_multiple_of(TILE);
    if few_rows_by_transposed(a, b) {
        let (x, weight) = (a.elements(), as_bytes(b.elements()));
        let row_bytes = size_of::<f32>() * b.rows;
        return threads.for_each_columns(y, cols, grain(rows), |mut y| {
            let Range { start, end } = y.range();
            (kernels.matmul_t_f32)(&weight[start * row_bytes..end * row_bytes], x, &mut y);
        });
    }
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

#[cfg(test)]
mod tests {
    use crate::{Device, Tensor, random::Rng};

    /// `[rows, inner]` by the transpose of rows `first..` of a matrix with `inner` of `width` columns, against sums in f64.
    fn check(
        device: &Device,
        rows: usize,
        [inner, width]: [usize; 2],
        cols: usize,
        first: usize,
    ) -> Vec<u32> {
        let mut random = Rng::new(5);
        let mut floats = |n: usize| -> Vec<f32> { (0..n).map(|_| random.next_f32() - 0.5).collect() };
        let (x, w) = (floats(rows * inner), floats((first + cols) * width));
        let y = Tensor::from_slice(device, [first + cols, width], &w).unwrap();
        let y = y.narrow(0, first, cols).unwrap().narrow(1, 0, inner).unwrap().t().unwrap();
        let y = Tensor::from_slice(device, [rows, inner], &x).unwrap().matmul(&y).unwrap();
        let y = y.to_vec::<f32>().unwrap();
        for (i, &got) in y.iter().enumerate() {
            let (x, w) = (&x[i / cols * inner..][..inner], &w[(first + i % cols) * width..][..inner]);
            let expected: f64 = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            assert!(
                (f64::from(got) - expected).abs() < 1e-5,
                "{rows}x{inner}x{cols} at {i}: {got}, {expected}"
            );
        }
        y.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn rows_by_transposed_matrices_are_sums_of_products() {
        let device = Device::open("cpu", Some(2)).unwrap();
        for rows in [1, 2, 3, 17, 31, 32, 33, 257] {
            for (inner, width) in [(67, 67), (128, 128), (128, 130)] {
                check(&device, rows, [inner, width], 513, 3);
            }
        }
    }

    #[test]
    fn few_rows_have_the_same_bits_on_all_threads_and_tiers() {
        let expected = check(&Device::open("cpu/scalar", Some(1)).unwrap(), 9, [99, 99], 207, 1);
        for name in Device::names().iter().filter(|name| name.starts_with("cpu/")) {
            for threads in 1..4 {
                assert_eq!(check(&Device::open(name, Some(threads)).unwrap(), 9, [99, 99], 207, 1), expected);
            }
        }
    }
}
