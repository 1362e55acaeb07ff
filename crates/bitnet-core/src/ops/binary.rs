//! Arithmetic of two tensors, element by element, with NumPy's broadcasting.

use super::{
    expect_device,
    operand::{Operand, zip},
};
use crate::{DType, Error, Result, Shape, Tensor, autograd::record};

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`, of floats.
    Div,
    /// `floor(a / b)`.
    FloorDiv,
    /// `a - floor(a / b) * b`: of the sign of `b`, as in Python.
    Rem,
    /// `a` to the power of `b`, of floats.
    Pow,
    /// The smaller one; NaN where one is NaN.
    Min,
    /// The larger one; NaN where one is NaN.
    Max,
}

impl Binary {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::FloorDiv,
        Self::Rem,
        Self::Pow,
        Self::Min,
        Self::Max,
    ];

    /// Name, as the method of [`Tensor`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::FloorDiv => "floor_div",
            Self::Rem => "rem",
            Self::Pow => "pow",
            Self::Min => "minimum",
            Self::Max => "maximum",
        }
    }

    /// Whether it takes elements of this type.
    pub const fn takes(self, dtype: DType) -> bool {
        match self {
            Self::Div | Self::Pow => dtype.is_float(),
            _ => !matches!(dtype, DType::Bool),
        }
    }
}

/// The smaller one; NaN where one is NaN.
#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    let smaller = if b < a { b } else { a };
    // A NaN in `a` loses no comparison above, one in `b` does.
    if b.is_nan() { b } else { smaller }
}

/// The larger one; NaN where one is NaN.
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    let larger = if b > a { b } else { a };
    if b.is_nan() { b } else { larger }
}

/// Remainder of the sign of `b`, as Python's `%` of floats.
#[inline(always)]
fn rem(a: f32, b: f32) -> f32 {
    let r = a % b;
    if r == 0.0 {
        0.0f32.copysign(b)
    } else if (r < 0.0) != (b < 0.0) {
        r + b
    } else {
        r
    }
}

/// `floor(a / b)` that fits [`rem`], as NumPy's `floor_divide`.
#[inline(always)]
fn floor_div(a: f32, b: f32) -> f32 {
    if b == 0.0 {
        return a / b;
    }
    let r = a % b;
    let quotient = (a - r) / b - if r != 0.0 && (r < 0.0) != (b < 0.0) { 1.0 } else { 0.0 };
    if quotient == 0.0 { 0.0f32.copysign(a / b) } else { libm::roundf(quotient) }
}

/// `y = a op b` of f32. All `[C]`.
#[inline(always)]
pub fn reference(op: Binary, a: Operand<'_>, b: Operand<'_>, y: &mut [f32]) {
    match op {
        Binary::Add => zip!(a, b, y, |a, b| a + b),
        Binary::Sub => zip!(a, b, y, |a, b| a - b),
        Binary::Mul => zip!(a, b, y, |a, b| a * b),
        Binary::Div => zip!(a, b, y, |a, b| a / b),
        Binary::FloorDiv => zip!(a, b, y, |a, b| floor_div(a, b)),
        Binary::Rem => zip!(a, b, y, |a, b| rem(a, b)),
        Binary::Pow => zip!(a, b, y, |a, b| libm::powf(a, b)),
        Binary::Min => zip!(a, b, y, |a, b| min(a, b)),
        Binary::Max => zip!(a, b, y, |a, b| max(a, b)),
    }
}

/// Integers that arithmetic is defined on.
pub(crate) trait Integer: crate::Element + Ord {
    /// `self op other`, wrapping. A divisor is not zero.
    fn apply(self, op: Binary, other: Self) -> Self;
    /// `-self`, wrapping.
    fn neg(self) -> Self;
    /// -1, 0 or 1.
    fn signum(self) -> Self;
}

macro_rules! integers {
    ($($t:ty: $signum:expr),*) => {$(
        impl Integer for $t {
            #[inline(always)]
            fn apply(self, op: Binary, other: Self) -> Self {
                match op {
                    Binary::Add => self.wrapping_add(other),
                    Binary::Sub => self.wrapping_sub(other),
                    Binary::Mul => self.wrapping_mul(other),
                    Binary::Min => self.min(other),
                    Binary::Max => self.max(other),
                    Binary::Rem => {
                        let r = self.wrapping_rem(other);
                        let adjust = r != 0 && r.lt(&0) != other.lt(&0);
                        if adjust { r.wrapping_add(other) } else { r }
                    }
                    Binary::FloorDiv => {
                        let r = self.wrapping_rem(other);
                        let adjust = r != 0 && r.lt(&0) != other.lt(&0);
                        self.wrapping_div(other).wrapping_sub(adjust as Self)
                    }
                    Binary::Div | Binary::Pow => unreachable!("`takes` leaves these to floats"),
                }
            }

            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }

            #[inline(always)]
            fn signum(self) -> Self {
                ($signum)(self)
            }
        }
    )*};
}
integers!(i8: i8::signum, u8: |x: u8| x.min(1), i32: i32::signum, i64: i64::signum);

/// `y = a op b` of integers. All `[C]`.
pub(crate) fn integers<T: Integer>(op: Binary, a: Operand<'_, T>, b: Operand<'_, T>, y: &mut [T]) {
    match op {
        Binary::Add => zip!(a, b, y, |a, b| a.apply(Binary::Add, b)),
        Binary::Sub => zip!(a, b, y, |a, b| a.apply(Binary::Sub, b)),
        Binary::Mul => zip!(a, b, y, |a, b| a.apply(Binary::Mul, b)),
        Binary::Min => zip!(a, b, y, |a, b| a.apply(Binary::Min, b)),
        Binary::Max => zip!(a, b, y, |a, b| a.apply(Binary::Max, b)),
        _ => zip!(a, b, y, |a, b| a.apply(op, b)),
    }
}

/// Refuses operands on two devices, of two types, or of one that the op does not take.
fn expect_operands(op: Binary, a: &Tensor, b: &Tensor) -> Result<()> {
    let name = op.name();
    expect_device(name, a.device(), b.device())?;
    if a.dtype() != b.dtype() {
        return Err(Error::DType { op: name, expected: a.dtype(), got: b.dtype() });
    }
    if !op.takes(a.dtype()) {
        let reason = format!("not defined for {}; cast to a float first", a.dtype());
        return Err(Error::Argument { op: name, reason });
    }
    let divides = matches!(op, Binary::FloorDiv | Binary::Rem);
    if divides && !a.dtype().is_float() && !b.detach().all((), false)?.to_vec::<crate::Bool>()?[0].get() {
        return Err(Error::Argument { op: name, reason: "an integer is divided by zero".to_owned() });
    }
    Ok(())
}

/// `a op b`, broadcast together.
///
/// # Errors
/// Where shapes do not broadcast, devices or types differ, the type is not taken, an integer is divided by zero, or the device fails.
pub fn binary(op: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect_operands(op, a, b)?;
    let name = op.name();
    let shape = Shape::broadcast(name, a.shape(), b.shape())?;
    let mut y = Tensor::empty(a.device(), shape, a.dtype())?;
    let (x, z) = (a.broadcast_layout(shape)?, b.broadcast_layout(shape)?);
    a.device().backend().binary(op, a.view_as(&x), b.view_as(&z), y.view_mut(name)?)?;
    let result = y.detach();
    Ok(record(y, [a, b], || {
        let (wanted, a, b) = ([a.is_trainable(), b.is_trainable()], a.detach(), b.detach());
        move |g: &Tensor| {
            let [da, db] = vjp(op, g, &a, &b, &result, wanted)?;
            Ok([da.map(|d| d.sum_to(a.shape())).transpose()?, db.map(|d| d.sum_to(b.shape())).transpose()?])
        }
    }))
}

/// Gradients by both operands, of the shape of the result.
fn vjp(
    op: Binary,
    g: &Tensor,
    a: &Tensor,
    b: &Tensor,
    y: &Tensor,
    [first, second]: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    let by_a = || match op {
        Binary::Add | Binary::Sub | Binary::Rem => Ok(g.clone()),
        Binary::Mul => g.mul(b),
        Binary::Div => g.div(b),
        Binary::FloorDiv => g.zeros_like(),
        Binary::Pow => g.mul(&b.mul(&a.pow(&b.sub_scalar(1.0)?)?)?),
        Binary::Min | Binary::Max => share(g, a, b, y),
    };
    let by_b = || match op {
        Binary::Add => Ok(g.clone()),
        Binary::Sub => g.neg(),
        Binary::Mul => g.mul(a),
        Binary::Div => g.mul(y)?.div(b)?.neg(),
        Binary::FloorDiv => g.zeros_like(),
        Binary::Rem => g.mul(&a.floor_div(b)?)?.neg(),
        // Where `a` is zero the power does not change with `b`.
        Binary::Pow => {
            let slope = g.mul(y)?.mul(&a.log()?)?;
            a.eq_scalar(0.0)?.where_cond(&slope.zeros_like()?, &slope)
        }
        Binary::Min | Binary::Max => share(g, b, a, y),
    };
    Ok([first.then(by_a).transpose()?, second.then(by_b).transpose()?])
}

/// The part of the gradient of a minimum or maximum `y` that goes to `x`: all where it is `y`, half where `other` is too.
fn share(g: &Tensor, x: &Tensor, other: &Tensor, y: &Tensor) -> Result<Tensor> {
    let ours = x.eq(y)?.to_dtype(g.dtype())?;
    let both = x.eq(other)?.to_dtype(g.dtype())?.mul_scalar(-0.5)?.add_scalar(1.0)?;
    g.mul(&ours)?.mul(&both)
}

/// `x = x op y` in place, `y` broadcast to the shape of `x`.
///
/// # Errors
/// As [`binary`], or where `x` is shared, strided, trainable or of another shape than the result.
pub fn binary_assign(op: Binary, x: &mut Tensor, y: &Tensor) -> Result<()> {
    expect_operands(op, x, y)?;
    if x.is_trainable() || y.is_trainable() {
        let reason = "a trainable tensor is not written in place; detach it first".to_owned();
        return Err(Error::Argument { op: op.name(), reason });
    }
    let layout = y.broadcast_layout(x.shape())?;
    let device = x.device().clone();
    device.backend().binary_assign(op, x.view_mut(op.name())?, y.view_as(&layout))
}
