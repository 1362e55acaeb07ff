//! What an elementwise kernel reads: a run of elements, or one that repeats.

/// An operand as long as the result.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a, T = f32> {
    /// An element for each of the result.
    Row(&'a [T]),
    /// The same element for all.
    One(T),
}

/// `y[i] = f(x[i])`.
#[inline(always)]
pub(crate) fn map<T: Copy, Y>(x: Operand<'_, T>, y: &mut [Y], f: impl Fn(T) -> Y) {
    match x {
        Operand::Row(x) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x)),
        Operand::One(x) => y.iter_mut().for_each(|y| *y = f(x)),
    }
}

/// `y[i] = f(a[i], b[i])`.
#[inline(always)]
pub(crate) fn zip<T: Copy, Y>(a: Operand<'_, T>, b: Operand<'_, T>, y: &mut [Y], f: impl Fn(T, T) -> Y) {
    match (a, b) {
        (Operand::Row(a), Operand::Row(b)) => {
            y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = f(a, b));
        }
        (a, Operand::One(b)) => map(a, y, |a| f(a, b)),
        (Operand::One(a), b) => map(b, y, |b| f(a, b)),
    }
}
