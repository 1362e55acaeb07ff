//! Linear layers: ternary with int8 activations, stored floats, or floats that are trained.

use super::RmsNorm;
use crate::config::Activation;
use bitnet_core::{
    DType, PackedTensor, Result, Tensor,
    ops::{self, Codes, Rounded},
};
use serde::{Deserialize, Serialize};
use std::{cell::OnceCell, sync::Arc};

/// A weight `[O, C]` without bias.
#[derive(Clone, Debug)]
pub enum Linear {
    /// BitLinear: int8 activations per token times ternary codes, in integers.
    Ternary(PackedTensor),
    /// Stored floats times f32 activations.
    Dense(PackedTensor),
    /// Trainable floats, rounded in every forward pass.
    Latent(Latent),
}

/// Floats that are trained, and how they are rounded where they are used.
#[derive(Clone, Debug)]
pub struct Latent {
    /// `[O, C]` in f32.
    pub weight: Tensor,
    /// How weight and input are rounded.
    pub quantization: Quantization,
    /// The weight as it is rounded, where it was rounded for several passes.
    pub(crate) rounded: Option<Arc<Rounded>>,
}

/// How a latent weight and its input are rounded, with gradients that pass straight through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// The weights.
    pub weights: WeightCodes,
    /// The input.
    pub activations: ActivationCodes,
    /// How much of the rounding is applied, from 0 (none) to 1 (all): `x + lambda (round(x) - x)`.
    pub lambda: f32,
}

/// Which weights share an absmean scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightCodes {
    /// None: the weights are used as they are.
    Off,
    /// Those of a matrix.
    #[default]
    Tensor,
    /// So many neighbours in a row.
    Group(usize),
    /// None: the weights are rounded to float16, for comparison.
    F16,
    /// None: the weights are rounded to bfloat16, for comparison.
    Bf16,
}

/// What inputs are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationCodes {
    /// They are used as they are.
    Off,
    /// Codes with an absmax scale for each token.
    #[default]
    Int8,
    /// float16, for comparison.
    F16,
    /// bfloat16, for comparison.
    Bf16,
}

impl WeightCodes {
    /// Whether weights become ternary codes.
    pub fn is_ternary(self) -> bool {
        matches!(self, Self::Tensor | Self::Group(_))
    }
}

impl Quantization {
    /// Nothing is rounded.
    pub const OFF: Self = Self { weights: WeightCodes::Off, activations: ActivationCodes::Off, lambda: 1.0 };
    /// W1.58A8 with a scale for each matrix.
    pub const BITNET: Self =
        Self { weights: WeightCodes::Tensor, activations: ActivationCodes::Int8, lambda: 1.0 };

    /// Whether inference computes what training does: codes with int8 inputs, or floats with floats.
    pub fn has_packed_form(&self) -> bool {
        matches!(
            (self.weights, self.activations),
            (WeightCodes::Off, ActivationCodes::Off) | (WeightCodes::Tensor, ActivationCodes::Int8)
        )
    }

    /// What a weight is computed with.
    ///
    /// # Errors
    /// Where rows are not whole groups or the device fails.
    pub fn weight(&self, w: &Tensor) -> Result<Tensor> {
        match self.weights {
            WeightCodes::Off => Ok(w.clone()),
            WeightCodes::Tensor => self.blend(w, ops::fake_ternarize(w, None)?),
            WeightCodes::Group(len) => self.blend(w, ops::fake_ternarize(w, Some(len))?),
            WeightCodes::F16 => self.blend(w, ops::fake_cast(w, DType::F16)?),
            WeightCodes::Bf16 => self.blend(w, ops::fake_cast(w, DType::BF16)?),
        }
    }

    /// What an input is computed with.
    fn input(&self, x: &Tensor) -> Result<Tensor> {
        match self.activations {
            ActivationCodes::Off => Ok(x.clone()),
            ActivationCodes::Int8 => self.blend(x, ops::fake_quantize(x)?),
            ActivationCodes::F16 => self.blend(x, ops::fake_cast(x, DType::F16)?),
            ActivationCodes::Bf16 => self.blend(x, ops::fake_cast(x, DType::BF16)?),
        }
    }

    /// Between a value and its rounding; the gradient is that of the value either way.
    fn blend(&self, x: &Tensor, rounded: Tensor) -> Result<Tensor> {
        if self.lambda >= 1.0 {
            return Ok(rounded);
        }
        let change = rounded.detach().sub(&x.detach())?.mul_scalar(f64::from(self.lambda))?;
        x.add(&change)
    }
}

impl Linear {
    /// `x: [T, C]` -> `[T, O]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn forward(&self, x: &LinearInput<'_>) -> Result<Tensor> {
        match self {
            Self::Ternary(w) => ops::bit_matmul(x.codes()?, w),
            Self::Dense(w) => ops::matmul_t(x.tensor()?, w),
            Self::Latent(w) if w.quantization == Quantization::BITNET => {
                let rounded = w.rounded.clone().map_or_else(|| w.rounded().map(Arc::new), Ok)?;
                ops::bit_linear(x.tensor()?, x.codes()?, &w.weight, &rounded)
            }
            Self::Latent(w) => ops::linear(&x.rounded(&w.quantization)?, &w.quantization.weight(&w.weight)?),
        }
    }

    /// As [`forward`](Self::forward) of several layers with one input.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_all<const N: usize>(linears: [&Self; N], x: &LinearInput<'_>) -> Result<[Tensor; N]> {
        let mut ternary = Vec::with_capacity(N);
        ternary.extend(linears.iter().filter_map(|linear| match linear {
            Self::Ternary(w) => Some(w),
            Self::Dense(_) | Self::Latent(_) => None,
        }));
        if let Ok(ternary) = <[&PackedTensor; N]>::try_from(ternary) {
            return ops::bit_matmul_all(x.codes()?, ternary);
        }
        let mut y = Vec::with_capacity(N);
        for linear in linears {
            y.push(linear.forward(x)?);
        }
        let Ok(y) = y.try_into() else { unreachable!("a result for each layer") };
        Ok(y)
    }

    /// `residual + x · Wᵀ`, both `[T, O]`; in place where nobody else needs `residual`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_add(&self, residual: Tensor, x: &LinearInput<'_>) -> Result<Tensor> {
        match self {
            Self::Ternary(w) => ops::bit_matmul_add(residual, x.codes()?, w),
            Self::Dense(_) | Self::Latent(_) => ops::add_to(residual, &self.forward(x)?),
        }
    }

    /// Whether it multiplies int8 codes of its input.
    pub fn takes_codes(&self) -> bool {
        match self {
            Self::Ternary(_) => true,
            Self::Dense(_) => false,
            Self::Latent(w) => w.quantization == Quantization::BITNET,
        }
    }

    /// O.
    pub fn rows(&self) -> usize {
        match self {
            Self::Ternary(w) | Self::Dense(w) => w.rows(),
            Self::Latent(w) => w.weight.shape().rows(),
        }
    }

    /// Bytes of the weight, but for a copy in triples.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Ternary(w) | Self::Dense(w) => w.bytes(),
            Self::Latent(w) => w.weight.bytes(),
        }
    }

    /// Bytes that a step of one token reads.
    pub fn bytes_for_one(&self) -> usize {
        match self {
            Self::Ternary(w) => w.bytes_for_one(),
            Self::Dense(_) | Self::Latent(_) => self.bytes(),
        }
    }
}

/// The input of one or several linear layers: rows, or what is made of them. It is made and quantized once, when the first layer asks;
/// where all of them take codes, it is not written down but for these.
pub struct LinearInput<'a> {
    source: Source<'a>,
    norm: Option<&'a RmsNorm>,
    tensor: OnceCell<Tensor>,
    codes: OnceCell<Codes>,
    rounded: OnceCell<(Quantization, Tensor)>,
}

/// What an input is made of.
#[expect(clippy::large_enum_variant, reason = "one lives on the stack at a time, for a few ops")]
enum Source<'a> {
    Rows(&'a Tensor),
    Glu { kind: Activation, gate: Tensor, up: Tensor },
}

impl<'a> LinearInput<'a> {
    /// Wraps `x: [T, C]`.
    pub fn new(x: &'a Tensor) -> Self {
        Self::of(Source::Rows(x), None)
    }

    /// `x: [T, C]` after a norm where there is one.
    pub fn normed(x: &'a Tensor, norm: Option<&'a RmsNorm>) -> Self {
        Self::of(Source::Rows(x), norm)
    }

    /// `act(gate) * up`, both `[T, C]`, after a norm where there is one.
    pub fn gated(kind: Activation, gate: Tensor, up: Tensor, norm: Option<&'a RmsNorm>) -> Self {
        Self::of(Source::Glu { kind, gate, up }, norm)
    }

    fn of(source: Source<'a>, norm: Option<&'a RmsNorm>) -> Self {
        Self { source, norm, tensor: OnceCell::new(), codes: OnceCell::new(), rounded: OnceCell::new() }
    }

    /// The input, `[T, C]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn tensor(&self) -> Result<&Tensor> {
        if let (Source::Rows(x), None) = (&self.source, self.norm) {
            return Ok(x);
        }
        filled(&self.tensor, || match (&self.source, self.norm) {
            (Source::Rows(x), norm) => norm.map_or_else(|| Ok((*x).clone()), |norm| norm.forward(x)),
            (Source::Glu { kind, gate, up }, None) => ops::glu(*kind, gate, up),
            (Source::Glu { kind, gate, up }, Some(norm)) => norm.forward(&ops::glu(*kind, gate, up)?),
        })
    }

    /// Absmax int8 codes of the input.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn codes(&self) -> Result<&Codes> {
        filled(&self.codes, || match (self.tensor.get(), &self.source, self.norm) {
            (Some(x), ..) => Codes::quantize(x),
            (None, Source::Rows(x), None) => Codes::quantize(x),
            (None, Source::Rows(x), Some(norm)) => Codes::of_norm(x, norm.before_codes()),
            (None, Source::Glu { kind, gate, up }, norm) => {
                Codes::of_glu(*kind, gate, up, norm.map(RmsNorm::before_codes))
            }
        })
    }

    /// The input as a latent weight meets it.
    fn rounded(&self, quantization: &Quantization) -> Result<Tensor> {
        if let Some((_, rounded)) = self.rounded.get().filter(|(how, _)| how == quantization) {
            return Ok(rounded.clone());
        }
        let rounded = quantization.input(self.tensor()?)?;
        self.rounded.get_or_init(|| (*quantization, rounded.clone()));
        Ok(rounded)
    }
}

/// What a cell holds, made where it is empty.
fn filled<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}
