//! How far the probabilities of a row of logits are from those of a teacher.

use super::{expect_device, expect_floats, expect_shape};
use crate::{DType, Error, Result, Tensor, autograd::record, math, ops::softmax::row_max};

/// `sum p (ln p - ln q)` in nats with `p = softmax(scale * teacher)`, `q = softmax(scale * logits)`. `logits, teacher: [V]`.
#[inline(always)]
pub fn reference(logits: &[f32], teacher: &[f32], scale: f32) -> f32 {
    let (max_q, max_p) = (row_max(logits), row_max(teacher));
    let mut sums = [[0.0; math::LANES]; 3];
    let mut add = |lane: usize, x: f32, t: f32| {
        let (q, p) = ((x - max_q) * scale, (t - max_p) * scale);
        let weight = math::exp(p);
        sums[0][lane] += math::exp(q);
        sums[1][lane] += weight;
        sums[2][lane] += weight * (p - q);
    };
    let (chunks, tail) = logits.as_chunks::<{ math::LANES }>();
    let (teachers, last) = teacher.as_chunks::<{ math::LANES }>();
    for (x, t) in chunks.iter().zip(teachers) {
        for lane in 0..math::LANES {
            add(lane, x[lane], t[lane]);
        }
    }
    for (lane, (x, t)) in tail.iter().zip(last).enumerate() {
        add(lane, *x, *t);
    }
    let [q, p, difference] = sums.map(|lanes| math::tree_sum(&lanes));
    difference / p + (math::ln(q) - math::ln(p))
}

/// Its gradient times `dloss`: `(q - p) * scale * dloss`. `logits, teacher, dlogits: [V]`.
#[inline(always)]
pub fn backward(logits: &[f32], teacher: &[f32], scale: f32, dloss: f32, dlogits: &mut [f32]) {
    let (max_q, max_p) = (row_max(logits), row_max(teacher));
    for (d, x) in dlogits.iter_mut().zip(logits) {
        *d = math::exp((x - max_q) * scale);
    }
    let mut lanes = [0.0; math::LANES];
    let (chunks, tail) = teacher.as_chunks::<{ math::LANES }>();
    for chunk in chunks {
        for i in 0..math::LANES {
            lanes[i] += math::exp((chunk[i] - max_p) * scale);
        }
    }
    for (lane, t) in lanes.iter_mut().zip(tail) {
        *lane += math::exp((t - max_p) * scale);
    }
    let factor = dloss * scale;
    let [of_q, of_p] = [factor / math::sum16(dlogits), factor / math::tree_sum(&lanes)];
    for (d, t) in dlogits.iter_mut().zip(teacher) {
        *d = *d * of_q - math::exp((t - max_p) * scale) * of_p;
    }
}

/// Kullback-Leibler divergence in nats of each row of `logits: [T, V]` from the row of `teacher: [T, V]`, both times `scale` (one over the
/// temperature) before the softmax, `[T]`. The teacher has no gradient.
///
/// # Errors
/// Where shapes or devices differ, the scale is no positive number, the elements are not f32, or the device fails.
pub fn kl_divergence(logits: &Tensor, teacher: &Tensor, scale: f32) -> Result<Tensor> {
    let op = "kl_divergence";
    expect_floats(op, logits)?;
    expect_floats(op, teacher)?;
    let (rows, classes) = (logits.shape().rows(), logits.shape().last());
    expect_shape(op, logits, [rows, classes])?;
    expect_shape(op, teacher, [rows, classes])?;
    expect_device(op, logits.device(), teacher.device())?;
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(Error::Argument { op, reason: format!("a scale of {scale}, not a positive number") });
    }
    let (x, t) = (logits.detach().contiguous()?, teacher.detach().contiguous()?);
    let mut y = Tensor::empty(x.device(), [rows], DType::F32)?;
    x.device().backend().kl_divergence(x.view(), t.view(), scale, y.view_mut(op)?)?;
    Ok(record(y, [logits], || {
        move |dy: &Tensor| {
            let (op, dy) = ("kl_divergence_backward", dy.contiguous()?);
            let mut dx = Tensor::empty(x.device(), x.shape(), DType::F32)?;
            let backend = x.device().backend();
            backend.kl_divergence_backward([x.view(), t.view()], scale, dy.view(), dx.view_mut(op)?)?;
            Ok([Some(dx)])
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_no_way_apart() {
        let row: Vec<f32> = (0..21).map(|i| (i as f32 * 0.7).sin() * 4.0).collect();
        let moved: Vec<f32> = row.iter().map(|x| x + 3.0).collect();
        assert!(reference(&row, &moved, 0.2).abs() < 1e-6);
        let mut d = vec![9.0; 21];
        backward(&row, &row, 0.2, 5.0, &mut d);
        assert_eq!(d, [0.0; 21]);
    }

    #[test]
    fn an_even_chance_is_a_logarithm_away_from_certainty() {
        let certain = [0.0, -200.0, -200.0, -200.0];
        assert!((reference(&[1.0; 4], &certain, 1.0) - 4f32.ln()).abs() < 1e-6);
        let mut d = [0.0; 4];
        backward(&[1.0; 4], &certain, 1.0, 2.0, &mut d);
        assert_eq!(d, [-1.5, 0.5, 0.5, 0.5]);
    }
}
