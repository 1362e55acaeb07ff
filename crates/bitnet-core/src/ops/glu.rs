//! Gated linear units: `y = act(gate) * up`.

use super::{expect_device, expect_shape};
use crate::{DType, Result, Tensor, autograd::record, math};
use serde::{Deserialize, Serialize};

/// Activation of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// Gradients of [`relu2`], given that of its result. All `[F]`.
#[inline(always)]
pub fn relu2_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for ((((dgate, dup), &gate), up), dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
        let positive = if gate < 0.0 { 0.0 } else { gate };
        *dgate = 2.0 * positive * up * dy;
        *dup = positive * positive * dy;
    }
}

/// Gradients of [`silu`], given that of its result. All `[F]`.
#[inline(always)]
pub fn silu_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for ((((dgate, dup), &gate), up), dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
        let sigmoid = math::sigmoid(gate);
        *dgate = sigmoid * (1.0 + gate * (1.0 - sigmoid)) * up * dy;
        *dup = gate * sigmoid * dy;
    }
}

/// `act(gate) * up`. Both `[T, F]` -> `[T, F]`.
///
/// # Errors
/// Where shapes or devices differ, or the device fails.
pub fn glu(kind: Glu, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    expect_shape("glu", up, gate.shape())?;
    expect_device("glu", gate.device(), up.device())?;
    let mut y = Tensor::empty(gate.device(), gate.shape(), DType::F32)?;
    gate.device().backend().glu(kind, gate.view(), up.view(), y.view_mut("glu")?)?;
    Ok(record(y, [gate, up], || {
        let (wanted, gate, up) = ([gate.is_trainable(), up.is_trainable()], gate.detach(), up.detach());
        move |dy: &Tensor| {
            let op = "glu_backward";
            let dy = dy.contiguous()?;
            let mut dgate = Tensor::empty(gate.device(), gate.shape(), DType::F32)?;
            let mut dup = Tensor::empty(gate.device(), gate.shape(), DType::F32)?;
            let into = [dgate.view_mut(op)?, dup.view_mut(op)?];
            gate.device().backend().glu_backward(kind, gate.view(), up.view(), dy.view(), into)?;
            Ok([wanted[0].then_some(dgate), wanted[1].then_some(dup)])
        }
    }))
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
