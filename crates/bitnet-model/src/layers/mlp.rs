//! Gated feed-forward layer.

use super::{Linear, LinearInput, RmsNorm};
use crate::config::Activation;
use bitnet_core::{
    Result, Tensor,
    ops::{self, Codes},
};

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
        self.watched(x, |_| Ok(()))
    }

    /// As [`Mlp::forward`], with `watch` told the codes that the down projection takes, where it takes codes.
    ///
    /// # Errors
    /// As [`Mlp::forward`]; what `watch` returns.
    pub fn watched(&self, x: &Tensor, watch: impl FnOnce(&Codes) -> Result<()>) -> Result<Tensor> {
        let x = LinearInput::new(x);
        let mut y = ops::glu(self.activation, &self.gate.forward(&x)?, &self.up.forward(&x)?)?;
        if let Some(norm) = &self.sub_norm {
            y = norm.forward(&y)?;
        }
        let y = LinearInput::new(&y);
        if self.down.takes_codes() {
            watch(y.codes()?)?;
        }
        self.down.forward(&y)
    }
}
