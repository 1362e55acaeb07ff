//! A linear layer on floats: the product with a transposed weight, whose gradient has the weight's own layout.

use super::{expect_device, expect_floats};
use crate::{DType, Error, Result, Tensor, autograd::record};

/// `x: [T, C]` · `weight: [O, C]` transposed -> `[T, O]`.
///
/// # Errors
/// Where the shapes do not fit, devices differ, the elements are not f32, or the device fails.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let op = "linear";
    expect_floats(op, x)?;
    expect_floats(op, weight)?;
    expect_device(op, x.device(), weight.device())?;
    let (&[_, cols], &[_, inner]) = (x.shape().dims(), weight.shape().dims()) else {
        return Err(Error::Shape { op, expected: weight.shape(), got: x.shape() });
    };
    if cols != inner {
        return Err(Error::Shape { op, expected: x.shape().with(1, inner), got: x.shape() });
    }
    let y = product(&x.detach(), &weight.detach().t()?)?;
    Ok(record(y, [x, weight], || {
        let (wanted, x, weight) = ([x.is_trainable(), weight.is_trainable()], x.detach(), weight.detach());
        move |dy: &Tensor| {
            let by_x = || product(dy, &weight);
            let by_weight = || product(&dy.t()?, &x);
            Ok([wanted[0].then(by_x).transpose()?, wanted[1].then(by_weight).transpose()?])
        }
    }))
}

pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut y = Tensor::empty(a.device(), [a.shape().dims()[0], b.shape().last()], DType::F32)?;
    a.device().backend().matmul(a.view(), b.view(), y.view_mut("linear")?)?;
    Ok(y)
}
