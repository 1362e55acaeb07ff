//! Optimizers: how weights follow their gradients.

mod adam;
mod muon;
mod sgd;

pub use muon::Muon;
pub use sgd::Sgd;

use crate::Result;
use bitnet_core::Tensor;
use serde::{Deserialize, Serialize};

/// A rule of updates with its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Rule {
    /// Gradient descent with momentum.
    Sgd(Sgd),
    /// Adam; weight decay is added to the gradient.
    Adam(Adam),
    /// Adam with weight decay apart from the gradient.
    AdamW(Adam),
    /// Orthogonalised momentum for the matrices of the layers, AdamW for everything else.
    Muon(Muon),
}

/// Constants of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8 }
    }
}

/// What an update depends on besides weight and gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Number of the update, from 1.
    pub step: u32,
    /// Step size.
    pub lr: f64,
    /// Pull towards zero.
    pub weight_decay: f64,
    /// What the gradient is multiplied by first: the coefficient of clipping.
    pub gradient_scale: f32,
}

/// What an optimizer remembers of one weight, by name.
#[derive(Clone, Debug, Default)]
pub struct State(pub Vec<(&'static str, Tensor)>);

impl Rule {
    /// The state of a weight before its first update. `matrix` says whether it is one of the matrices that Muon is for.
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn state(&self, w: &Tensor, matrix: bool) -> Result<State> {
        let names: &[&str] = match self {
            Self::Sgd(sgd) if sgd.momentum == 0.0 => &[],
            Self::Sgd(_) => &["momentum_buffer"],
            Self::Muon(_) if matrix => &["momentum_buffer"],
            Self::Adam(_) | Self::AdamW(_) | Self::Muon(_) => &["exp_avg", "exp_avg_sq"],
        };
        let zeros = names.iter().map(|name| Ok((*name, w.detach().zeros_like()?)));
        Ok(State(zeros.collect::<Result<_>>()?))
    }

    /// Moves a weight in place.
    ///
    /// # Errors
    /// Where shapes differ, the weight is shared, or the device fails.
    pub fn update(
        &self,
        w: &mut Tensor,
        gradient: &Tensor,
        state: &mut State,
        update: Update,
        matrix: bool,
    ) -> Result<()> {
        match self {
            Self::Sgd(sgd) => sgd.update(w, gradient, state, update),
            Self::Adam(constants) => adam::update(constants, false, w, gradient, state, update),
            Self::AdamW(constants) => adam::update(constants, true, w, gradient, state, update),
            Self::Muon(muon) if matrix => muon.update(w, gradient, state, update),
            Self::Muon(muon) => {
                let update = Update { lr: update.lr * muon.adam_lr_scale, ..update };
                adam::update(&muon.adam(), true, w, gradient, state, update)
            }
        }
    }

    /// Names its constants that make no sense.
    ///
    /// # Errors
    /// The first of them.
    pub fn validate(&self) -> Result<()> {
        let adam = |a: Adam| {
            unit("optimizer.beta1", a.beta1)?;
            unit("optimizer.beta2", a.beta2)?;
            positive("optimizer.eps", a.eps)
        };
        match self {
            Self::Sgd(sgd) => {
                unit("optimizer.momentum", sgd.momentum)?;
                unit("optimizer.dampening", sgd.dampening)?;
                let fits = !sgd.nesterov || (sgd.momentum > 0.0 && sgd.dampening == 0.0);
                let rule = "false without momentum or with dampening";
                if fits { Ok(()) } else { Err(refuse("optimizer.nesterov", sgd.nesterov, rule)) }
            }
            Self::Adam(a) | Self::AdamW(a) => adam(*a),
            Self::Muon(muon) => {
                unit("optimizer.momentum", muon.momentum)?;
                positive("optimizer.adam_lr_scale", muon.adam_lr_scale)?;
                adam(muon.adam())
            }
        }
    }
}

fn refuse(key: &'static str, value: impl ToString, rule: &str) -> crate::Error {
    crate::Error::Config { key, value: value.to_string(), rule: rule.into() }
}

fn unit(key: &'static str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(refuse(key, value, "a number from 0 to below 1")) }
}

fn positive(key: &'static str, value: f64) -> Result<()> {
    let holds = value > 0.0 && value.is_finite();
    if holds { Ok(()) } else { Err(refuse(key, value, "a positive number")) }
}
