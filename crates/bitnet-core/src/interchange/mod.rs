//! Tensors in the formats of others: files of NumPy and safetensors, arrays in memory by DLPack and ndarray.
//!
//! What comes from a file is not trusted: lengths are checked before memory is taken for them, and a refusal names the field.

pub mod atomic;
pub mod dlpack;
mod error;
#[cfg(feature = "ndarray")]
pub mod ndarray;
pub mod npy;
pub mod npz;
mod raw;
pub mod safetensors;

pub use error::InterchangeError;

const _: () =
    assert!(cfg!(target_endian = "little"), "elements go to little-endian files as they lie in memory");
