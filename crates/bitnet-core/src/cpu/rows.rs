//! Ops along one dimension: reductions, running sums, softmax, order and indices.

use super::{elementwise::by_dtype, kernels::Kernels, threads::Threads};
use crate::{
    Bool, DType, Result,
    ops::{
        Reduce, index,
        reduce::{self, BLOCK, COLUMNS},
        sort,
    },
    view::{View, ViewMut},
};
use half::{bf16, f16};

/// Elements that are worth a thread of their own.
const GRAIN: usize = 16_384;

/// Where a row first holds a number, which it does.
fn place(row: &[f32], x: f32) -> usize {
    const CHUNK: usize = 64;
    if x.is_nan() {
        return row.iter().position(|x| x.is_nan()).unwrap_or(0);
    }
    // A whole chunk is compared without a branch, so that it is done in vectors.
    let holds = |chunk: &[f32]| chunk.iter().fold(false, |held, &y| held | (y == x));
    let chunk = row.chunks(CHUNK).position(holds).unwrap_or(0) * CHUNK;
    chunk + row[chunk..].iter().position(|&y| y == x).unwrap_or(0)
}

/// The kernels and threads that these ops run with.
pub(super) struct Rows {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: Threads,
}

/// An integer or a truth as the widest integer.
fn wide<T: Into<i64>>(x: T) -> i64 {
    x.into()
}

/// The three extents of a folded tensor.
fn extents(x: &View<'_>) -> [usize; 3] {
    let shape = x.shape();
    let [outer, n, width] = shape.dims()[..] else { unreachable!("the op folds into three dimensions") };
    [outer, n, width]
}

impl Rows {
    pub(super) fn reduce(&self, op: Reduce, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, [_, n, width]) = (op.name(), extents(&x));
        match op {
            Reduce::ArgMin | Reduce::ArgMax if x.dtype() == DType::F32 && width == 1 => {
                let x = x.as_slice::<f32>(name)?;
                self.lines(x, n, 1, y.into_slice(name)?, |x, y| self.row_indices(op, x, n, y));
                Ok(())
            }
            Reduce::ArgMin | Reduce::ArgMax => by_dtype!(x.dtype(), any T, {
                let x = x.as_slice::<T>(name)?;
                self.lines(x, n, width, y.into_slice(name)?, |x, y| reduce::indices(op, x, n, width, y));
                Ok(())
            }),
            Reduce::Any | Reduce::All => by_dtype!(x.dtype(), any T, {
                let x = x.as_slice::<T>(name)?;
                self.lines(x, n, width, y.into_slice(name)?, |x, y| reduce::truths(op, x, n, width, y));
                Ok(())
            }),
            _ if x.dtype() == DType::F32 => {
                let y = y.into_slice::<f32>(name)?;
                self.floats(op, x.as_slice(name)?, n, width, y);
                Ok(())
            }
            Reduce::Deviations => unreachable!("the op takes floats alone"),
            Reduce::Sum | Reduce::Prod => by_dtype!(
                x.dtype(),
                countable T,
                {
                    let x = x.as_slice::<T>(name)?;
                    self.lines(x, n, width, y.into_slice(name)?, |x, y| {
                        reduce::integers(op, x, n, width, y);
                    });
                    Ok(())
                }
            ),
            Reduce::Min | Reduce::Max => by_dtype!(
                x.dtype(),
                countable T,
                {
                    let x = x.as_slice::<T>(name)?;
                    self.lines(x, n, width, y.into_slice(name)?, |x, y| {
                        reduce::extremes(op, x, n, width, y);
                    });
                    Ok(())
                }
            ),
        }
    }

    /// [`reduce::indices`] of rows of floats: the extreme by the vector kernel, then the first place that holds it.
    fn row_indices(&self, op: Reduce, x: &[f32], n: usize, y: &mut [i64]) {
        let extreme = if op == Reduce::ArgMin { Reduce::Min } else { Reduce::Max };
        for (row, y) in x.chunks(n).zip(y) {
            let blocks = row.chunks(BLOCK).map(|block| (self.kernels.reduce)(extreme, block));
            let found = blocks.reduce(|a, b| (self.kernels.reduce)(extreme, &[a, b])).unwrap_or(0.0);
            *y = place(row, found) as i64;
        }
    }

    /// Calls `f` with `[n, width]` of `x` and `[width]` of `y` for each of the outer entries.
    fn lines<X: Sync, Y: Send>(
        &self,
        x: &[X],
        n: usize,
        width: usize,
        y: &mut [Y],
        f: impl Fn(&[X], &mut [Y]) + Sync,
    ) {
        let outer = GRAIN.div_ceil((n * width).max(1));
        self.threads.for_each_chunk_mut(y, (outer * width).max(1), |chunk, y| {
            let start = chunk * outer * n * width;
            f(&x[start..start + y.len() * n], y);
        });
    }

    /// Blocks first, then their results as long as there are several.
    fn floats(&self, op: Reduce, x: &[f32], n: usize, width: usize, y: &mut [f32]) {
        if op == Reduce::Deviations {
            return self.deviations(x, n, width, y);
        }
        let parts = n.div_ceil(BLOCK);
        if parts <= 1 {
            return self.blocks(op, x, n, width, y);
        }
        let mut partial = vec![0.0; y.len() * parts];
        self.blocks(op, x, n, width, &mut partial);
        self.floats(op, &partial, parts, width, y);
    }

    /// Sums of squared distances from the means, in a second pass over what is still in a cache if the lines are short.
    fn deviations(&self, x: &[f32], n: usize, width: usize, y: &mut [f32]) {
        let parts = n.div_ceil(BLOCK).max(1);
        let outer = GRAIN.div_ceil((n * width).max(1));
        self.threads.for_each_chunk_mut(y, (outer * width).max(1), |chunk, y| {
            let (mut means, mut partial) = (vec![0.0; width], vec![0.0; parts * width]);
            let x = &x[chunk * outer * n * width..];
            for (i, y) in y.chunks_mut(width).enumerate() {
                let x = &x[i * n * width..][..n * width];
                self.floats(Reduce::Sum, x, n, width, &mut means);
                means.iter_mut().for_each(|mean| *mean /= n as f32);
                for (x, y) in x.chunks(BLOCK * width).zip(partial.chunks_mut(width)) {
                    for (tile, y) in y.chunks_mut(COLUMNS).enumerate() {
                        let first = tile * COLUMNS;
                        (self.kernels.deviations)(&x[first..], width, &means[first..][..y.len()], y);
                    }
                }
                self.floats(Reduce::Sum, &partial, parts, width, y);
            }
        });
    }

    /// Every block of at most [`BLOCK`] entries of `x: [outer, n, width]` to one of `y: [outer, parts, width]`.
    fn blocks(&self, op: Reduce, x: &[f32], n: usize, width: usize, y: &mut [f32]) {
        let parts = n.div_ceil(BLOCK).max(1);
        let block = |index: usize| {
            let (outer, part) = (index / parts, index % parts);
            let (first, last) = (part * BLOCK, n.min((part + 1) * BLOCK));
            &x[(outer * n + first) * width..(outer * n + last) * width]
        };
        if width == 1 {
            let each = GRAIN.div_ceil(n.clamp(1, BLOCK));
            self.threads.for_each_chunk_mut(y, each, |chunk, y| {
                for (i, y) in y.iter_mut().enumerate() {
                    *y = (self.kernels.reduce)(op, block(chunk * each + i));
                }
            });
            return;
        }
        // Tiles of columns that divide a row evenly, so that a chunk never spans two rows.
        let tiles = width.div_ceil(COLUMNS).max(1);
        let columns = width.div_ceil(tiles).max(1);
        if width.is_multiple_of(columns) {
            self.threads.for_each_chunk_mut(y, columns, |chunk, y| {
                let (index, first) = (chunk / tiles, chunk % tiles * columns);
                let block = block(index);
                (self.kernels.reduce_columns)(op, block.get(first..).unwrap_or_default(), width, y);
            });
            return;
        }
        self.threads.for_each_chunk_mut(y, width, |index, y| {
            let block = block(index);
            for (tile, y) in y.chunks_mut(COLUMNS).enumerate() {
                let from = block.get(tile * COLUMNS..).unwrap_or_default();
                (self.kernels.reduce_columns)(op, from, width, y);
            }
        });
    }

    pub(super) fn cumsum(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let [_, n, width] = extents(&x);
        let slice = (n * width).max(1);
        if x.dtype() == DType::F32 {
            let x = x.as_slice::<f32>("cumsum")?;
            self.threads.for_each_chunk_mut(y.into_slice::<f32>("cumsum")?, slice, |outer, y| {
                sort::running_sums(&x[outer * slice..][..y.len()], width, y, |sum, x| sum + x);
            });
            return Ok(());
        }
        by_dtype!(x.dtype(), countable T, {
            let x = x.as_slice::<T>("cumsum")?;
            self.threads.for_each_chunk_mut(y.into_slice::<i64>("cumsum")?, slice, |outer, y| {
                sort::running_sums(&x[outer * slice..][..y.len()], width, y, |sum: i64, x| {
                    sum.wrapping_add(wide(x))
                });
            });
            Ok(())
        })
    }

    pub(super) fn softmax(&self, x: View<'_>, log: bool, y: ViewMut<'_>) -> Result<()> {
        let width = x.shape().last().max(1);
        let x = x.as_slice::<f32>("softmax")?;
        let kernel = if log { self.kernels.log_softmax } else { self.kernels.softmax };
        let each = GRAIN.div_ceil(width) * width;
        self.threads.for_each_chunk_mut(y.into_slice::<f32>("softmax")?, each, |chunk, y| {
            let x = &x[chunk * each..][..y.len()];
            for (x, y) in x.chunks(width).zip(y.chunks_mut(width)) {
                kernel(x, y);
            }
        });
        Ok(())
    }

    pub(super) fn sort(&self, x: View<'_>, descending: bool, y: ViewMut<'_>, ids: ViewMut<'_>) -> Result<()> {
        let width = x.shape().last().max(1);
        by_dtype!(x.dtype(), any T, {
            let x = x.as_slice::<T>("sort")?;
            let (y, ids) = (y.into_slice::<T>("sort")?, ids.into_slice::<i64>("sort")?);
            let mut none = vec![(); x.len() / width];
            self.threads.for_each_row3((y, width), (ids, width), (&mut none, 1), 1, |row, y, ids, _| {
                sort::reference(&x[row * width..][..width], descending, y, ids);
            });
            Ok(())
        })
    }

    pub(super) fn index_select(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (op, [_, n, width]) = ("index_select", extents(&x));
        let ids = ids.as_slice::<i64>(op)?;
        let each = (ids.len() * width).max(1);
        by_dtype!(x.dtype(), any T, {
            let x = x.as_slice::<T>(op)?;
            self.threads.for_each_chunk_mut(y.into_slice::<T>(op)?, each, |outer, y| {
                index::select_rows(&x[outer * n * width..][..n * width], n, width, ids, y);
            });
            Ok(())
        })
    }

    pub(super) fn gather(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (op, [_, n, width], [_, m, _]) = ("gather", extents(&x), extents(&ids));
        let ids = ids.as_slice::<i64>(op)?;
        let each = (m * width).max(1);
        by_dtype!(x.dtype(), any T, {
            let x = x.as_slice::<T>(op)?;
            self.threads.for_each_chunk_mut(y.into_slice::<T>(op)?, each, |outer, y| {
                let x = &x[outer * n * width..][..n * width];
                index::gather(x, n, width, &ids[outer * each..][..y.len()], m, y);
            });
            Ok(())
        })
    }

    pub(super) fn scatter_add(&self, x: View<'_>, ids: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (op, [_, m, width]) = ("scatter_add", extents(&x));
        let n = y.shape().dims()[1];
        let (ids, each) = (ids.as_slice::<i64>(op)?, m * width);
        let slice = (n * width).max(1);
        if x.dtype().is_float() {
            return by_dtype!(x.dtype(), float T, {
                let x = x.as_slice::<T>(op)?;
                self.threads.for_each_chunk_mut(y.into_slice::<T>(op)?, slice, |outer, y| {
                    let (x, ids) = (&x[outer * each..][..each], &ids[outer * each..][..each]);
                    index::scatter_add(x, ids, m, (n, width), y, |a, b| a + b);
                });
                Ok(())
            });
        }
        by_dtype!(x.dtype(), integer T, {
            let x = x.as_slice::<T>(op)?;
            self.threads.for_each_chunk_mut(y.into_slice::<T>(op)?, slice, |outer, y| {
                let (x, ids) = (&x[outer * each..][..each], &ids[outer * each..][..each]);
                index::scatter_add(x, ids, m, (n, width), y, T::wrapping_add);
            });
            Ok(())
        })
    }
}
