//! Gated feed-forward layer.

use super::{Linear, LinearInput, RmsNorm};
use crate::config::Activation;
use bitnet_core::{Result, Tensor};

/// `down(norm(act(gate(x)) * up(x)))`.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `[F, C]`.
    pub gate: Linear,
    /// `[F, C]`.
    pub up: Linear,
    /// `[C, F]`.
    pub down: Linear,
    /// Before the down projection, `[F]`.
    pub sub_norm: Option<RmsNorm>,
    /// What gates.
    pub activation: Activation,
}

impl Mlp {
    /// `x: [T, C]` -> `[T, C]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.hidden(&LinearInput::new(x))?)
    }

    /// What the down projection takes, `[T, F]`, of `x: [T, C]`.
    ///
    /// # Errors
    /// As [`Mlp::forward`].
    pub fn hidden(&self, x: &LinearInput<'_>) -> Result<LinearInput<'_>> {
        let [gate, up] = Linear::forward_all([&self.gate, &self.up], x)?;
        Ok(LinearInput::gated(self.activation, gate, up, self.sub_norm.as_ref()))
    }
}
