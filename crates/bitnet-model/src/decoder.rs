//! The model: an embedding, layers that each add attention and a feed-forward step to the residual stream, a head.

use crate::{
    batch::Batch,
    config::Config,
    kv::KvCache,
    layers::{Attention, Mlp, RmsNorm, Rope, Rotation},
};
use bitnet_core::{
    Device, PackedTensor, Result, Tensor,
    ops::{self, PagedSpan},
};

/// One layer of a decoder.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Before attention, `[C]`.
    pub input_layernorm: RmsNorm,
    /// Mixes positions.
    pub attention: Attention,
    /// Before the feed-forward step, `[C]`.
    pub post_attention_layernorm: RmsNorm,
    /// Mixes channels.
    pub mlp: Mlp,
}

impl Layer {
    /// Adds the layer's two steps to `x: [T, C]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn forward(
        &self,
        x: &mut Tensor,
        rotation: &Rotation,
        spans: &[PagedSpan<'_>],
        cache: &mut crate::kv::KvLayer,
    ) -> Result<()> {
        let y = self.attention.forward(&self.input_layernorm.forward(x)?, rotation, spans, cache)?;
        ops::add_assign(x, &y)?;
        let y = self.mlp.forward(&self.post_attention_layernorm.forward(x)?)?;
        ops::add_assign(x, &y)
    }
}

/// A decoder-only language model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Hyperparameters.
    pub config: Config,
    /// `[V, C]`.
    pub embed_tokens: PackedTensor,
    /// In order.
    pub layers: Vec<Layer>,
    /// Before the head, `[C]`.
    pub norm: RmsNorm,
    /// `[V, C]`; the embedding where there is none.
    pub lm_head: Option<PackedTensor>,
    /// Rotary frequencies.
    pub rope: Rope,
}

impl Decoder {
    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.embed_tokens.device()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        let matrices = self.layers.iter().flat_map(|layer| {
            let (a, m) = (&layer.attention, &layer.mlp);
            [&a.q, &a.k, &a.v, &a.o, &m.gate, &m.up, &m.down].map(|w| w.weight().bytes())
        });
        let heads = self.embed_tokens.bytes() + self.lm_head.as_ref().map_or(0, PackedTensor::bytes);
        heads + matrices.sum::<usize>()
    }

    /// Runs a batch: hidden states `[T, C]` of all its tokens, before the last norm.
    ///
    /// # Errors
    /// Where a token id or block lies outside the model or cache, or the device fails.
    pub fn forward(&self, batch: &Batch, cache: &mut KvCache) -> Result<Tensor> {
        let spans: Vec<PagedSpan<'_>> =
            batch.spans.iter().map(|s| PagedSpan { len: s.len, start: s.start, blocks: &s.blocks }).collect();
        let positions: Vec<usize> = batch.spans.iter().flat_map(|s| s.start..s.start + s.len).collect();
        let rotation = self.rope.rotation(self.device(), &positions)?;
        let mut x = ops::embedding(&self.embed_tokens, &batch.tokens)?;
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(&mut x, &rotation, &spans, cache.layer_mut(i))?;
        }
        Ok(x)
    }

    /// Logits `[n, V]` of the rows that the batch asks for, given its hidden states `[T, C]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn logits(&self, batch: &Batch, hidden: &Tensor) -> Result<Tensor> {
        let mut rows = Vec::with_capacity(batch.logits_rows());
        let mut first = 0;
        for span in &batch.spans {
            let wanted = span.len - span.logits_rows();
            rows.extend((first + wanted..first + span.len).map(|row| row as u32));
            first += span.len;
        }
        let hidden = ops::embedding(&PackedTensor::from_rows(hidden)?, &rows)?;
        ops::matmul_t(&self.norm.forward(&hidden)?, self.lm_head.as_ref().unwrap_or(&self.embed_tokens))
    }
}
