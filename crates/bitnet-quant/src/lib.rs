//! 1.58-bit weight formats: floats to codes to bytes and back, on plain slices.
//!
//! *Quantize* turns floats into codes -1, 0, +1 and a scale ([`ternary`], [`activation`]); *pack* turns codes into bytes
//! ([`Format`], one file each in [`formats`]). Packing loses nothing, and bytes that a format does not define are refused.
#![forbid(unsafe_code)]

pub mod activation;
mod codes;
mod error;
mod format;
pub mod formats;
pub mod metrics;
pub mod ternary;

pub use codes::{Scales, Ternary};
pub use error::{Error, Result};
pub use format::{Codec, Format};
