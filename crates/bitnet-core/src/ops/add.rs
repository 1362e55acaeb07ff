//! Residual addition.

use super::{expect_device, expect_shape};
use crate::{Result, Tensor};

/// `x += y`. Both `[C]`.
#[inline(always)]
pub fn reference(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `x + y` of one shape, in place where nobody else needs `x`.
///
/// # Errors
/// Where shapes or devices differ, or the device fails.
pub fn add_to(mut x: Tensor, y: &Tensor) -> Result<Tensor> {
    expect_shape("add_assign", y, x.shape())?;
    expect_device("add_assign", x.device(), y.device())?;
    if x.is_trainable() || y.is_trainable() || x.is_shared() {
        return x.add(y);
    }
    let device = x.device().clone();
    device.backend().add_assign(x.view_mut("add_assign")?, y.view())?;
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_in_place() {
        let mut x = [1.0, -2.0];
        reference(&mut x, &[0.5, 2.0]);
        assert_eq!(x, [1.5, 0.0]);
    }
}
