//! Linear layers: ternary with int8 activations, or stored floats.

use bitnet_core::{
    PackedTensor, Result, Tensor,
    ops::{self, Codes},
};
use std::cell::OnceCell;

/// A weight `[O, C]` without bias.
#[derive(Clone, Debug)]
pub enum Linear {
    /// BitLinear: int8 activations per token times ternary codes, in integers.
    Ternary(PackedTensor),
    /// Stored floats times f32 activations.
    Dense(PackedTensor),
}

impl Linear {
    /// `x: [T, C]` -> `[T, O]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn forward(&self, x: &LinearInput<'_>) -> Result<Tensor> {
        match self {
            Self::Ternary(w) => ops::bit_matmul(x.codes()?, w),
            Self::Dense(w) => ops::matmul_t(x.tensor, w),
        }
    }

    /// The stored matrix.
    pub fn weight(&self) -> &PackedTensor {
        match self {
            Self::Ternary(w) | Self::Dense(w) => w,
        }
    }
}

/// The input of one or several linear layers; quantized once, when the first of them asks.
pub struct LinearInput<'a> {
    tensor: &'a Tensor,
    codes: OnceCell<Codes>,
}

impl<'a> LinearInput<'a> {
    /// Wraps `x: [T, C]`.
    pub fn new(tensor: &'a Tensor) -> Self {
        Self { tensor, codes: OnceCell::new() }
    }

    /// Absmax int8 codes of the input.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn codes(&self) -> Result<&Codes> {
        match self.codes.get() {
            Some(codes) => Ok(codes),
            None => {
                let codes = Codes::quantize(self.tensor)?;
                Ok(self.codes.get_or_init(|| codes))
            }
        }
    }
}
