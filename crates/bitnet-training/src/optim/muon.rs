//! Muon: momentum whose singular values are brought near one (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon>), with the
//! constants and the definition of PyTorch 2.9's `torch.optim.Muon`, in f32.

use super::{Adam, State, Update};
use crate::Result;
use bitnet_core::Tensor;
use serde::{Deserialize, Serialize};

/// Coefficients of the iteration `X <- a X + (b A + c A²) X` with `A = X Xᵀ`.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations.
const STEPS: usize = 5;
/// Least norm that a momentum is divided by.
const MIN_NORM: f64 = 1e-7;

/// Constants of Muon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// How much of the last momentum is kept.
    pub momentum: f64,
    /// Whether the momentum looks one step ahead.
    pub nesterov: bool,
    /// Learning rate of everything that is no matrix of a layer, as a share of that of the matrices.
    pub adam_lr_scale: f64,
    /// Constants of Adam for everything else: decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
}

impl Default for Muon {
    fn default() -> Self {
        let Adam { beta1, beta2, eps } = Adam::default();
        Self { momentum: 0.95, nesterov: true, adam_lr_scale: 0.1, beta1, beta2, eps }
    }
}

impl Muon {
    /// The constants of Adam for what is no matrix.
    pub fn adam(&self) -> Adam {
        Adam { beta1: self.beta1, beta2: self.beta2, eps: self.eps }
    }

    pub(super) fn update(
        &self,
        w: &mut Tensor,
        gradient: &Tensor,
        state: &mut State,
        update: Update,
    ) -> Result<()> {
        let [(_, buffer)] = &mut state.0[..] else { unreachable!("made by Rule::state") };
        let g = gradient.mul_scalar(f64::from(update.gradient_scale))?;
        *buffer = between(buffer, &g, 1.0 - self.momentum)?;
        let direction = if self.nesterov { between(&g, buffer, self.momentum)? } else { buffer.clone() };
        let (rows, cols) = (w.shape().rows(), w.shape().last());
        let size = update.lr * (rows as f64 / cols as f64).max(1.0).sqrt();
        let pull = w.mul_scalar(update.lr * update.weight_decay)?;
        Ok(w.sub_assign(&orthogonal(&direction)?.mul_scalar(size)?.add(&pull)?)?)
    }
}

/// `a + (b - a) share`.
fn between(a: &Tensor, b: &Tensor, share: f64) -> Result<Tensor> {
    Ok(a.add(&b.sub(a)?.mul_scalar(share)?)?)
}

/// A matrix with the singular vectors of `x` and singular values near one.
pub fn orthogonal(x: &Tensor) -> Result<Tensor> {
    let tall = x.shape().rows() > x.shape().last();
    let x = if tall { x.t()?.contiguous()? } else { x.clone() };
    let norm = f64::from(x.square()?.sum((), false)?.sqrt()?.item::<f32>()?);
    let mut x = x.div_scalar(norm.max(MIN_NORM))?;
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..STEPS {
        let gram = x.matmul(&x.t()?)?;
        let polynomial = gram.mul_scalar(b)?.add(&gram.matmul(&gram)?.mul_scalar(c)?)?;
        x = x.mul_scalar(a)?.add(&polynomial.matmul(&x)?)?;
    }
    Ok(if tall { x.t()?.contiguous()? } else { x })
}
