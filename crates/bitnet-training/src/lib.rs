//! From text to a ternary model: data, optimizers, schedules, the trainer and its checkpoints.
//!
//! Read first: [`trainer`], whose step is the whole of training.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod distill;
mod error;
pub mod evaluate;
pub mod log;
pub mod optim;
pub mod parallel;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod tensorboard;
pub mod trainer;

pub use config::RunConfig;
pub use error::{Error, Result};
pub use trainer::Trainer;
