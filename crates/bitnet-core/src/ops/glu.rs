//! Gated linear units: `y = act(gate) * up`.

use super::expect_shape;
use crate::{DType, Result, Tensor, math};

/// Activation of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Glu {
    /// `relu(gate)²`: the square is on the gate, not on the product.
    Relu2,
    /// `gate * sigmoid(gate)`.
    Silu,
}

/// `y = relu(gate)² * up`. All `[F]`.
#[inline(always)]
pub fn relu2(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, &gate), up) in y.iter_mut().zip(gate).zip(up) {
        // A comparison, so that NaN stays NaN.
        let positive = if gate < 0.0 { 0.0 } else { gate };
        *y = positive * positive * up;
    }
}

/// `y = gate * sigmoid(gate) * up`. All `[F]`.
#[inline(always)]
pub fn silu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, &gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = math::silu(gate) * up;
    }
}

/// `act(gate) * up`. Both `[T, F]` -> `[T, F]`.
///
/// # Errors
/// Where shapes differ or the device fails.
pub fn glu(kind: Glu, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    expect_shape("glu", up, gate.shape())?;
    let mut y = Tensor::empty(gate.device(), gate.shape(), DType::F32)?;
    gate.device().backend().glu(kind, gate.view(), up.view(), y.view_mut("glu")?)?;
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relu2_squares_the_gate_only() {
        let mut y = [0.0; 4];
        relu2(&[3.0, -3.0, 0.0, f32::NAN], &[-2.0, 5.0, 1.0, 1.0], &mut y);
        assert_eq!(y[..3], [-18.0, 0.0, 0.0]);
        assert!(y[3].is_nan());
    }

    #[test]
    fn silu_of_large_gates_is_the_gate_or_zero() {
        let mut y = [1.0; 3];
        silu(&[50.0, -200.0, 0.0], &[2.0, 2.0, 2.0], &mut y);
        assert_eq!(y, [100.0, 0.0, 0.0]);
    }
}
