//! Elementwise ops: each thread takes a stretch of the result, tile by tile; halves and brain floats are widened a tile at a time.

use super::{
    kernels::Kernels,
    threads::Threads,
    walk::{Run, TILE, Walk},
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
    /// The numbers of a tile: itself if it is f32, widened into `wide` otherwise.
    fn widen<'a>(kernels: &Kernels, row: Operand<'a, Self>, wide: &'a mut [f32]) -> Operand<'a>;
    /// Has `f` write a tile of f32 and stores it in `y`.
    fn narrow(kernels: &Kernels, y: &mut [Self], f: impl FnOnce(&mut [f32]));
}

impl Float for f32 {
    fn widen<'a>(_: &Kernels, row: Operand<'a, Self>, _: &'a mut [f32]) -> Operand<'a> {
        row
    }

    fn narrow(_: &Kernels, y: &mut [Self], f: impl FnOnce(&mut [f32])) {
        f(y);
    }
}

impl Float for f16 {
    fn widen<'a>(kernels: &Kernels, row: Operand<'a, Self>, wide: &'a mut [f32]) -> Operand<'a> {
        match row {
            Operand::One(x) => Operand::One(x.to_f32_const()),
            Operand::Row(row) => {
                (kernels.read_f16)(as_bytes(row), wide);
                Operand::Row(wide)
            }
        }
    }

    fn narrow(kernels: &Kernels, y: &mut [Self], f: impl FnOnce(&mut [f32])) {
        let wide = &mut [0.0; TILE][..y.len()];
        f(wide);
        (kernels.write_f16)(wide, as_bytes_mut(y));
    }
}

impl Float for bf16 {
    fn widen<'a>(_: &Kernels, row: Operand<'a, Self>, wide: &'a mut [f32]) -> Operand<'a> {
        match row {
            Operand::One(x) => Operand::One(x.to_f32_const()),
            Operand::Row(row) => {
                wide.iter_mut().zip(row).for_each(|(y, x)| *y = x.to_f32_const());
                Operand::Row(wide)
            }
        }
    }

    fn narrow(_: &Kernels, y: &mut [Self], f: impl FnOnce(&mut [f32])) {
        let wide = &mut [0.0; TILE][..y.len()];
        f(wide);
        y.iter_mut().zip(wide).for_each(|(y, x)| *y = Self::from_f32_const(*x));
    }
}

/// Scratch for one operand.
struct Scratch<T>([T; TILE], [f32; TILE]);

impl<T: Element> Scratch<T> {
    fn new() -> Self {
        Self([T::default(); TILE], [0.0; TILE])
    }
}

impl<T: Float> Scratch<T> {
    fn load<'a>(&'a mut self, kernels: &Kernels, data: &'a [T], run: Run<'a>, len: usize) -> Operand<'a> {
        T::widen(kernels, run.load(data, &mut self.0[..len]), &mut self.1[..len])
    }
}

/// The kernels and threads that elementwise ops run with.
pub(super) struct Elementwise<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: &'a Threads,
}

impl Elementwise<'_> {
    /// Calls `f` with every tile of `y` and where the operands have its elements.
    fn tiles<Y: Send, const N: usize>(
        &self,
        walk: &Walk<N>,
        y: &mut [Y],
        f: impl Fn([Run<'_>; N], &mut [Y]) + Sync,
    ) {
        self.threads.for_each_chunk_mut(y, GRAIN, |chunk, y| {
            let start = chunk * GRAIN;
            walk.tiles(start, y.len(), |position, count, runs| {
                f(runs, &mut y[position - start..][..count]);
            });
        });
    }

    pub(super) fn unary(&self, op: Unary, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let walk = Walk::new([x.layout()]);
        if x.dtype().is_float() {
            return by_dtype!(x.dtype(), float T, self.unary_floats::<T>(op, &walk, x, y));
        }
        by_dtype!(x.dtype(), integer T, {
            let (x, y) = (x.whole::<T>(op.name())?, y.into_slice::<T>(op.name())?);
            self.tiles(&walk, y, |[run], y| {
                let mut scratch = [T::default(); TILE];
                unary::integers(op, run.load(x, &mut scratch[..y.len()]), y);
            });
            Ok(())
        })
    }

    fn unary_floats<T: Float>(&self, op: Unary, walk: &Walk<1>, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (x, y) = (x.whole::<T>(op.name())?, y.into_slice::<T>(op.name())?);
        self.tiles(walk, y, |[run], y| {
            let (mut scratch, len) = (Scratch::new(), y.len());
            let x = scratch.load(self.kernels, x, run, len);
            T::narrow(self.kernels, y, |y| (self.kernels.unary)(op, x, y));
        });
        Ok(())
    }

    pub(super) fn binary(&self, op: Binary, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([a.layout(), b.layout()]));
        if a.dtype().is_float() {
            return by_dtype!(a.dtype(), float T, self.binary_floats::<T>(op, &walk, [a, b], y));
        }
        by_dtype!(a.dtype(), integer T, {
            let (a, b, y) = (a.whole::<T>(name)?, b.whole::<T>(name)?, y.into_slice::<T>(name)?);
            self.tiles(&walk, y, |[first, second], y| {
                let (mut left, mut right) = ([T::default(); TILE], [T::default(); TILE]);
                let a = first.load(a, &mut left[..y.len()]);
                binary::integers(op, a, second.load(b, &mut right[..y.len()]), y);
            });
            Ok(())
        })
    }

    fn binary_floats<T: Float>(
        &self,
        op: Binary,
        walk: &Walk<2>,
        [a, b]: [View<'_>; 2],
        y: ViewMut<'_>,
    ) -> Result<()> {
        let (a, b) = (a.whole::<T>(op.name())?, b.whole::<T>(op.name())?);
        self.tiles(walk, y.into_slice::<T>(op.name())?, |[first, second], y| {
            let (mut left, mut right, len) = (Scratch::new(), Scratch::new(), y.len());
            let a = left.load(self.kernels, a, first, len);
            let b = right.load(self.kernels, b, second, len);
            T::narrow(self.kernels, y, |y| (self.kernels.binary)(op, a, b, y));
        });
        Ok(())
    }

    pub(super) fn binary_assign(&self, op: Binary, x: ViewMut<'_>, y: View<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([y.layout()]));
        if y.dtype().is_float() {
            return by_dtype!(y.dtype(), float T, self.assign_floats::<T>(op, &walk, x, y));
        }
        by_dtype!(y.dtype(), integer T, {
            let (x, y) = (x.into_slice::<T>(name)?, y.whole::<T>(name)?);
            self.tiles(&walk, x, |[run], x| {
                let (mut old, mut scratch) = ([T::default(); TILE], [T::default(); TILE]);
                let old = &mut old[..x.len()];
                old.copy_from_slice(x);
                binary::integers(op, Operand::Row(old), run.load(y, &mut scratch[..x.len()]), x);
            });
            Ok(())
        })
    }

    fn assign_floats<T: Float>(&self, op: Binary, walk: &Walk<1>, x: ViewMut<'_>, y: View<'_>) -> Result<()> {
        let (x, y) = (x.into_slice::<T>(op.name())?, y.whole::<T>(op.name())?);
        self.tiles(walk, x, |[run], x| {
            let (mut left, mut right, len) = (Scratch::new(), Scratch::new(), x.len());
            left.0[..len].copy_from_slice(x);
            let Scratch(old, wide) = &mut left;
            let old = T::widen(self.kernels, Operand::Row(&old[..len]), &mut wide[..len]);
            let y = right.load(self.kernels, y, run, len);
            T::narrow(self.kernels, x, |x| (self.kernels.binary)(op, old, y, x));
        });
        Ok(())
    }

    pub(super) fn compare(&self, op: Compare, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([a.layout(), b.layout()]));
        let y = y.into_slice::<Bool>(name)?;
        if a.dtype().is_float() {
            return by_dtype!(a.dtype(), float T, {
                let (a, b) = (a.whole::<T>(name)?, b.whole::<T>(name)?);
                self.tiles(&walk, y, |[first, second], y| {
                    let (mut left, mut right, len) = (Scratch::new(), Scratch::new(), y.len());
                    let a = left.load(self.kernels, a, first, len);
                    (self.kernels.compare)(op, a, right.load(self.kernels, b, second, len), y);
                });
                Ok(())
            });
        }
        by_dtype!(a.dtype(), any T, {
            let (a, b) = (a.whole::<T>(name)?, b.whole::<T>(name)?);
            self.tiles(&walk, y, |[first, second], y| {
                let (mut left, mut right) = ([T::default(); TILE], [T::default(); TILE]);
                let a = first.load(a, &mut left[..y.len()]);
                compare::reference(op, a, second.load(b, &mut right[..y.len()]), y);
            });
            Ok(())
        })
    }

    pub(super) fn logical(&self, op: Logical, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (name, walk) = (op.name(), Walk::new([a.layout(), b.layout()]));
        let (a, b) = (a.whole::<Bool>(name)?, b.whole::<Bool>(name)?);
        self.tiles(&walk, y.into_slice::<Bool>(name)?, |[first, second], y| {
            let (mut left, mut right) = ([Bool::default(); TILE], [Bool::default(); TILE]);
            let a = first.load(a, &mut left[..y.len()]);
            logical::reference(op, a, second.load(b, &mut right[..y.len()]), y);
        });
        Ok(())
    }

    pub(super) fn select(&self, c: View<'_>, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let walk = Walk::new([c.layout(), a.layout(), b.layout()]);
        let c = c.whole::<Bool>("select")?;
        by_dtype!(a.dtype(), any T, {
            let (a, b) = (a.whole::<T>("select")?, b.whole::<T>("select")?);
            self.tiles(&walk, y.into_slice::<T>("select")?, |[which, first, second], y| {
                let (mut left, mut right) = ([T::default(); TILE], [T::default(); TILE]);
                let (mut truths, len) = ([Bool::default(); TILE], y.len());
                let c = which.gather(c, &mut truths[..len]);
                let a = first.gather(a, &mut left[..len]);
                select::reference(c, a, second.gather(b, &mut right[..len]), y);
            });
            Ok(())
        })
    }

    pub(super) fn copy(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        by_dtype!(x.dtype(), any T, {
            let data = x.whole::<T>("copy")?;
            if !y.as_view().layout().is_contiguous() {
                place(x, data, y.layout(), y.into_whole::<T>("copy")?);
                return Ok(());
            }
            self.tiles(&Walk::new([x.layout()]), y.into_slice::<T>("copy")?, |[run], y| match run {
                Run::Line { start, stride: 1 } => y.copy_from_slice(&data[start..start + y.len()]),
                run => {
                    let mut scratch = [T::default(); TILE];
                    y.copy_from_slice(run.gather(data, &mut scratch[..y.len()]));
                }
            });
            Ok(())
        })
    }

    pub(super) fn cast(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        by_dtype!(x.dtype(), any X, {
            let x = x.as_slice::<X>("cast")?;
            by_dtype!(y.dtype(), any Y, {
                self.threads.for_each_chunk_mut(y.into_slice::<Y>("cast")?, GRAIN, |chunk, y| {
                    copy::cast(&x[chunk * GRAIN..][..y.len()], y);
                });
                Ok(())
            })
        })
    }
}

/// Copies into a strided place.
fn place<T: Element>(x: View<'_>, data: &[T], layout: crate::Layout, y: &mut [T]) {
    Walk::new([x.layout(), layout]).tiles(0, x.shape().len(), |_, count, [from, to]| {
        let mut scratch = [T::default(); TILE];
        let row = from.gather(data, &mut scratch[..count]);
        match to {
            Run::Line { start, stride: 1 } => y[start..start + count].copy_from_slice(row),
            Run::Line { start, stride } => {
                y[start..].iter_mut().step_by(stride.max(1)).zip(row).for_each(|(y, &x)| *y = x);
            }
            Run::At(places) => places.iter().zip(row).for_each(|(&i, &x)| y[i] = x),
        }
    });
}
