//! Comparisons of two tensors, element by element, with NumPy's broadcasting. NaN differs from everything.

use super::{
    expect_device,
    operand::{Operand, zip},
};
use crate::{Bool, DType, Error, Result, Shape, Tensor};

/// A comparison of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `a == b`.
    Eq,
    /// `a != b`.
    Ne,
    /// `a < b`.
    Lt,
    /// `a <= b`.
    Le,
    /// `a > b`.
    Gt,
    /// `a >= b`.
    Ge,
}

impl Compare {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Eq, Self::Ne, Self::Lt, Self::Le, Self::Gt, Self::Ge];

    /// Name, as the method of [`Tensor`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
        }
    }
}

/// `y = a op b`. All `[C]`.
#[inline(always)]
pub fn reference<T: Copy + PartialOrd>(op: Compare, a: Operand<'_, T>, b: Operand<'_, T>, y: &mut [Bool]) {
    match op {
        Compare::Eq => zip!(a, b, y, |a, b| Bool::from(a == b)),
        Compare::Ne => zip!(a, b, y, |a, b| Bool::from(a != b)),
        Compare::Lt => zip!(a, b, y, |a, b| Bool::from(a < b)),
        Compare::Le => zip!(a, b, y, |a, b| Bool::from(a <= b)),
        Compare::Gt => zip!(a, b, y, |a, b| Bool::from(a > b)),
        Compare::Ge => zip!(a, b, y, |a, b| Bool::from(a >= b)),
    }
}

/// `a op b` as a tensor of truths, broadcast together.
///
/// # Errors
/// Where shapes do not broadcast, devices or types differ, or the device fails.
pub fn compare(op: Compare, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let name = op.name();
    expect_device(name, a.device(), b.device())?;
    if a.dtype() != b.dtype() {
        return Err(Error::DType { op: name, expected: a.dtype(), got: b.dtype() });
    }
    let shape = Shape::broadcast(name, a.shape(), b.shape())?;
    let mut y = Tensor::empty(a.device(), shape, DType::Bool)?;
    let (x, z) = (a.broadcast_layout(shape)?, b.broadcast_layout(shape)?);
    a.device().backend().compare(op, a.view_as(&x), b.view_as(&z), y.view_mut(name)?)?;
    Ok(y)
}
