//! A checkpoint as a decoder that runs. I2_S rows of whole blocks, embeddings and heads stay where they are in the file;
//! everything else is unpacked and packed again, many tensors at a time.

use super::{Checkpoint, Meaning, Weight};
use crate::{
    Decoder, Result,
    arch::PROJECTIONS,
    decoder::Layer,
    layers::{Attention, Linear, Mlp, RmsNorm, Rope, Table},
};
use bitnet_core::{DType, Device, PackedTensor, Tensor, memory::Owner, packed::padded_cols};
use bitnet_quant::{Format, Scales, Ternary};
use rayon::prelude::*;
use std::sync::Arc;

/// Told after every tensor: bytes of the file that are done.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

impl Checkpoint {
    /// Brings the weights to a device.
    ///
    /// # Errors
    /// Names the file and the tensor that breaks a rule; where the device has no memory left.
    pub fn decoder(&self, device: &Device, progress: Progress<'_>) -> Result<Decoder> {
        self.build(device, progress).map_err(|e| e.at(self.path()))
    }

    fn build(&self, device: &Device, progress: Progress<'_>) -> Result<Decoder> {
        let config = self.config().clone();
        let names: Vec<(usize, &str)> = self.projections().collect();
        let owner = Owner::current();
        let linears: Result<Vec<Linear>> = names
            .par_iter()
            .map(|&(layer, name)| {
                let _owner = Owner::enter(owner);
                let weight = self.projection(layer, name)?;
                let linear = linear(&weight, device)?;
                progress(weight.bytes.len() as u64);
                Ok(linear)
            })
            .collect();
        let mut linears = linears?.into_iter();
        let layers = (0..config.num_hidden_layers)
            .map(|layer| self.layer(layer, device, &mut linears))
            .collect::<Result<Vec<_>>>()?;
        let embedding = self.embedding()?;
        let embed_tokens = Table::Stored(Box::new(stored(&embedding, device)?));
        progress(embedding.bytes.len() as u64);
        let lm_head = self
            .head()?
            .map(|head| stored(&head, device).map(|head| Table::Stored(Box::new(head))))
            .transpose()?;
        let norm = self.rms_norm("model.norm".into(), config.hidden_size, device)?;
        Ok(Decoder {
            embed_tokens,
            layers,
            norm,
            lm_head,
            screen: None,
            rope: Rope::new(&config),
            recompute: false,
            config,
        })
    }

    /// Takes the layer's projections from `linears`, in the order of [`PROJECTIONS`].
    fn layer(
        &self,
        layer: usize,
        device: &Device,
        linears: &mut impl Iterator<Item = Linear>,
    ) -> Result<Layer> {
        let config = self.config();
        let norm = |name: &str, width| self.rms_norm(format!("model.layers.{layer}.{name}"), width, device);
        let optional = |on: bool, name: &str, width| on.then(|| norm(name, width)).transpose();
        let mut next = || linears.next().expect("one linear for each of PROJECTIONS");
        debug_assert_eq!(PROJECTIONS.len(), 7);
        let attention = Attention {
            q: next(),
            k: next(),
            v: next(),
            o: next(),
            q_norm: optional(config.qk_norm, "self_attn.q_norm", config.head_dim)?,
            k_norm: optional(config.qk_norm, "self_attn.k_norm", config.head_dim)?,
            sub_norm: optional(config.sub_norms, "self_attn.attn_sub_norm", config.query_size())?,
            head_dim: config.head_dim,
        };
        let mlp = Mlp {
            gate: next(),
            up: next(),
            down: next(),
            sub_norm: optional(config.sub_norms, "mlp.ffn_sub_norm", config.intermediate_size)?,
            activation: config.activation,
        };
        Ok(Layer {
            input_layernorm: norm("input_layernorm", config.hidden_size)?,
            attention,
            post_attention_layernorm: norm("post_attention_layernorm", config.hidden_size)?,
            mlp,
        })
    }

    fn rms_norm(&self, name: String, width: usize, device: &Device) -> Result<RmsNorm> {
        let values = self.norm(&name, width)?;
        Ok(RmsNorm { weight: Tensor::from_slice(device, [width], &values)?, eps: self.config().rms_norm_eps })
    }
}

/// A projection in the layout that it is computed in.
fn linear(weight: &Weight, device: &Device) -> Result<Linear> {
    if let Some(mapped) = mapped_i2s(weight, device)? {
        return Ok(Linear::Ternary(mapped));
    }
    match weight.ternary()? {
        Some(ternary) => {
            weight.bytes.release();
            Ok(Linear::Ternary(packed(&ternary, device)?))
        }
        None => Ok(Linear::Dense(stored(weight, device)?)),
    }
}

/// I2_S rows of whole blocks are computed from where they are.
fn is_mapped_i2s(weight: &Weight) -> bool {
    let whole = weight.format == Format::I2S && weight.cols.is_multiple_of(128) && weight.permuted.is_none();
    whole && weight.meaning == Meaning::AsStored
}

/// Bytes that a projection takes beside those of the file.
pub(super) fn repacked_bytes(weight: &Weight) -> usize {
    let packed =
        !is_mapped_i2s(weight) && (weight.format.is_ternary() || weight.meaning != Meaning::AsStored);
    if packed { weight.rows.saturating_mul(padded_cols(weight.cols) / 4) } else { 0 }
}

fn mapped_i2s(weight: &Weight, device: &Device) -> Result<Option<PackedTensor>> {
    if !is_mapped_i2s(weight) {
        return Ok(None);
    }
    let codes = weight.rows * weight.cols / 4;
    let alpha =
        Format::I2S.check_codes(&weight.bytes, weight.rows, weight.cols).map_err(|e| weight.error(e))?;
    let data = Tensor::from_owner::<u8>(device, [codes], Arc::new(weight.bytes.slice(0..codes)))?;
    let scales = Tensor::from_slice(device, [1], &[alpha])?;
    Ok(Some(PackedTensor::ternary(weight.rows, weight.cols, data, scales)?))
}

/// Codes in the compute layout, rows padded to whole blocks.
pub(crate) fn packed(ternary: &Ternary, device: &Device) -> bitnet_core::Result<PackedTensor> {
    let (rows, cols) = (ternary.rows, ternary.cols);
    let scales = match &ternary.scales {
        Scales::Tensor(alpha) => Tensor::from_slice(device, [1], &[*alpha])?,
        Scales::Row(values) => Tensor::from_slice(device, [rows], values)?,
        Scales::Group { .. } => unreachable!("Weight::ternary returns no group scales"),
    };
    let row_bytes = padded_cols(cols) / 4;
    let mut data = Tensor::empty(device, [rows * row_bytes], DType::U8)?;
    let mut padded = vec![0i8; padded_cols(cols)];
    let out = data.view_mut("load")?.into_slice::<u8>("load")?;
    for (codes, out) in ternary.codes.chunks(cols).zip(out.chunks_mut(row_bytes)) {
        padded[..cols].copy_from_slice(codes);
        bitnet_quant::formats::i2s::pack_codes(&padded, out)?;
    }
    PackedTensor::ternary(rows, cols, data, scales)
}

/// A matrix in the format of the file: where it is, or with its rows put in order.
fn stored(weight: &Weight, device: &Device) -> Result<PackedTensor> {
    let row_bytes = weight.row_bytes()?;
    let len = weight.rows * row_bytes;
    let data = if weight.permuted.is_none() {
        Tensor::from_owner::<u8>(device, [len], Arc::new(weight.bytes.slice(0..len)))?
    } else {
        let rows = (0..weight.rows).map(|row| weight.stored_row(row));
        let bytes: Vec<u8> =
            rows.flat_map(|row| &weight.bytes[row * row_bytes..][..row_bytes]).copied().collect();
        Tensor::from_slice(device, [len], &bytes)?
    };
    Ok(PackedTensor::stored(weight.format, weight.rows, weight.cols, data)?)
}
