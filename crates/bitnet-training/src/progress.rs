//! What a run tells while it goes on.

use crate::evaluate::Evaluation;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An update of the weights.
    Step(Step),
    /// Losses on what is held out.
    Evaluated {
        /// After so many steps.
        step: u64,
        /// What was found.
        evaluation: Evaluation,
        /// Whether no earlier one was better.
        best: bool,
    },
    /// A step whose loss or gradient was not finite; the weights stayed as they were.
    Skipped {
        /// Which step.
        step: u64,
        /// Loss or gradient.
        what: &'static str,
    },
    /// A checkpoint was written.
    Saved {
        /// After so many steps.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
}

/// An update of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Number of the step, from 1.
    pub step: u64,
    /// Nats a token before the update.
    pub loss: f64,
    /// What a teacher adds to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Pull towards zero.
    pub weight_decay: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Targets that counted.
    pub tokens: u64,
    /// Seconds of the step.
    pub seconds: f64,
    /// Of each layer, where the weights are ternary and this step is logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Codes>,
}

/// Codes of the weights of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Codes {
    /// Share of the codes that are not zero.
    pub density: f64,
    /// Share of the codes that changed in a step since the last line of the log, on average.
    pub flips: f64,
}
