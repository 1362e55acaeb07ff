//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864) in the half-split order of Hugging Face checkpoints.

use super::{expect_device, expect_shape};
use crate::{Error, Result, Shape, Tensor, autograd::record};

/// Cosines and sines of one position: `angle[j] = position * frequencies[j]`, the product rounded to f32. All `[D/2]`.
pub fn angles(position: usize, frequencies: &[f32], cos: &mut [f32], sin: &mut [f32]) {
    for ((f, cos), sin) in frequencies.iter().zip(cos).zip(sin) {
        let angle = f64::from(position as f32 * f);
        (*cos, *sin) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
    }
}

/// Rotates one head in place: `x[j], x[j + D/2]` by the angle of `j`. `x: [D]`, `cos, sin: [D/2]`.
#[inline(always)]
pub fn reference(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Rotates the halves of every head, in place where nobody else needs `x`. `x: [T, H, D]`, `cos, sin: [T, D/2]`.
///
/// # Errors
/// Where shapes or devices differ, or the device fails.
pub fn rope(x: Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let &[tokens, _, head_dim] = x.shape().dims() else {
        return Err(Error::Shape { op: "rope", expected: Shape::from([0, 0, 0]), got: x.shape() });
    };
    for angles in [cos, sin] {
        expect_shape("rope", angles, [tokens, head_dim / 2])?;
        expect_device("rope", x.device(), angles.device())?;
    }
    if !x.is_trainable() {
        let own = if x.is_shared() { x.copy()? } else { x };
        return rotate(own, cos, sin);
    }
    let y = rotate(x.detach().copy()?, cos, sin)?;
    Ok(record(y, [&x], || {
        // A rotation is undone by the opposite one.
        let (cos, sin) = (cos.clone(), sin.clone());
        move |dy: &Tensor| Ok([Some(rotate(dy.copy()?, &cos, &sin.neg()?)?)])
    }))
}

fn rotate(mut x: Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let device = x.device().clone();
    device.backend().rope(x.view_mut("rope")?, cos.view(), sin.view())?;
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_swaps_the_halves() {
        let mut x = [1.0, 2.0, 3.0, 4.0];
        reference(&mut x, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(x, [-3.0, 2.0, 1.0, 4.0]);
    }

    #[test]
    fn position_zero_does_not_rotate() {
        let (mut cos, mut sin) = ([9.0; 2], [9.0; 2]);
        angles(0, &[1.0, 0.01], &mut cos, &mut sin);
        assert_eq!((cos, sin), ([1.0; 2], [0.0; 2]));
    }
}
