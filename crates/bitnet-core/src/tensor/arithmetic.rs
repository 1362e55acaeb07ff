//! The ops as methods, and the operators `+ - * /` between tensors and with numbers.

use super::Tensor;
use crate::{
    Axes, DType, Error, Result,
    autograd::record,
    ops::{
        Binary, Compare, Logical, Reduce, Unary, binary, binary_assign, compare, logical, matmul, reduce,
        select, unary,
    },
};
use std::ops::{Add, Div, Mul, Neg, Sub};

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident => $op:ident;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// Where the op does not take the type or the device fails.
            pub fn $name(&self) -> Result<Self> {
                unary(Unary::$op, self)
            }
        )*}
    };
}

unary_methods! {
    /// `-x`.
    neg => Neg;
    /// `|x|`.
    abs => Abs;
    /// -1, 0 or 1; NaN of NaN.
    sign => Sign;
    /// `x²`.
    square => Square;
    /// Square root.
    sqrt => Sqrt;
    /// `1 / sqrt(x)`.
    rsqrt => Rsqrt;
    /// `1 / x`.
    recip => Recip;
    /// `e^x`.
    exp => Exp;
    /// `e^x - 1` without loss near zero.
    exp_m1 => ExpM1;
    /// Natural logarithm.
    log => Log;
    /// `ln(1 + x)` without loss near zero.
    log_1p => Log1P;
    /// Sine.
    sin => Sin;
    /// Cosine.
    cos => Cos;
    /// Hyperbolic tangent.
    tanh => Tanh;
    /// Error function.
    erf => Erf;
    /// Next integer below.
    floor => Floor;
    /// Next integer above.
    ceil => Ceil;
    /// Nearest integer, half to even.
    round => Round;
    /// Next integer towards zero.
    trunc => Trunc;
    /// `max(x, 0)`.
    relu => Relu;
    /// `max(x, 0)²`.
    relu2 => Relu2;
    /// `x Φ(x)` with the distribution function of the normal distribution (Hendrycks and Gimpel, arXiv:1606.08415).
    gelu => Gelu;
    /// [`Tensor::gelu`] by a hyperbolic tangent.
    gelu_tanh => GeluTanh;
    /// `x / (1 + e^-x)`.
    silu => Silu;
    /// `1 / (1 + e^-x)`.
    sigmoid => Sigmoid;
    /// `ln(1 + e^x)`.
    softplus => Softplus;
}

macro_rules! binary_methods {
    ($op:ident: $($(#[$doc:meta])* $name:ident, $scalar:ident => $kind:expr;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// Where shapes do not broadcast, devices or types differ, the type is not taken, or the device fails.
            pub fn $name(&self, other: &Self) -> Result<Self> {
                $op($kind, self, other)
            }

            /// As the method of two tensors, with the same number for all elements.
            ///
            /// # Errors
            /// Where the type does not have the number or is not taken, or the device fails.
            pub fn $scalar(&self, other: f64) -> Result<Self> {
                $op($kind, self, &self.number(other)?)
            }
        )*}
    };
}

binary_methods! { binary:
    /// `x + y`, broadcast together.
    add, add_scalar => Binary::Add;
    /// `x - y`, broadcast together.
    sub, sub_scalar => Binary::Sub;
    /// `x y`, broadcast together.
    mul, mul_scalar => Binary::Mul;
    /// `x / y` of floats, broadcast together.
    div, div_scalar => Binary::Div;
    /// `floor(x / y)`, broadcast together.
    floor_div, floor_div_scalar => Binary::FloorDiv;
    /// `x - floor(x / y) y`, of the sign of `y`, broadcast together.
    rem, rem_scalar => Binary::Rem;
    /// `x` to the power of `y` of floats, broadcast together.
    pow, pow_scalar => Binary::Pow;
    /// The smaller one, NaN where one is NaN, broadcast together.
    minimum, minimum_scalar => Binary::Min;
    /// The larger one, NaN where one is NaN, broadcast together.
    maximum, maximum_scalar => Binary::Max;
}

binary_methods! { compare:
    /// Where `x == y`, broadcast together.
    eq, eq_scalar => Compare::Eq;
    /// Where `x != y`, broadcast together.
    ne, ne_scalar => Compare::Ne;
    /// Where `x < y`, broadcast together.
    lt, lt_scalar => Compare::Lt;
    /// Where `x <= y`, broadcast together.
    le, le_scalar => Compare::Le;
    /// Where `x > y`, broadcast together.
    gt, gt_scalar => Compare::Gt;
    /// Where `x >= y`, broadcast together.
    ge, ge_scalar => Compare::Ge;
}

macro_rules! reductions {
    ($($(#[$doc:meta])* $name:ident => $op:ident;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// The dimensions become 1 with `keepdim` and go otherwise.
            ///
            /// # Errors
            /// Where a dimension does not exist, an extreme of nothing is asked for, or the device fails.
            pub fn $name(&self, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
                reduce(Reduce::$op, self, &axes.into(), keepdim)
            }
        )*}
    };
}

reductions! {
    /// Sum over dimensions; of integers and truths as int64.
    sum => Sum;
    /// Product over dimensions; of integers and truths as int64.
    prod => Prod;
    /// The smallest over dimensions, NaN where there is one.
    min => Min;
    /// The largest over dimensions, NaN where there is one.
    max => Max;
    /// Index, in row-major order, of the first smallest over dimensions or of the first NaN, as int64.
    argmin => ArgMin;
    /// Index, in row-major order, of the first largest over dimensions or of the first NaN, as int64.
    argmax => ArgMax;
    /// Whether one over dimensions is not zero.
    any => Any;
    /// Whether none over dimensions is zero.
    all => All;
}

impl Tensor {
    /// `value` as an operand beside this tensor.
    fn number(&self, value: f64) -> Result<Self> {
        Self::scalar(self.device(), value, self.dtype())
    }

    /// Elements of `x` where this tensor of truths is true, of `y` elsewhere, broadcast together.
    ///
    /// # Errors
    /// Where this tensor is not of truths, the types of `x` and `y` differ, shapes do not broadcast, or the device fails.
    pub fn where_cond(&self, x: &Self, y: &Self) -> Result<Self> {
        select(self, x, y)
    }

    /// Both, of truths, broadcast together.
    ///
    /// # Errors
    /// Where an operand is not of truths, shapes do not broadcast, or the device fails.
    pub fn logical_and(&self, other: &Self) -> Result<Self> {
        logical(Logical::And, self, other)
    }

    /// One or both, of truths, broadcast together.
    ///
    /// # Errors
    /// As [`Tensor::logical_and`].
    pub fn logical_or(&self, other: &Self) -> Result<Self> {
        logical(Logical::Or, self, other)
    }

    /// One and not the other, of truths, broadcast together.
    ///
    /// # Errors
    /// As [`Tensor::logical_and`].
    pub fn logical_xor(&self, other: &Self) -> Result<Self> {
        logical(Logical::Xor, self, other)
    }

    /// Where an element is zero or false.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn logical_not(&self) -> Result<Self> {
        self.eq_scalar(0.0)
    }

    /// Where an element is NaN.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn is_nan(&self) -> Result<Self> {
        self.ne(self)
    }

    /// Where an element is neither infinite nor NaN.
    ///
    /// # Errors
    /// Where the elements are not floats or the device fails.
    pub fn is_finite(&self) -> Result<Self> {
        self.detach().abs()?.lt_scalar(f64::INFINITY)
    }

    /// `x` above zero, `slope x` below.
    ///
    /// # Errors
    /// Where the elements are not floats or the device fails.
    pub fn leaky_relu(&self, slope: f32) -> Result<Self> {
        unary(Unary::LeakyRelu(slope), self)
    }

    /// The nearest number between `low` and `high`.
    ///
    /// # Errors
    /// Where the elements are not floats or the device fails.
    pub fn clamp(&self, low: f32, high: f32) -> Result<Self> {
        unary(Unary::Clamp(low, high), self)
    }

    /// Product of matrices, see [`ops::matmul`](crate::ops::matmul()).
    ///
    /// # Errors
    /// As [`ops::matmul`](crate::ops::matmul()).
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        matmul(self, other)
    }

    /// `x += y` in place, `y` broadcast to this shape.
    ///
    /// # Errors
    /// As [`binary_assign`].
    pub fn add_assign(&mut self, other: &Self) -> Result<()> {
        binary_assign(Binary::Add, self, other)
    }

    /// `x -= y` in place, `y` broadcast to this shape.
    ///
    /// # Errors
    /// As [`binary_assign`].
    pub fn sub_assign(&mut self, other: &Self) -> Result<()> {
        binary_assign(Binary::Sub, self, other)
    }

    /// `x *= y` in place, `y` broadcast to this shape.
    ///
    /// # Errors
    /// As [`binary_assign`].
    pub fn mul_assign(&mut self, other: &Self) -> Result<()> {
        binary_assign(Binary::Mul, self, other)
    }

    /// `x /= y` in place, `y` broadcast to this shape.
    ///
    /// # Errors
    /// As [`binary_assign`].
    pub fn div_assign(&mut self, other: &Self) -> Result<()> {
        binary_assign(Binary::Div, self, other)
    }
}

macro_rules! scalar_assignments {
    ($($(#[$doc:meta])* $name:ident => $op:ident;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// Where the type does not have the number, or as [`binary_assign`].
            pub fn $name(&mut self, other: f64) -> Result<()> {
                let other = self.number(other)?;
                binary_assign(Binary::$op, self, &other)
            }
        )*}
    };
}

scalar_assignments! {
    /// `x += y` in place, `y` the same number for all elements.
    add_scalar_assign => Add;
    /// `x -= y` in place, `y` the same number for all elements.
    sub_scalar_assign => Sub;
    /// `x *= y` in place, `y` the same number for all elements.
    mul_scalar_assign => Mul;
    /// `x /= y` in place, `y` the same number for all elements.
    div_scalar_assign => Div;
}

/// Statistics, made of sums and extremes.
impl Tensor {
    /// Number of elements over dimensions.
    fn count(&self, axes: &Axes) -> Result<usize> {
        Ok(axes.resolve("mean", self.shape().rank())?.iter().map(|&i| self.dims()[i]).product())
    }

    /// Mean of floats over dimensions; NaN of nothing.
    ///
    /// # Errors
    /// Where a dimension does not exist, the elements are not floats, or the device fails.
    pub fn mean(&self, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
        if !self.dtype().is_float() {
            return Err(Error::DType { op: "mean", expected: DType::F32, got: self.dtype() });
        }
        let axes = axes.into();
        let count = self.count(&axes)?;
        // In f32, where a sum of halves does not overflow.
        let sum = self.to_dtype(DType::F32)?.sum(axes, keepdim)?;
        sum.div_scalar(count as f64)?.to_dtype(self.dtype())
    }

    /// Mean squared distance from the mean over dimensions, the sum divided by the count less `correction` (1: sample variance); NaN of
    /// nothing.
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn var(&self, axes: impl Into<Axes>, correction: usize, keepdim: bool) -> Result<Self> {
        if !self.dtype().is_float() {
            return Err(Error::DType { op: "var", expected: DType::F32, got: self.dtype() });
        }
        self.wide_var(&axes.into(), correction, keepdim)?.to_dtype(self.dtype())
    }

    /// [`Tensor::var`] in f32.
    fn wide_var(&self, axes: &Axes, correction: usize, keepdim: bool) -> Result<Self> {
        let freedom = self.count(axes)?.saturating_sub(correction);
        let sum = reduce(Reduce::Deviations, &self.to_dtype(DType::F32)?, axes, keepdim)?;
        sum.div_scalar(freedom as f64)
    }

    /// Square root of [`Tensor::var`]. Its slope is taken as 0 where all elements are equal.
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn std(&self, axes: impl Into<Axes>, correction: usize, keepdim: bool) -> Result<Self> {
        if !self.dtype().is_float() {
            return Err(Error::DType { op: "std", expected: DType::F32, got: self.dtype() });
        }
        self.wide_var(&axes.into(), correction, keepdim)?.root()?.to_dtype(self.dtype())
    }

    /// Square root whose slope at zero, where there is none, is taken as 0.
    fn root(&self) -> Result<Self> {
        let y = self.detach().sqrt()?;
        let result = y.detach();
        Ok(record(y, [self], || {
            move |g: &Self| {
                let slope = g.div(&result)?.mul_scalar(0.5)?;
                Ok([Some(result.eq_scalar(0.0)?.where_cond(&g.zeros_like()?, &slope)?)])
            }
        }))
    }

    /// `ln(Σ e^x)` over dimensions without overflow, of halves in f32.
    ///
    /// # Errors
    /// As [`Tensor::mean`], or over no elements.
    pub fn logsumexp(&self, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
        if matches!(self.dtype(), DType::F16 | DType::BF16) {
            return self.to_dtype(DType::F32)?.logsumexp(axes, keepdim)?.to_dtype(self.dtype());
        }
        let axes = axes.into();
        let largest = self.detach().max(axes.clone(), true)?;
        // An infinite largest one would make NaN of the differences.
        let shift = largest.is_finite()?.where_cond(&largest, &largest.zeros_like()?)?;
        let sum = self.sub(&shift)?.exp()?.sum(axes.clone(), true)?.log()?.add(&shift)?;
        if keepdim { Ok(sum) } else { sum.without_axes(&axes) }
    }

    /// Without the dimensions `axes`, whose extents are 1.
    fn without_axes(&self, axes: &Axes) -> Result<Self> {
        let axes = axes.resolve("squeeze", self.shape().rank())?;
        axes.iter().rev().try_fold(self.clone(), |x, &axis| x.squeeze(axis as isize))
    }

    /// `(Σ |x|^p)^(1/p)` over dimensions; with `p` infinite the largest absolute value, with 0 the number of non-zeros. Halves are
    /// summed in f32. Where a slope does not exist, as at zero, it is taken as 0.
    ///
    /// # Errors
    /// As [`Tensor::mean`], or where `p` is negative.
    pub fn norm(&self, p: f64, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
        if !self.dtype().is_float() {
            return Err(Error::DType { op: "norm", expected: DType::F32, got: self.dtype() });
        }
        let x = self.to_dtype(DType::F32)?;
        let y = match p {
            0.0 => x.ne_scalar(0.0)?.to_dtype(DType::F32)?.sum(axes, keepdim),
            1.0 => x.abs()?.sum(axes, keepdim),
            2.0 => x.square()?.sum(axes, keepdim)?.root(),
            f64::INFINITY => x.abs()?.max(axes, keepdim),
            p if p > 0.0 => x.power_norm(p, &axes.into(), keepdim),
            p => Err(Error::Argument { op: "norm", reason: format!("no norm of order {p}") }),
        };
        y?.to_dtype(self.dtype())
    }

    /// [`Tensor::norm`] of any order above zero.
    fn power_norm(&self, p: f64, axes: &Axes, keepdim: bool) -> Result<Self> {
        let powers = self.detach().abs()?.pow_scalar(p)?;
        let y = powers.sum(axes.clone(), true)?.pow_scalar(1.0 / p)?;
        let y = record(y.clone(), [self], || {
            let x = self.detach();
            move |g: &Self| {
                // sign(x) (|x| / y)^(p - 1)
                let slope = x.sign()?.mul(&x.abs()?.div(&y)?.pow_scalar(p - 1.0)?)?.mul(g)?;
                let none = x.eq_scalar(0.0)?.logical_or(&y.eq_scalar(0.0)?)?;
                Ok([Some(none.where_cond(&slope.zeros_like()?, &slope)?)])
            }
        });
        if keepdim { Ok(y) } else { y.without_axes(axes) }
    }

    /// `Σ x y` of two vectors.
    ///
    /// # Errors
    /// Where they are not vectors of one length, or as [`Tensor::matmul`].
    pub fn dot(&self, other: &Self) -> Result<Self> {
        crate::ops::expect_shape("dot", other, [self.shape().len()])?;
        crate::ops::expect_shape("dot", self, [self.shape().len()])?;
        matmul(self, other)
    }

    /// `[M, N]` of all products of `[M]` and `[N]`.
    ///
    /// # Errors
    /// Where one is not a vector, or as [`Tensor::mul`].
    pub fn outer(&self, other: &Self) -> Result<Self> {
        crate::ops::expect_shape("outer", self, [self.shape().len()])?;
        crate::ops::expect_shape("outer", other, [other.shape().len()])?;
        self.unsqueeze(1)?.mul(&other.unsqueeze(0)?)
    }
}

macro_rules! operators {
    ($($trait:ident, $method:ident, $scalar:ident;)*) => {$(
        impl $trait<&Tensor> for &Tensor {
            type Output = Result<Tensor>;

            fn $method(self, other: &Tensor) -> Result<Tensor> {
                Tensor::$method(self, other)
            }
        }

        impl $trait<f64> for &Tensor {
            type Output = Result<Tensor>;

            fn $method(self, other: f64) -> Result<Tensor> {
                self.$scalar(other)
            }
        }
    )*};
}

operators! {
    Add, add, add_scalar;
    Sub, sub, sub_scalar;
    Mul, mul, mul_scalar;
    Div, div, div_scalar;
}

impl Neg for &Tensor {
    type Output = Result<Tensor>;

    fn neg(self) -> Result<Tensor> {
        Tensor::neg(self)
    }
}
