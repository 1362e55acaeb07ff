//! Root-mean-square norm: `y = x / sqrt(mean(x²) + eps) * weight` (Zhang & Sennrich 2019, arXiv:1910.07467).

use super::{expect_device, expect_shape};
use crate::{DType, Result, Tensor, autograd::record, math};

/// Normalises a row. `x, weight, y: [C]`.
#[inline(always)]
pub fn reference(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let inverse = inverse(x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * inverse * w;
    }
}

/// `1 / sqrt(mean(x²) + eps)` of a row.
#[inline(always)]
pub fn inverse(x: &[f32], eps: f32) -> f32 {
    let mean = math::dot16(x, x) / x.len() as f32;
    1.0 / (mean + eps).sqrt()
}

/// Gradients of a row, given that of its result: writes `dx` and adds to `dweight`. All `[C]`.
///
/// With `r = 1 / sqrt(mean(x²) + eps)`: `dx = r (w dy - x r² mean(w dy x))`, `dweight += dy x r`.
#[inline(always)]
pub fn backward(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dweight: &mut [f32]) {
    let inverse = inverse(x, eps);
    for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(weight) {
        *dx = dy * w;
    }
    let along = math::dot16(dx, x) / x.len() as f32 * inverse * inverse;
    for (((dx, dw), x), dy) in dx.iter_mut().zip(dweight).zip(x).zip(dy) {
        *dx = inverse * (*dx - x * along);
        *dw += dy * x * inverse;
    }
}

/// `y = x / sqrt(mean(x²) + eps) * weight` over the last dimension. `x: [.., C]`, `weight: [C]` -> `[.., C]`.
///
/// # Errors
/// Where shapes or devices differ, or the device fails.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    expect_shape("rms_norm", weight, [x.shape().last()])?;
    expect_device("rms_norm", x.device(), weight.device())?;
    let mut y = Tensor::empty(x.device(), x.shape(), DType::F32)?;
    x.device().backend().rms_norm(x.view(), weight.view(), eps, y.view_mut("rms_norm")?)?;
    Ok(record(y, [x, weight], || {
        let (wanted, x, weight) = ([x.is_trainable(), weight.is_trainable()], x.detach(), weight.detach());
        move |dy: &Tensor| {
            let op = "rms_norm_backward";
            let dy = dy.contiguous()?;
            let mut dx = Tensor::empty(x.device(), x.shape(), DType::F32)?;
            let mut dw = Tensor::empty(x.device(), weight.shape(), DType::F32)?;
            let (into_x, into_w) = (dx.view_mut(op)?, dw.view_mut(op)?);
            x.device().backend().rms_norm_backward(
                x.view(),
                weight.view(),
                eps,
                dy.view(),
                [into_x, into_w],
            )?;
            Ok([wanted[0].then_some(dx), wanted[1].then_some(dw)])
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_row_becomes_its_weights() {
        let mut y = [0.0; 3];
        reference(&[-4.0; 3], &[1.0, 2.0, -0.5], 0.0, &mut y);
        assert_eq!(y, [-1.0, -2.0, 0.5]);
    }

    #[test]
    fn eps_is_inside_the_root() {
        let mut y = [0.0; 2];
        reference(&[3.0, 3.0], &[1.0, 1.0], 7.0, &mut y);
        assert_eq!(y, [0.75, 0.75]);
        reference(&[0.0, 0.0], &[1.0, 1.0], 1e-5, &mut y);
        assert_eq!(y, [0.0, 0.0]);
    }
}
