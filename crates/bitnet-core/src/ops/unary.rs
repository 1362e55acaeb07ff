//! Functions of one number, element by element.

use super::operand::{Operand, map};
use crate::{DType, Error, Result, Tensor, autograd::record, math, ops::binary::Integer};
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `-x`.
    Neg,
    /// `|x|`.
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// `x²`.
    Square,
    /// Square root.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `1 / x`.
    Recip,
    /// `e^x`.
    Exp,
    /// `e^x - 1`.
    ExpM1,
    /// Natural logarithm.
    Log,
    /// `ln(1 + x)`.
    Log1P,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// Next integer below.
    Floor,
    /// Next integer above.
    Ceil,
    /// Nearest integer, half to even.
    Round,
    /// Next integer towards zero.
    Trunc,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
    /// `x Φ(x)`.
    Gelu,
    /// [`Unary::Gelu`] by a hyperbolic tangent.
    GeluTanh,
    /// `x / (1 + e^-x)`.
    Silu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x` above zero, this times `x` below.
    LeakyRelu(f32),
    /// The nearest number between these two.
    Clamp(f32, f32),
}

impl Unary {
    /// All of them, with usual arguments.
    pub const ALL: [Self; 28] = [
        Self::Neg,
        Self::Abs,
        Self::Sign,
        Self::Square,
        Self::Sqrt,
        Self::Rsqrt,
        Self::Recip,
        Self::Exp,
        Self::ExpM1,
        Self::Log,
        Self::Log1P,
        Self::Sin,
        Self::Cos,
        Self::Tanh,
        Self::Erf,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Trunc,
        Self::Relu,
        Self::Relu2,
        Self::Gelu,
        Self::GeluTanh,
        Self::Silu,
        Self::Sigmoid,
        Self::Softplus,
        Self::LeakyRelu(0.01),
        Self::Clamp(-1.0, 1.0),
    ];

    /// Name, as the method of [`Tensor`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Neg => "neg",
            Self::Abs => "abs",
            Self::Sign => "sign",
            Self::Square => "square",
            Self::Sqrt => "sqrt",
            Self::Rsqrt => "rsqrt",
            Self::Recip => "recip",
            Self::Exp => "exp",
            Self::ExpM1 => "exp_m1",
            Self::Log => "log",
            Self::Log1P => "log_1p",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Tanh => "tanh",
            Self::Erf => "erf",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Round => "round",
            Self::Trunc => "trunc",
            Self::Relu => "relu",
            Self::Relu2 => "relu2",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Softplus => "softplus",
            Self::LeakyRelu(_) => "leaky_relu",
            Self::Clamp(..) => "clamp",
        }
    }

    /// Whether it takes elements of this type.
    pub const fn takes(self, dtype: DType) -> bool {
        match dtype {
            DType::Bool => false,
            DType::F32 | DType::F16 | DType::BF16 => true,
            _ => matches!(self, Self::Neg | Self::Abs | Self::Sign | Self::Square | Self::Relu),
        }
    }
}

/// -1, 0 or 1; NaN of NaN.
#[inline(always)]
fn sign(x: f32) -> f32 {
    let positive = if x > 0.0 { 1.0 } else { x };
    if x < 0.0 { -1.0 } else { positive }
}

/// `max(x, 0)`; NaN of NaN.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let raised = if x < low { low } else { x };
    if raised > high { high } else { raised }
}

/// `y = op(x)` of f32. Both `[C]`.
#[inline(always)]
pub fn reference(op: Unary, x: Operand<'_>, y: &mut [f32]) {
    match op {
        Unary::Neg => map!(x, y, |x| -x),
        Unary::Abs => map!(x, y, |x| f32::abs(x)),
        Unary::Sign => map!(x, y, |x| sign(x)),
        Unary::Square => map!(x, y, |x| x * x),
        Unary::Sqrt => map!(x, y, |x| f32::sqrt(x)),
        Unary::Rsqrt => map!(x, y, |x| 1.0 / x.sqrt()),
        Unary::Recip => map!(x, y, |x| 1.0 / x),
        Unary::Exp => map!(x, y, |x| math::exp(x)),
        Unary::ExpM1 => map!(x, y, |x| math::exp_m1(x)),
        Unary::Log => map!(x, y, |x| math::ln(x)),
        Unary::Log1P => map!(x, y, |x| math::ln_1p(x)),
        Unary::Sin => map!(x, y, |x| libm::sinf(x)),
        Unary::Cos => map!(x, y, |x| libm::cosf(x)),
        Unary::Tanh => map!(x, y, |x| math::tanh(x)),
        Unary::Erf => map!(x, y, |x| math::erf(x)),
        Unary::Floor => map!(x, y, |x| f32::floor(x)),
        Unary::Ceil => map!(x, y, |x| f32::ceil(x)),
        Unary::Round => map!(x, y, |x| f32::round_ties_even(x)),
        Unary::Trunc => map!(x, y, |x| f32::trunc(x)),
        Unary::Relu => map!(x, y, |x| relu(x)),
        Unary::Relu2 => map!(x, y, |x| relu(x) * relu(x)),
        Unary::Gelu => map!(x, y, |x| math::gelu(x)),
        Unary::GeluTanh => map!(x, y, |x| math::gelu_tanh(x)),
        Unary::Silu => map!(x, y, |x| math::silu(x)),
        Unary::Sigmoid => map!(x, y, |x| math::sigmoid(x)),
        Unary::Softplus => map!(x, y, |x| math::softplus(x)),
        Unary::LeakyRelu(slope) => map!(x, y, |x| if x < 0.0 { slope * x } else { x }),
        Unary::Clamp(low, high) => map!(x, y, |x| clamp(x, low, high)),
    }
}

/// `y = op(x)` of integers. Both `[C]`.
pub(crate) fn integers<T: Integer>(op: Unary, x: Operand<'_, T>, y: &mut [T]) {
    let zero = T::default();
    match op {
        Unary::Neg => map!(x, y, |x| T::neg(x)),
        Unary::Abs => map!(x, y, |x| if x < zero { x.neg() } else { x }),
        Unary::Sign => map!(x, y, |x| T::signum(x)),
        Unary::Square => map!(x, y, |x| x.apply(super::Binary::Mul, x)),
        Unary::Relu => map!(x, y, |x| x.max(zero)),
        _ => unreachable!("`takes` leaves these to floats"),
    }
}

/// `op(x)`.
///
/// # Errors
/// Where the op does not take the type or the device fails.
pub fn unary(op: Unary, x: &Tensor) -> Result<Tensor> {
    let name = op.name();
    if !op.takes(x.dtype()) {
        let reason = format!("not defined for {}; cast to a float first", x.dtype());
        return Err(Error::Argument { op: name, reason });
    }
    let mut y = Tensor::empty(x.device(), x.shape(), x.dtype())?;
    x.device().backend().unary(op, x.view(), y.view_mut(name)?)?;
    let result = y.detach();
    Ok(record(y, [x], || {
        let x = x.detach();
        move |g: &Tensor| Ok([Some(vjp(op, g, &x, &result)?)])
    }))
}

/// Gradient by `x` of `y = op(x)`.
fn vjp(op: Unary, g: &Tensor, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let mask = |condition: Tensor| condition.where_cond(g, &g.zeros_like()?);
    match op {
        Unary::Neg => g.neg(),
        Unary::Abs => g.mul(&x.sign()?),
        Unary::Square => g.mul(x)?.mul_scalar(2.0),
        Unary::Sqrt => g.div(y)?.mul_scalar(0.5),
        Unary::Rsqrt => g.mul(y)?.div(x)?.mul_scalar(-0.5),
        Unary::Recip => g.mul(&y.square()?)?.neg(),
        Unary::Exp => g.mul(y),
        Unary::ExpM1 => g.mul(&y.add_scalar(1.0)?),
        Unary::Log => g.div(x),
        Unary::Log1P => g.div(&x.add_scalar(1.0)?),
        Unary::Sin => g.mul(&x.cos()?),
        Unary::Cos => g.mul(&x.sin()?)?.neg(),
        Unary::Tanh => g.mul(&one_minus(&y.square()?)?),
        Unary::Erf => g.mul(&x.square()?.neg()?.exp()?.mul_scalar(f64::from(FRAC_2_SQRT_PI))?),
        Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => g.zeros_like(),
        Unary::Relu => mask(x.gt_scalar(0.0)?),
        Unary::Relu2 => g.mul(&x.relu()?)?.mul_scalar(2.0),
        Unary::Gelu => g.mul(&gelu_slope(x)?),
        Unary::GeluTanh => g.mul(&gelu_tanh_slope(x)?),
        Unary::Silu => {
            let s = x.sigmoid()?;
            g.mul(&s.mul(&x.mul(&one_minus(&s)?)?.add_scalar(1.0)?)?)
        }
        Unary::Sigmoid => g.mul(&y.mul(&one_minus(y)?)?),
        Unary::Softplus => g.mul(&x.sigmoid()?),
        Unary::LeakyRelu(slope) => x.gt_scalar(0.0)?.where_cond(g, &g.mul_scalar(f64::from(slope))?),
        Unary::Clamp(low, high) => {
            mask(x.ge_scalar(f64::from(low))?.logical_and(&x.le_scalar(f64::from(high))?)?)
        }
    }
}

/// `1 - x`.
fn one_minus(x: &Tensor) -> Result<Tensor> {
    x.neg()?.add_scalar(1.0)
}

/// `Φ(x) + x φ(x)`.
fn gelu_slope(x: &Tensor) -> Result<Tensor> {
    let cumulative = x.mul_scalar(f64::from(FRAC_1_SQRT_2))?.erf()?.add_scalar(1.0)?.mul_scalar(0.5)?;
    let density = x.square()?.mul_scalar(-0.5)?.exp()?.mul_scalar(0.398_942_280_401_432_7)?;
    cumulative.add(&x.mul(&density)?)
}

/// Derivative of [`math::gelu_tanh`].
fn gelu_tanh_slope(x: &Tensor) -> Result<Tensor> {
    const SCALE: f64 = 0.797_884_560_802_865_4;
    let square = x.square()?;
    let t = x.mul(&square.mul_scalar(0.044_715)?.add_scalar(1.0)?)?.mul_scalar(SCALE)?.tanh()?;
    let inner = square.mul_scalar(3.0 * 0.044_715)?.add_scalar(1.0)?.mul_scalar(SCALE)?;
    let slope = x.mul(&one_minus(&t.square()?)?)?.mul(&inner)?;
    t.add_scalar(1.0)?.add(&slope)?.mul_scalar(0.5)
}
