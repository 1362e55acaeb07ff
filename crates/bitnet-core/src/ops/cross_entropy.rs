//! Cross-entropy of a row of logits with the token that was to come.

use super::{expect_floats, expect_shape};
use crate::{DType, Error, Result, Tensor, autograd::record, math, ops::softmax::row_max};

/// The target of a row that does not count.
pub const IGNORED: i64 = -100;

/// `ln sum exp(logits) - logits[target]`; 0 for [`IGNORED`]. `logits: [V]`.
#[inline(always)]
pub fn reference(logits: &[f32], target: i64) -> f32 {
    let Ok(target) = usize::try_from(target) else { return 0.0 };
    let max = row_max(logits);
    let mut lanes = [0.0; math::LANES];
    let (chunks, tail) = logits.as_chunks::<{ math::LANES }>();
    for chunk in chunks {
        for i in 0..math::LANES {
            lanes[i] += math::exp(chunk[i] - max);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail) {
        *lane += math::exp(x - max);
    }
    math::ln(math::tree_sum(&lanes)) - (logits[target] - max)
}

/// Its gradient times `dloss`: `(softmax(logits) - onehot(target)) * dloss`. `logits, dlogits: [V]`.
#[inline(always)]
pub fn backward(logits: &[f32], target: i64, dloss: f32, dlogits: &mut [f32]) {
    let Ok(target) = usize::try_from(target) else { return dlogits.fill(0.0) };
    let max = row_max(logits);
    for (d, x) in dlogits.iter_mut().zip(logits) {
        *d = math::exp(x - max);
    }
    let share = dloss / math::sum16(dlogits);
    for d in dlogits.iter_mut() {
        *d *= share;
    }
    dlogits[target] -= dloss;
}

/// Loss of each row of `logits: [T, V]` in nats, `[T]`; 0 where the target is [`IGNORED`].
///
/// # Errors
/// Where there are not as many targets as rows, one is not below V, the elements are not f32, or the device fails.
pub fn cross_entropy(logits: &Tensor, targets: &[i64]) -> Result<Tensor> {
    let op = "cross_entropy";
    expect_floats(op, logits)?;
    let (rows, classes) = (logits.shape().rows(), logits.shape().last());
    expect_shape(op, logits, [targets.len(), classes])?;
    let known = |&target: &i64| target == IGNORED || (0..classes as i64).contains(&target);
    if let Some(target) = targets.iter().find(|target| !known(target)) {
        return Err(Error::Argument { op, reason: format!("target {target} of {classes} classes") });
    }
    let targets = Tensor::from_slice(logits.device(), [rows], targets)?;
    let x = logits.detach().contiguous()?;
    let mut y = Tensor::empty(x.device(), [rows], DType::F32)?;
    x.device().backend().cross_entropy(x.view(), targets.view(), y.view_mut(op)?)?;
    Ok(record(y, [logits], || {
        move |dy: &Tensor| {
            let (op, dy) = ("cross_entropy_backward", dy.contiguous()?);
            let mut dx = Tensor::empty(x.device(), x.shape(), DType::F32)?;
            let backend = x.device().backend();
            backend.cross_entropy_backward(x.view(), targets.view(), dy.view(), dx.view_mut(op)?)?;
            Ok([Some(dx)])
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_cost_the_logarithm_of_their_number() {
        assert!((reference(&[7.0; 20], 3) - 20f32.ln()).abs() < 1e-6);
        assert_eq!(reference(&[7.0; 20], IGNORED), 0.0);
    }

    #[test]
    fn a_row_that_does_not_count_has_no_gradient() {
        let mut d = [9.0; 5];
        backward(&[1.0, 2.0, 3.0, 4.0, 5.0], IGNORED, 1.0, &mut d);
        assert_eq!(d, [0.0; 5]);
    }

    #[test]
    fn the_gradient_of_a_row_sums_to_zero() {
        let mut d = [0.0; 4];
        backward(&[1.0; 4], 2, 2.0, &mut d);
        assert_eq!(d, [0.5, 0.5, -1.5, 0.5]);
    }
}
