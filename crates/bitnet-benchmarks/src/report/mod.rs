//! Receipts: what a benchmark run measured, on which machine, at which commit. They are made from criterion's results,
//! compared under a noise rule, and drawn as a page.
//!
//! Read first: [`receipt`], then [`compare`].

pub mod cli;
pub mod compare;
pub mod criterion;
pub mod energy;
mod error;
pub mod gpu;
pub mod html;
pub mod machine;
pub mod receipt;
pub mod stats;
pub mod suite;
pub mod throttle;
mod units;

pub use error::{Error, Result};
pub use receipt::{Benchmark, Machine, Reading, Receipt, Sensors, Throughput};
