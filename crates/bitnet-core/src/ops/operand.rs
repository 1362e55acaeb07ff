//! What an elementwise kernel reads: a run of elements, or one that repeats.

/// An operand as long as the result.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a, T = f32> {
    /// An element for each of the result.
    Row(&'a [T]),
    /// The same element for all.
    One(T),
}

/// `y[i] = f(x[i])`, `f` in the place of a closure. The loops are written out where they are used: in a kernel of many ops the compiler
/// leaves closures as functions of their own, and those know nothing of the instruction set of the tier.
macro_rules! map {
    ($x:expr, $y:expr, |$v:ident| $f:expr) => {
        match $x {
            Operand::Row(x) => {
                for (y, &$v) in $y.iter_mut().zip(x) {
                    *y = $f;
                }
            }
            Operand::One($v) => $y.fill($f),
        }
    };
}
pub(crate) use map;

/// `y[i] = f(a[i], b[i])`, as [`map`].
macro_rules! zip {
    ($a:expr, $b:expr, $y:expr, |$v:ident, $w:ident| $f:expr) => {
        match ($a, $b) {
            (Operand::Row(a), Operand::Row(b)) => {
                for ((y, &$v), &$w) in $y.iter_mut().zip(a).zip(b) {
                    *y = $f;
                }
            }
            (Operand::Row(a), Operand::One($w)) => {
                for (y, &$v) in $y.iter_mut().zip(a) {
                    *y = $f;
                }
            }
            (Operand::One($v), Operand::Row(b)) => {
                for (y, &$w) in $y.iter_mut().zip(b) {
                    *y = $f;
                }
            }
            (Operand::One($v), Operand::One($w)) => $y.fill($f),
        }
    };
}
pub(crate) use zip;
