//! One step of Adam (Kingma & Ba 2015, arXiv:1412.6980) or AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), as PyTorch rounds it.

use super::{expect_device, expect_shape};
use crate::{Result, Tensor};

/// What a step depends on besides the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Step size.
    pub lr: f64,
    /// Decay of the means of gradients and of their squares.
    pub betas: [f64; 2],
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Pull towards zero.
    pub weight_decay: f64,
    /// Whether the pull is apart from the gradient (AdamW) or added to it (Adam with L2).
    pub decoupled: bool,
    /// Number of this step, from 1.
    pub step: u32,
    /// What the gradient is multiplied by first, such as the coefficient of a clipping by norm.
    pub gradient_scale: f32,
}

/// Updates `w` by its gradient `g`, and the means `m` of gradients and `v` of their squares. All of one length.
#[inline(always)]
pub fn reference(adam: &Adam, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let corrections = adam.betas.map(|beta| 1.0 - beta.powi(adam.step as i32));
    let size = (adam.lr / corrections[0]) as f32;
    let (root, eps) = (corrections[1].sqrt() as f32, adam.eps as f32);
    let (first, second) = ((1.0 - adam.betas[0]) as f32, (1.0 - adam.betas[1]) as f32);
    let keep = adam.betas[1] as f32;
    let (shrink, pull) = match adam.decoupled {
        true => ((1.0 - adam.lr * adam.weight_decay) as f32, 0.0),
        false => (1.0, adam.weight_decay as f32),
    };
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * adam.gradient_scale + *w * pull;
        *m += (g - *m) * first;
        *v = *v * keep + g * g * second;
        *w = *w * shrink - size * *m / (v.sqrt() / root + eps);
    }
}

/// Updates `w` in place by its gradient `g`, and the means `m` of gradients and `v` of their squares, all of one shape.
///
/// # Errors
/// Where shapes or devices differ, what is written is shared, or the device fails.
pub fn adam(adam: &Adam, w: &mut Tensor, g: &Tensor, m: &mut Tensor, v: &mut Tensor) -> Result<()> {
    let op = "adam";
    for x in [g, m, v] {
        expect_shape(op, x, w.shape())?;
        expect_device(op, w.device(), x.device())?;
    }
    let (device, g) = (w.device().clone(), g.contiguous()?);
    device.backend().adam(adam, g.view(), [w.view_mut(op)?, m.view_mut(op)?, v.view_mut(op)?])
}
