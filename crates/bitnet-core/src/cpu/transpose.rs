//! Copies of views whose neighbours do not lie side by side: matrices that are transposed, a tile at a time.

use super::{kernels::Kernels, threads::Threads, walk::Walk};
use crate::{
    Element,
    buffer::{as_bytes, as_bytes_mut},
    ops::copy,
};

/// Bytes of a piece of a column that is turned in the cache, and of a piece of a row that is written from there.
const COLUMN_BYTES: usize = 256;
const ROW_BYTES: usize = 512;
/// Pieces below each other that a thread turns before it goes on to the right, so that a column is read at length.
const PIECES: usize = 8;
/// Elements of a matrix that is worth it.
const MATRIX: usize = 64;
/// Elements that are worth a thread of their own.
const GRAIN: usize = 16_384;

/// Extent of a dimension and the distance of its entries in the operand.
type Dim = (usize, usize);

/// A contiguous result `[.., rows, .., cols]` from an operand whose rows are the ones without a stride.
pub(super) struct Transposed {
    offset: usize,
    outer: Vec<Dim>,
    rows: usize,
    between: Vec<Dim>,
    cols: usize,
    stride: usize,
}

impl Transposed {
    /// None where the operand is better read in the order of the result.
    pub(super) fn new(walk: &Walk<1>) -> Option<Self> {
        let mut dims: Vec<Dim> = walk.dims().map(|(dim, [stride])| (dim, stride)).collect();
        let (cols, stride) = dims.pop()?;
        let line = dims.iter().rposition(|dim| dim.1 == 1)?;
        let between = dims.split_off(line + 1);
        let (rows, _) = dims.pop()?;
        let plain = stride > 1 && rows * cols >= MATRIX;
        plain.then_some(Self { offset: walk.offsets[0], outer: dims, rows, between, cols, stride })
    }

    /// Distance of the rows in the result.
    fn pitch(&self) -> usize {
        extent(&self.between) * self.cols
    }

    /// Writes rows of the result, counted over all the outer entries, from `first` on.
    fn write<T: Element>(&self, kernels: &Kernels, past_caches: bool, x: &[T], first: usize, y: &mut [T]) {
        let (pitch, mut tile, mut row) = (self.pitch(), Vec::new(), first);
        let mut rest = y;
        while !rest.is_empty() {
            let (outer, top) = (row / self.rows, row % self.rows);
            let count = (rest.len() / pitch).min(self.rows - top);
            let (y, behind) = rest.split_at_mut(count * pitch);
            let start = self.offset + place(&self.outer, outer) + top;
            for i in 0..extent(&self.between) {
                let x = &x[start + place(&self.between, i)..];
                self.matrix(kernels, past_caches, &mut tile, x, count, &mut y[i * self.cols..]);
            }
            (rest, row) = (behind, row + count);
        }
    }

    /// `y[r, c] = x[c * stride + r]` of `rows` rows, in tiles that are turned in the cache: strides of a power of two would put all lines
    /// of a column into one place of it.
    fn matrix<T: Element>(
        &self,
        kernels: &Kernels,
        past_caches: bool,
        tile: &mut Vec<T>,
        x: &[T],
        rows: usize,
        y: &mut [T],
    ) {
        let (size, pitch) = (size_of::<T>(), self.pitch());
        let (high, wide) = (COLUMN_BYTES / size, ROW_BYTES / size);
        let aligned = (pitch * size).is_multiple_of(32) && (y.as_ptr() as usize).is_multiple_of(32);
        let store = if past_caches && aligned { kernels.stream } else { copy::rows };
        tile.resize(wide * high + 64 / size, T::default());
        let aligned = tile.as_ptr().align_offset(64);
        let tile = &mut tile[aligned..];
        for left in (0..self.cols).step_by(wide) {
            let width = wide.min(self.cols - left);
            for top in (0..rows).step_by(high) {
                let tile = as_bytes_mut(&mut tile[..width * high.min(rows - top)]);
                (kernels.transpose)(size, as_bytes(&x[left * self.stride + top..]), self.stride, tile, width);
                let y = as_bytes_mut(&mut y[top * pitch + left..]);
                // Without a gap the rows are a single one.
                let (width, pitch) =
                    if width == pitch { (tile.len(), y.len()) } else { (width * size, pitch * size) };
                store(tile, width, y, pitch);
            }
        }
    }

    /// Copies all of it into `y`, in parts for each thread.
    pub(super) fn copy<T: Element>(
        &self,
        kernels: &Kernels,
        threads: &Threads,
        past_caches: bool,
        x: &[T],
        y: &mut [T],
    ) {
        let (high, pitch) = (COLUMN_BYTES / size_of::<T>(), self.pitch());
        let rows = y.len() / pitch;
        let parts = rows.div_ceil(PIECES * high).next_multiple_of(threads.len());
        let share = rows.div_ceil(parts).max(GRAIN.div_ceil(pitch));
        let share = if share > high { share.next_multiple_of(high) } else { share };
        threads.for_each_chunk_mut(y, share * pitch, |chunk, y| {
            self.write(kernels, past_caches, x, chunk * share, y);
            (kernels.fence)();
        });
    }
}

/// Entries of all the dimensions together.
fn extent(dims: &[Dim]) -> usize {
    dims.iter().map(|dim| dim.0).product()
}

/// Where the operand has entry `index` in row-major order.
fn place(dims: &[Dim], mut index: usize) -> usize {
    let mut place = 0;
    for &(dim, stride) in dims.iter().rev() {
        place += index % dim * stride;
        index /= dim;
    }
    place
}
