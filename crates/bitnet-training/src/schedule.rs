//! How learning rate and weight decay change with the steps. Formulas: transformers 5, `optimization.py`; the two stages: Microsoft, "The Era of
//! 1-bit LLMs: Training Tips, Code and FAQ".

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Learning rate and weight decay by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The same after a warm-up.
    Constant {
        /// Learning rate.
        lr: f64,
        /// Steps from zero to it.
        #[serde(default)]
        warmup: u64,
        /// Pull towards zero.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
    /// A straight line to `min_lr` at the end.
    Linear {
        /// Learning rate after the warm-up.
        lr: f64,
        /// Learning rate at the end.
        #[serde(default)]
        min_lr: f64,
        /// Steps from zero to `lr`.
        #[serde(default)]
        warmup: u64,
        /// Pull towards zero.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
    /// Half a wave of a cosine to `min_lr` at the end.
    Cosine {
        /// Learning rate after the warm-up.
        lr: f64,
        /// Learning rate at the end.
        #[serde(default)]
        min_lr: f64,
        /// Steps from zero to `lr`.
        #[serde(default)]
        warmup: u64,
        /// Pull towards zero.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
    /// Warm-up (from `min_lr`), stable, decay.
    Wsd {
        /// Learning rate between warm-up and decay.
        lr: f64,
        /// Learning rate at the end.
        #[serde(default)]
        min_lr: f64,
        /// Steps from zero to `lr`.
        #[serde(default)]
        warmup: u64,
        /// Steps of the decay at the end.
        decay: u64,
        /// Form of the decay.
        #[serde(default)]
        shape: Shape,
        /// Pull towards zero.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
    /// BitNet's: a first stage with weight decay, a second one with a lower rate and without. The rate falls in a straight line in each.
    TwoStage {
        /// Steps from zero to `peak1`.
        #[serde(default)]
        warmup: u64,
        /// Learning rate after the warm-up.
        peak1: f64,
        /// Learning rate at the end of the first stage.
        end1: f64,
        /// Learning rate at the beginning of the second stage.
        peak2: f64,
        /// Learning rate at the end.
        #[serde(default)]
        end2: f64,
        /// Step at which the second stage begins; half of all steps where it is left out.
        #[serde(default)]
        switch: Option<u64>,
        /// Pull towards zero in the first stage.
        #[serde(default = "decay")]
        weight_decay1: f64,
        /// Pull towards zero in the second stage.
        #[serde(default)]
        weight_decay2: f64,
    },
}

/// Form of the decay of [`Schedule::Wsd`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A straight line.
    #[default]
    Linear,
    /// Half a wave of a cosine.
    Cosine,
    /// One minus the root of the progress.
    InverseRoot,
}

fn decay() -> f64 {
    0.1
}

/// What a step is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Step size.
    pub lr: f64,
    /// Pull towards zero.
    pub weight_decay: f64,
}

impl Schedule {
    /// Rates of step `step` of `total`, counted from 0. The first step of a warm-up has a rate of zero.
    pub fn at(&self, step: u64, total: u64) -> Rates {
        let (lr, weight_decay) = match *self {
            Self::Constant { lr, warmup, weight_decay } => (lr * rise(step, warmup), weight_decay),
            Self::Linear { lr, min_lr, warmup, weight_decay } => {
                let down = |t: f64| min_lr + (lr - min_lr) * (1.0 - t.min(1.0));
                (after(step, warmup, total, lr, down), weight_decay)
            }
            Self::Cosine { lr, min_lr, warmup, weight_decay } => {
                let down = |t: f64| min_lr + (lr - min_lr) * half_wave(t);
                (after(step, warmup, total, lr, down), weight_decay)
            }
            Self::Wsd { lr, min_lr, warmup, decay, shape, weight_decay } => {
                let begin = total.saturating_sub(decay);
                let height = if step >= total { 0.0 } else { shape.height(share(step, begin, total)) };
                let rate = min_lr + (lr - min_lr) * height;
                (if step < warmup { min_lr + (lr - min_lr) * rise(step, warmup) } else { rate }, weight_decay)
            }
            Self::TwoStage { warmup, peak1, end1, peak2, end2, switch, weight_decay1, weight_decay2 } => {
                let switch = switch.unwrap_or(total / 2);
                let line = |from: f64, to: f64, t: f64| from + (to - from) * t.min(1.0);
                if step < warmup {
                    (peak1 * rise(step, warmup), weight_decay1)
                } else if step < switch {
                    (line(peak1, end1, share(step, warmup, switch)), weight_decay1)
                } else {
                    (line(peak2, end2, share(step, switch, total)), weight_decay2)
                }
            }
        };
        Rates { lr, weight_decay }
    }

    /// Refuses rates and lengths that make no sense in a run of `total` steps.
    ///
    /// # Errors
    /// The first of them.
    pub fn validate(&self, total: u64) -> Result<()> {
        let (rates, lengths, decays): (Vec<_>, Vec<_>, Vec<_>) = match *self {
            Self::Constant { lr, warmup, weight_decay } => {
                (vec![("schedule.lr", lr)], vec![("schedule.warmup", warmup)], vec![weight_decay])
            }
            Self::Linear { lr, min_lr, warmup, weight_decay }
            | Self::Cosine { lr, min_lr, warmup, weight_decay } => (
                vec![("schedule.lr", lr), ("schedule.min_lr", min_lr)],
                vec![("schedule.warmup", warmup)],
                vec![weight_decay],
            ),
            Self::Wsd { lr, min_lr, warmup, decay, weight_decay, .. } => (
                vec![("schedule.lr", lr), ("schedule.min_lr", min_lr)],
                vec![("schedule.warmup", warmup), ("schedule.decay", warmup.saturating_add(decay))],
                vec![weight_decay],
            ),
            Self::TwoStage { warmup, peak1, end1, peak2, end2, switch, weight_decay1, weight_decay2 } => (
                vec![
                    ("schedule.peak1", peak1),
                    ("schedule.end1", end1),
                    ("schedule.peak2", peak2),
                    ("schedule.end2", end2),
                ],
                vec![("schedule.warmup", warmup), ("schedule.switch", switch.unwrap_or(0))],
                vec![weight_decay1, weight_decay2],
            ),
        };
        let refuse = |key, value: String, rule: String| Err(Error::Config { key, value, rule });
        for (key, rate) in rates {
            if !(0.0..=10.0).contains(&rate) {
                return refuse(key, rate.to_string(), "a number from 0 to 10".into());
            }
        }
        for (key, length) in lengths {
            if length > total {
                return refuse(key, length.to_string(), format!("at most the {total} steps of the run"));
            }
        }
        for decay in decays {
            if !(0.0..=10.0).contains(&decay) {
                let key = "schedule.weight_decay";
                return refuse(key, decay.to_string(), "a number from 0 to 10".into());
            }
        }
        Ok(())
    }
}

impl Shape {
    /// From 1 to 0 over a decay.
    fn height(self, t: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - t,
            Self::Cosine => half_wave(t),
            Self::InverseRoot => 1.0 - t.sqrt(),
        }
    }
}

/// Share of the warm-up that is over.
fn rise(step: u64, warmup: u64) -> f64 {
    if step < warmup { step as f64 / warmup as f64 } else { 1.0 }
}

/// How far `step` is on the way from `begin` to `end`: beyond 1 behind it.
fn share(step: u64, begin: u64, end: u64) -> f64 {
    step.saturating_sub(begin) as f64 / end.saturating_sub(begin).max(1) as f64
}

/// The warm-up, then `down` of the progress of the rest.
fn after(step: u64, warmup: u64, total: u64, lr: f64, down: impl Fn(f64) -> f64) -> f64 {
    if step < warmup { lr * rise(step, warmup) } else { down(share(step, warmup, total)) }
}

fn half_wave(t: f64) -> f64 {
    0.5 * (1.0 + (PI * t).cos())
}
