//! Absmax int8 quantization of activations, per token; [`bitnet_quant::activation`] defines it.
//!
//! What stands before a ternary product, a gated linear unit and a norm, is computed in the same pass: its rows are needed for their codes
//! alone. The codes are those of the ops one after the other.

use super::{Glu, expect_device, expect_shape, rms_norm};
use crate::{
    DType, Result, Tensor,
    backend::{Activations, CodesMut, CodesView},
    packed::padded_cols,
};

pub use bitnet_quant::activation::{RowCodes, quantize as reference};

/// Quantizes a row after its [norm](rms_norm::reference). `x, weight: [C]`, `codes: [C']`.
#[inline(always)]
pub fn normed_reference(x: &[f32], weight: &[f32], eps: f32, codes: &mut [i8]) -> RowCodes {
    bitnet_quant::activation::quantize_scaled(x, rms_norm::inverse(x, eps), weight, codes)
}

/// A [norm](super::rms_norm()) before the codes.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// `[C]`.
    pub weight: &'a Tensor,
    /// Added to the mean square inside the root.
    pub eps: f32,
}

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
        Self::of(x, None, None)
    }

    /// As [`quantize`](Self::quantize) of `x: [T, C]` after a norm.
    ///
    /// # Errors
    /// Where shapes or devices differ, or the device fails.
    pub fn of_norm(x: &Tensor, norm: Norm<'_>) -> Result<Self> {
        Self::of(x, None, Some(norm))
    }

    /// As [`quantize`](Self::quantize) of `act(gate) * up`, both `[T, C]`, after a norm where there is one.
    ///
    /// # Errors
    /// Where shapes or devices differ, or the device fails.
    pub fn of_glu(kind: Glu, gate: &Tensor, up: &Tensor, norm: Option<Norm<'_>>) -> Result<Self> {
        Self::of(gate, Some((kind, up)), norm)
    }

    fn of(x: &Tensor, glu: Option<(Glu, &Tensor)>, norm: Option<Norm<'_>>) -> Result<Self> {
        let op = "quantize_activation";
        let (tokens, device) = (x.shape().rows(), x.device());
        if let Some(norm) = norm {
            expect_shape(op, norm.weight, [x.shape().last()])?;
            expect_device(op, device, norm.weight.device())?;
        }
        if let Some((_, up)) = glu {
            expect_shape(op, up, x.shape())?;
            expect_device(op, device, up.device())?;
        }
        let mut y = Self {
            codes: Tensor::empty(device, [tokens, padded_cols(x.shape().last())], DType::I8)?,
            scales: Tensor::empty(device, [tokens], DType::F32)?,
            sums: Tensor::empty(device, [tokens], DType::I32)?,
        };
        let x = Activations {
            x: x.view(),
            glu: glu.map(|(kind, up)| (kind, up.view())),
            norm: norm.map(|norm| (norm.weight.view(), norm.eps)),
        };
        let target = CodesMut {
            codes: y.codes.view_mut(op)?,
            scales: y.scales.view_mut(op)?,
            sums: y.sums.view_mut(op)?,
        };
        device.backend().quantize_activation(x, target)?;
        Ok(y)
    }

    /// The codes for a backend to read.
    pub fn view(&self) -> CodesView<'_> {
        CodesView { codes: self.codes.view(), scales: self.scales.view(), sums: self.sums.view() }
    }
}
