//! Root-mean-square norm.

use bitnet_core::{
    Result, Tensor,
    ops::{self, Norm},
};

/// `x / sqrt(mean(x²) + eps) * weight` over the last dimension.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// `[C]`.
    pub weight: Tensor,
    /// Added to the mean square inside the root.
    pub eps: f32,
}

impl RmsNorm {
    /// `x: [.., C]` -> the same shape.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.weight, self.eps)
    }

    /// As part of the op that quantizes its result.
    pub(crate) fn before_codes(&self) -> Norm<'_> {
        Norm { weight: &self.weight, eps: self.eps }
    }
}
