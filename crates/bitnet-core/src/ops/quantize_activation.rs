//! Absmax int8 quantization of activations, per token; [`bitnet_quant::activation`] defines it.

use crate::{
    DType, Result, Tensor,
    backend::{CodesMut, CodesView},
    packed::padded_cols,
};

pub use bitnet_quant::activation::{RowCodes, quantize as reference};

/// Activations quantized per token, as [`bit_matmul`](super::bit_matmul()) takes them. `C'` is `C` padded to whole blocks.
#[derive(Clone, Debug)]
pub struct Codes {
    /// `[T, C']` i8 codes, zero behind the last column.
    pub codes: Tensor,
    /// `[T]` f32 factors `127 / absmax` that the codes were multiplied by.
    pub scales: Tensor,
    /// `[T]` i32 sums of each row of codes.
    pub sums: Tensor,
}

impl Codes {
    /// Absmax int8 codes of each row of `x: [T, C]`: `rne(x * 127 / max(absmax, 1e-5))`.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn quantize(x: &Tensor) -> Result<Self> {
        let (tokens, device) = (x.shape().rows(), x.device());
        let mut y = Self {
            codes: Tensor::empty(device, [tokens, padded_cols(x.shape().last())], DType::I8)?,
            scales: Tensor::empty(device, [tokens], DType::F32)?,
            sums: Tensor::empty(device, [tokens], DType::I32)?,
        };
        let op = "quantize_activation";
        let target = CodesMut {
            codes: y.codes.view_mut(op)?,
            scales: y.scales.view_mut(op)?,
            sums: y.sums.view_mut(op)?,
        };
        device.backend().quantize_activation(x.view(), target)?;
        Ok(y)
    }

    /// The codes for a backend to read.
    pub fn view(&self) -> CodesView<'_> {
        CodesView { codes: self.codes.view(), scales: self.scales.view(), sums: self.sums.view() }
    }
}
