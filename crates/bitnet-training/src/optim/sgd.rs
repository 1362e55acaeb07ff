//! Gradient descent with momentum, as PyTorch's `SGD` defines it.

use super::{State, Update};
use crate::Result;
use bitnet_core::Tensor;
use serde::{Deserialize, Serialize};

/// Constants of gradient descent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// How much of the last step is taken again.
    pub momentum: f64,
    /// How much of the gradient is kept out of the momentum.
    pub dampening: f64,
    /// Whether the momentum looks one step ahead.
    pub nesterov: bool,
}

impl Sgd {
    pub(super) fn update(
        &self,
        w: &mut Tensor,
        gradient: &Tensor,
        state: &mut State,
        update: Update,
    ) -> Result<()> {
        let mut g = gradient.mul_scalar(f64::from(update.gradient_scale))?;
        if update.weight_decay != 0.0 {
            g = g.add(&w.mul_scalar(update.weight_decay)?)?;
        }
        if let Some((_, buffer)) = state.0.first_mut() {
            *buffer = if update.step == 1 {
                g.clone()
            } else {
                buffer.mul_scalar(self.momentum)?.add(&g.mul_scalar(1.0 - self.dampening)?)?
            };
            g = if self.nesterov { g.add(&buffer.mul_scalar(self.momentum)?)? } else { buffer.clone() };
        }
        Ok(w.sub_assign(&g.mul_scalar(update.lr)?)?)
    }
}
