//! Logic on truths, element by element, with NumPy's broadcasting.

use super::{
    expect_device,
    operand::{Operand, zip},
};
use crate::{Bool, DType, Error, Result, Shape, Tensor};

/// An operation on two truths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Logical {
    /// Both.
    And,
    /// One or both.
    Or,
    /// One and not the other.
    Xor,
}

impl Logical {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::And, Self::Or, Self::Xor];

    /// Name, as the method of [`Tensor`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::And => "logical_and",
            Self::Or => "logical_or",
            Self::Xor => "logical_xor",
        }
    }
}

/// `y = a op b`. All `[C]`.
pub(crate) fn reference(op: Logical, a: Operand<'_, Bool>, b: Operand<'_, Bool>, y: &mut [Bool]) {
    match op {
        Logical::And => zip!(a, b, y, |a, b| Bool::from(a.get() & b.get())),
        Logical::Or => zip!(a, b, y, |a, b| Bool::from(a.get() | b.get())),
        Logical::Xor => zip!(a, b, y, |a, b| Bool::from(a.get() ^ b.get())),
    }
}

/// `a op b` of truths, broadcast together.
///
/// # Errors
/// Where shapes do not broadcast, devices differ, an operand is not of truths, or the device fails.
pub fn logical(op: Logical, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let name = op.name();
    expect_device(name, a.device(), b.device())?;
    for x in [a, b] {
        if x.dtype() != DType::Bool {
            return Err(Error::DType { op: name, expected: DType::Bool, got: x.dtype() });
        }
    }
    let shape = Shape::broadcast(name, a.shape(), b.shape())?;
    let mut y = Tensor::empty(a.device(), shape, DType::Bool)?;
    let (x, z) = (a.broadcast_layout(shape)?, b.broadcast_layout(shape)?);
    a.device().backend().logical(op, a.view_as(&x), b.view_as(&z), y.view_mut(name)?)?;
    Ok(y)
}
