//! Memory pools, devices, tensors and the CPU backend of BitNet-Rust.
//!
//! Read first: [`backend`] (what a device must do), then one file of [`ops`] (what an op is).
#![deny(unsafe_code)]

pub mod autograd;
pub mod axes;
pub mod backend;
pub mod buffer;
pub mod cpu;
pub mod device;
pub mod dtype;
mod error;
pub mod host;
pub mod interchange;
mod lanes;
pub mod layout;
pub mod math;
#[expect(unsafe_code, reason = "memory is handed out by address")]
pub mod memory;
pub mod ops;
pub mod packed;
pub mod random;
pub mod shape;
pub mod tensor;
pub mod view;

pub use autograd::Gradients;
pub use axes::Axes;
pub use device::Device;
pub use dtype::{Bool, DType, Element};
pub use error::{Error, Result};
pub use layout::Layout;
pub use packed::PackedTensor;
pub use shape::Shape;
pub use tensor::Tensor;
