//! Elementwise ops: each thread takes a stretch of the result, tile by tile; halves and brain floats are widened a tile at a time.

use super::{
    kernels::Kernels,
    threads::Threads,
    transpose::Transposed,
    walk::{Run, Walk, sized},
};
use crate::{
    Bool, DType, Element, Result,
    buffer::{as_bytes, as_bytes_mut},
    ops::{Binary, Compare, Logical, Operand, Unary, binary, compare, copy, logical, select, unary},
    view::{View, ViewMut},
};
use half::{bf16, f16};

/// Elements that are worth a thread of their own.
const GRAIN: usize = 16_384;
/// Bytes of a result that is written past the caches: they would not hold it until it is read, and a line that is written in part must be read
/// first.
const PAST_CACHES: usize = 8 << 20;
/// Bytes that are written past the caches at a time.
const STREAMED: usize = 4096;

/// Runs `$body` with `$t` as the Rust type of a dtype of the list.
macro_rules! by_dtype {
    (@$dtype:expr, $t:ident: [$($kind:ident => $rust:ty),*], $body:expr, $($rest:tt)*) => {
        match $dtype {
            $(DType::$kind => {
                type $t = $rust;
                $body
            })*
            $($rest)*
        }
    };
    ($dtype:expr, $t:ident: [$($list:tt)*], $body:expr) => {
        by_dtype!(@$dtype, $t: [$($list)*], $body, other => unreachable!("the op takes no {other}"))
    };
    ($dtype:expr, float $t:ident, $body:expr) => {
        by_dtype!($dtype, $t: [F32 => f32, F16 => f16, BF16 => bf16], $body)
    };
    ($dtype:expr, integer $t:ident, $body:expr) => {
        by_dtype!($dtype, $t: [I8 => i8, U8 => u8, I32 => i32, I64 => i64], $body)
    };
    ($dtype:expr, countable $t:ident, $body:expr) => {
        by_dtype!($dtype, $t: [I8 => i8, U8 => u8, I32 => i32, I64 => i64, Bool => Bool], $body)
    };
    ($dtype:expr, any $t:ident, $body:expr) => {
        by_dtype!(@$dtype, $t: [F32 => f32, F16 => f16, BF16 => bf16, I8 => i8, U8 => u8, I32 => i32, I64 => i64,
            Bool => Bool], $body,)
    };
}
pub(super) use by_dtype;

/// A stored float that is computed with in f32.
pub(super) trait Float: Element {
    /// Its number.
    fn number(self) -> f32;
    /// The numbers of a row.
    fn read(kernels: &Kernels, x: &[Self], y: &mut [f32]);
    /// The nearest stored floats of a row of numbers.
    fn write(kernels: &Kernels, x: &[f32], y: &mut [Self]);

    /// The numbers of a tile: itself if it is f32, widened into `wide` otherwise.
    fn widen<'a>(kernels: &Kernels, row: Operand<'a, Self>, wide: &'a mut Vec<f32>) -> Operand<'a> {
        match row {
            Operand::One(x) => Operand::One(x.number()),
            Operand::Row(row) => {
                let wide = sized(wide, row.len());
                Self::read(kernels, row, wide);
                Operand::Row(wide)
            }
        }
    }

    /// Has `f` write a tile of f32 and stores it in `y`.
    fn narrow(kernels: &Kernels, y: &mut [Self], wide: &mut Vec<f32>, f: impl FnOnce(&mut [f32])) {
        let wide = sized(wide, y.len());
        f(wide);
        Self::write(kernels, wide, y);
    }
}

impl Float for f32 {
    fn number(self) -> f32 {
        self
    }

    fn read(_: &Kernels, x: &[Self], y: &mut [f32]) {
        y.copy_from_slice(x);
    }

    fn write(_: &Kernels, x: &[f32], y: &mut [Self]) {
        y.copy_from_slice(x);
    }

    fn widen<'a>(_: &Kernels, row: Operand<'a, Self>, _: &'a mut Vec<f32>) -> Operand<'a> {
        row
    }

    fn narrow(_: &Kernels, y: &mut [Self], _: &mut Vec<f32>, f: impl FnOnce(&mut [f32])) {
        f(y);
    }
}

impl Float for f16 {
    fn number(self) -> f32 {
        self.to_f32_const()
    }

    fn read(kernels: &Kernels, x: &[Self], y: &mut [f32]) {
        (kernels.read_f16)(as_bytes(x), y);
    }

    fn write(kernels: &Kernels, x: &[f32], y: &mut [Self]) {
        (kernels.write_f16)(x, as_bytes_mut(y));
    }
}

impl Float for bf16 {
    fn number(self) -> f32 {
        self.to_f32_const()
    }

    fn read(kernels: &Kernels, x: &[Self], y: &mut [f32]) {
        (kernels.read_bf16)(as_bytes(x), y);
    }

    fn write(kernels: &Kernels, x: &[f32], y: &mut [Self]) {
        (kernels.write_bf16)(x, as_bytes_mut(y));
    }
}

/// What a thread keeps from tile to tile.
struct Scratch<T, const N: usize> {
    operands: Operands<T, N>,
    /// The tile of the result as numbers.
    wide: Vec<f32>,
    /// What it held before, as it is stored and as numbers.
    old: Vec<T>,
    old_wide: Vec<f32>,
}

/// Elements brought together and numbers widened for each operand.
struct Operands<T, const N: usize> {
    raw: [Vec<T>; N],
    wide: [Vec<f32>; N],
}

impl<T: Element, const N: usize> Operands<T, N> {
    /// The operands of a tile as they are stored.
    fn load<'a>(&'a mut self, data: [&'a [T]; N], runs: [Run<'a>; N], len: usize) -> [Operand<'a, T>; N] {
        let mut raw = self.raw.iter_mut();
        std::array::from_fn(|n| runs[n].load(data[n], len, raw.next().expect("one for each operand")))
    }
}

impl<T: Float, const N: usize> Operands<T, N> {
    /// The operands of a tile in f32.
    fn widen<'a>(
        &'a mut self,
        kernels: &Kernels,
        data: [&'a [T]; N],
        runs: [Run<'a>; N],
        len: usize,
    ) -> [Operand<'a>; N] {
        let mut scratch = self.raw.iter_mut().zip(&mut self.wide);
        std::array::from_fn(|n| {
            let (raw, wide) = scratch.next().expect("one for each operand");
            T::widen(kernels, runs[n].load(data[n], len, raw), wide)
        })
    }
}

impl<T: Element, const N: usize> Scratch<T, N> {
    fn new() -> Self {
        let operands =
            Operands { raw: std::array::from_fn(|_| Vec::new()), wide: std::array::from_fn(|_| Vec::new()) };
        Self { operands, wide: Vec::new(), old: Vec::new(), old_wide: Vec::new() }
    }
}

/// Calls `f` with every tile of `y`, the elements of a walk from `start` on, and where the operands have its elements.
fn fill<Y, const N: usize>(
    walk: &Walk<N>,
    start: usize,
    y: &mut [Y],
    mut f: impl FnMut([Run<'_>; N], &mut [Y]),
) {
    walk.tiles(start, y.len(), |position, count, runs| f(runs, &mut y[position - start..][..count]));
}

/// The kernels and threads that elementwise ops run with.
pub(super) struct Elementwise {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: Threads,
}

impl Elementwise {
    /// Calls `f` with every tile of `y` and where the operands have its elements.
    fn tiles<T: Element, Y: Element, const N: usize>(
        &self,
        walk: &Walk<N>,
        y: &mut [Y],
        f: impl Fn(&mut Scratch<T, N>, [Run<'_>; N], &mut [Y]) + Sync,
    ) {
        // Narrower results wait for their operands more than for being written.
        if size_of::<Y>() < 4 || size_of_val(y) < PAST_CACHES {
            return self.tiles_in_place(walk, y, f);
        }
        self.threads.for_each_chunk_mut(y, GRAIN, |chunk, y| {
            let (mut start, mut scratch, mut tile) = (chunk * GRAIN, Scratch::new(), Vec::new());
            for y in y.chunks_mut(STREAMED / size_of::<Y>()) {
                let tile = sized(&mut tile, y.len());
                fill(walk, start, tile, |runs, y| f(&mut scratch, runs, y));
                (self.kernels.stream)(as_bytes(tile), size_of_val(y), as_bytes_mut(y), size_of_val(tile));
                start += tile.len();
            }
            (self.kernels.fence)();
        });
    }

    /// As `tiles`, with what is in `y` still there.
    fn tiles_in_place<T: Element, Y: Element, const N: usize>(
        &self,
        walk: &Walk<N>,
        y: &mut [Y],
        f: impl Fn(&mut Scratch<T, N>, [Run<'_>; N], &mut [Y]) + Sync,
    ) {
        self.threads.for_each_chunk_mut(y, GRAIN, |chunk, y| {
            let mut scratch = Scratch::new();
            fill(walk, chunk * GRAIN, y, |runs, y| f(&mut scratch, runs, y));
        });
    }

    /// `y` from `N` operands of floats, by a kernel over f32.
    fn floats<T: Float, const N: usize>(
        &self,
        walk: &Walk<N>,
        data: [&[T]; N],
        y: &mut [T],
        kernel: impl Fn([Operand<'_>; N], &mut [f32]) + Sync,
    ) {
        self.tiles(walk, y, |Scratch { operands, wide, .. }, runs, y| {
            let operands = operands.widen(self.kernels, data, runs, y.len());
            T::narrow(self.kernels, y, wide, |y| kernel(operands, y));
        });
    }

    pub(super) fn unary(&self, op: Unary, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([x.layout()]));
        if x.dtype().is_float() {
            return by_dtype!(x.dtype(), float T, {
                let y = y.into_slice::<T>(name)?;
                self.floats(&walk, [x.whole::<T>(name)?], y, |[x], y| (self.kernels.unary)(op, x, y));
                Ok(())
            });
        }
        by_dtype!(x.dtype(), integer T, {
            let x = x.whole::<T>(name)?;
            self.tiles(&walk, y.into_slice::<T>(name)?, |scratch, runs, y| {
                let [x] = scratch.operands.load([x], runs, y.len());
                unary::integers(op, x, y);
            });
            Ok(())
        })
    }

    pub(super) fn binary(&self, op: Binary, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([a.layout(), b.layout()]));
        if a.dtype().is_float() {
            return by_dtype!(a.dtype(), float T, {
                let (data, y) = ([a.whole::<T>(name)?, b.whole::<T>(name)?], y.into_slice::<T>(name)?);
                self.floats(&walk, data, y, |[a, b], y| (self.kernels.binary)(op, a, b, y));
                Ok(())
            });
        }
        by_dtype!(a.dtype(), integer T, {
            let data = [a.whole::<T>(name)?, b.whole::<T>(name)?];
            self.tiles(&walk, y.into_slice::<T>(name)?, |scratch, runs, y| {
                let [a, b] = scratch.operands.load(data, runs, y.len());
                binary::integers(op, a, b, y);
            });
            Ok(())
        })
    }

    pub(super) fn binary_assign(&self, op: Binary, x: ViewMut<'_>, y: View<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([y.layout()]));
        if y.dtype().is_float() {
            return by_dtype!(y.dtype(), float T, {
                let (x, y) = (x.into_slice::<T>(name)?, y.whole::<T>(name)?);
                self.tiles_in_place(&walk, x, |Scratch { operands, wide, old_wide, .. }, runs, x| {
                    let (old, [y]) = (sized(old_wide, x.len()), operands.widen(self.kernels, [y], runs, x.len()));
                    T::read(self.kernels, x, old);
                    let old = Operand::Row(&*old);
                    T::narrow(self.kernels, x, wide, |x| (self.kernels.binary)(op, old, y, x));
                });
                Ok(())
            });
        }
        by_dtype!(y.dtype(), integer T, {
            let (x, y) = (x.into_slice::<T>(name)?, y.whole::<T>(name)?);
            self.tiles_in_place(&walk, x, |Scratch { operands, old, .. }, runs, x| {
                let (old, [y]) = (sized(old, x.len()), operands.load([y], runs, x.len()));
                old.copy_from_slice(x);
                binary::integers(op, Operand::Row(old), y, x);
            });
            Ok(())
        })
    }

    pub(super) fn compare(&self, op: Compare, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([a.layout(), b.layout()]));
        let y = y.into_slice::<Bool>(name)?;
        if a.dtype().is_float() {
            return by_dtype!(a.dtype(), float T, {
                let data = [a.whole::<T>(name)?, b.whole::<T>(name)?];
                self.tiles(&walk, y, |scratch, runs, y| {
                    let [a, b] = scratch.operands.widen(self.kernels, data, runs, y.len());
                    (self.kernels.compare)(op, a, b, y);
                });
                Ok(())
            });
        }
        by_dtype!(a.dtype(), any T, {
            let data = [a.whole::<T>(name)?, b.whole::<T>(name)?];
            self.tiles(&walk, y, |scratch, runs, y| {
                let [a, b] = scratch.operands.load(data, runs, y.len());
                compare::reference(op, a, b, y);
            });
            Ok(())
        })
    }

    pub(super) fn logical(&self, op: Logical, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([a.layout(), b.layout()]));
        let data = [a.whole::<Bool>(name)?, b.whole::<Bool>(name)?];
        self.tiles(&walk, y.into_slice::<Bool>(name)?, |scratch, runs, y| {
            let [a, b] = scratch.operands.load(data, runs, y.len());
            logical::reference(op, a, b, y);
        });
        Ok(())
    }

    pub(super) fn select(&self, c: View<'_>, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let walk = Walk::new([c.layout(), a.layout(), b.layout()]);
        let c = c.whole::<Bool>("select")?;
        by_dtype!(a.dtype(), any T, {
            let (a, b) = (a.whole::<T>("select")?, b.whole::<T>("select")?);
            self.tiles(&walk, y.into_slice::<T>("select")?, |scratch, [which, first, second], y| {
                let [left, right, _] = &mut scratch.operands.raw;
                let (mut truths, len) = (Vec::new(), y.len());
                let c = which.gather(c, len, &mut truths);
                select::reference(c, first.gather(a, len, left), second.gather(b, len, right), y);
            });
            Ok(())
        })
    }

    pub(super) fn copy(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        by_dtype!(x.dtype(), any T, {
            let data = x.whole::<T>("copy")?;
            if !y.layout().is_contiguous() {
                place(x, data, y.layout(), y.into_whole::<T>("copy")?);
                return Ok(());
            }
            let (walk, y) = (Walk::new([x.layout()]), y.into_slice::<T>("copy")?);
            if y.is_empty() {
                return Ok(());
            }
            if let Some(transposed) = Transposed::new(&walk) {
                transposed.copy(self.kernels, &self.threads, size_of_val(y) >= PAST_CACHES, data, y);
                return Ok(());
            }
            if let Some((lines, extent)) = walk.lines() {
                let each = GRAIN.div_ceil(extent);
                self.threads.for_each_chunk_mut(y, each * extent, |chunk, y| {
                    lines.tiles(chunk * each, y.len() / extent, |first, count, [run]| {
                        let y = &mut y[(first - chunk * each) * extent..][..count * extent];
                        for (i, y) in y.chunks_mut(extent).enumerate() {
                            y.copy_from_slice(&data[run.place(i)..][..extent]);
                        }
                    });
                });
                return Ok(());
            }
            self.tiles(&walk, y, |scratch: &mut Scratch<T, 1>, [run], y| {
                y.copy_from_slice(run.gather(data, y.len(), &mut scratch.operands.raw[0]));
            });
            Ok(())
        })
    }

    pub(super) fn cast(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let walk = Walk::new([x.layout()]);
        if x.dtype().is_float() && y.dtype().is_float() {
            return by_dtype!(x.dtype(), float X, {
                let x = x.whole::<X>("cast")?;
                by_dtype!(y.dtype(), float Y, {
                    self.tiles(&walk, y.into_slice::<Y>("cast")?, |Scratch { operands, wide, .. }, [run], y| {
                        let x = run.gather(x, y.len(), &mut operands.raw[0]);
                        Y::narrow(self.kernels, y, wide, |wide| X::read(self.kernels, x, wide));
                    });
                    Ok(())
                })
            });
        }
        by_dtype!(x.dtype(), any X, {
            let x = x.whole::<X>("cast")?;
            by_dtype!(y.dtype(), any Y, {
                self.tiles(&walk, y.into_slice::<Y>("cast")?, |scratch: &mut Scratch<X, 1>, [run], y| {
                    copy::cast(run.gather(x, y.len(), &mut scratch.operands.raw[0]), y);
                });
                Ok(())
            })
        })
    }
}

/// Copies into a strided place.
fn place<T: Element>(x: View<'_>, data: &[T], layout: &crate::Layout, y: &mut [T]) {
    let mut scratch = Vec::new();
    Walk::new([x.layout(), layout]).tiles(0, x.shape().len(), |_, count, [from, to]| {
        let row = from.gather(data, count, &mut scratch);
        match to {
            Run::Line { start, stride: 1 } => y[start..start + count].copy_from_slice(row),
            Run::Line { start, stride } => {
                y[start..].iter_mut().step_by(stride.max(1)).zip(row).for_each(|(y, &x)| *y = x);
            }
            Run::At(places) => places.iter().zip(row).for_each(|(&i, &x)| y[i] = x),
        }
    });
}
