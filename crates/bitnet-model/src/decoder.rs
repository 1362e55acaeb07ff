//! The model: an embedding, layers that each add attention and a feed-forward step to the residual stream, a head.

use crate::{
    arch::PROJECTIONS,
    batch::Batch,
    config::Config,
    kv::KvCache,
    layers::{Attention, AttentionStates, Linear, LinearInput, Mlp, RmsNorm, Rope, Rotation, Table},
    sparsity::Watch,
};
use bitnet_core::{
    Device, Error, PackedTensor, Result, Tensor,
    memory::Owner,
    ops::{self, Codes, PagedSpan, PartialScreen, Screen},
};
use bitnet_quant::Format;
use rayon::prelude::*;

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
    /// Its projections, in the order of [`PROJECTIONS`].
    fn linears(&self) -> [&Linear; PROJECTIONS.len()] {
        let (a, m) = (&self.attention, &self.mlp);
        [&a.q, &a.k, &a.v, &a.o, &m.gate, &m.up, &m.down]
    }

    /// Its projections, in the order of [`PROJECTIONS`].
    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; PROJECTIONS.len()] {
        let (a, m) = (&mut self.attention, &mut self.mlp);
        [&mut a.q, &mut a.k, &mut a.v, &mut a.o, &mut m.gate, &mut m.up, &mut m.down]
    }

    /// `x: [T, C]` with the layer's two steps added.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn forward(
        &self,
        x: Tensor,
        rotation: &Rotation,
        spans: &[PagedSpan<'_>],
        cache: Option<&mut crate::kv::KvLayer>,
    ) -> Result<Tensor> {
        self.watched(x, rotation, spans, cache, |_| Ok(()))
    }

    /// As [`Layer::forward`], with `watch` told the codes that the down projection takes, where it takes codes.
    fn watched(
        &self,
        x: Tensor,
        rotation: &Rotation,
        spans: &[PagedSpan<'_>],
        cache: Option<&mut crate::kv::KvLayer>,
        watch: impl FnOnce(&Codes) -> Result<()>,
    ) -> Result<Tensor> {
        let states = self.states(&x, rotation)?;
        self.step(x, &states, spans, cache, watch)
    }

    /// Queries, keys and values of `x: [T, C]`.
    fn states(&self, x: &Tensor, rotation: &Rotation) -> Result<AttentionStates> {
        self.attention.states(&LinearInput::normed(x, Some(&self.input_layernorm)), rotation)
    }

    /// As [`Layer::watched`], given queries, keys and values.
    fn step(
        &self,
        x: Tensor,
        states: &AttentionStates,
        spans: &[PagedSpan<'_>],
        cache: Option<&mut crate::kv::KvLayer>,
        watch: impl FnOnce(&Codes) -> Result<()>,
    ) -> Result<Tensor> {
        let x = self.attention.mix_add(x, states, spans, cache)?;
        let hidden = self.mlp.hidden(&LinearInput::normed(&x, Some(&self.post_attention_layernorm)))?;
        if self.mlp.down.takes_codes() {
            watch(hidden.codes()?)?;
        }
        self.mlp.down.forward_add(x, &hidden)
    }
}

/// A decoder-only language model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Hyperparameters.
    pub config: Config,
    /// `[V, C]`.
    pub embed_tokens: Table,
    /// In order.
    pub layers: Vec<Layer>,
    /// Before the head, `[C]`.
    pub norm: RmsNorm,
    /// `[V, C]`; the embedding where there is none.
    pub lm_head: Option<Table>,
    /// Finds the largest logits without reading all of the head.
    pub screen: Option<Screen>,
    /// Rotary frequencies.
    pub rope: Rope,
    /// Whether gradients compute each layer again instead of keeping what it computed.
    pub recompute: bool,
}

impl Decoder {
    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.embed_tokens.device()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        let heads = self.embed_tokens.bytes() + self.lm_head.as_ref().map_or(0, Table::bytes);
        heads + self.layers.iter().flat_map(Layer::linears).map(Linear::bytes).sum::<usize>()
    }

    /// What logits are products with.
    pub fn head(&self) -> &Table {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Bytes of weights that a step of `tokens` decoded tokens reads, but for rows of an embedding that is not the head.
    pub fn decode_bytes(&self, tokens: usize) -> usize {
        let read = if tokens == 1 { Linear::bytes_for_one } else { Linear::bytes };
        let layers: usize = self.layers.iter().flat_map(Layer::linears).map(read).sum();
        let head = match (self.head(), &self.screen) {
            (Table::Stored(head), Some(screen)) => screen.bytes_read(head),
            (head, _) => head.bytes(),
        };
        layers + head
    }

    /// Bytes of copies of the ternary weights in [triples](bitnet_core::ops::triples), 0 where steps of one token would not be faster from them.
    pub fn triples_bytes(&self) -> usize {
        let ternary = |linear: &Linear| match linear {
            Linear::Ternary(w) => w.triples_bytes(),
            Linear::Dense(_) | Linear::Latent(_) => 0,
        };
        self.layers.iter().flat_map(Layer::linears).map(ternary).sum()
    }

    /// Makes these copies; `done` is told the bytes of each.
    ///
    /// # Errors
    /// Where a code of a projection is not ternary, or memory runs out.
    pub fn add_triples(&mut self, done: &(dyn Fn(u64) + Sync)) -> crate::Result<()> {
        let layers = self.layers.par_iter_mut().enumerate();
        let all = layers.flat_map_iter(|(layer, x)| {
            x.linears_mut().into_iter().zip(PROJECTIONS).map(move |(linear, name)| (layer, name, linear))
        });
        let owner = Owner::current();
        all.try_for_each(|(layer, name, linear)| {
            let _owner = Owner::enter(owner);
            let Linear::Ternary(w) = linear else { return Ok(()) };
            w.add_triples().map_err(|error| match error {
                Error::Quant(error) => {
                    crate::Error::Tensor { name: format!("model.layers.{layer}.{name}.weight"), error }
                }
                error => error.into(),
            })?;
            done(w.triples_bytes() as u64);
            Ok(())
        })
    }

    /// Bytes of a screen for the head, where one saves time: its rows are on the host, in 16 bits a weight or more, or in Q6_K.
    pub fn screen_bytes(&self) -> Option<usize> {
        let Table::Stored(head) = self.head() else { return None };
        Screen::bytes_of(head).filter(|_| head.device().backend().host_addressable())
    }

    /// Takes the memory of a screen for the head, where one saves time.
    ///
    /// # Errors
    /// Where memory runs out.
    pub fn begin_screen(&self) -> Result<Option<PartialScreen>> {
        match (self.screen_bytes(), self.head()) {
            (Some(_), Table::Stored(head)) => PartialScreen::of(head).map(Some),
            _ => Ok(None),
        }
    }

    /// Computes logits with the head in another format from now on, each number to the nearest that it holds. The embedding stays as
    /// it is, also where it was the head.
    ///
    /// # Errors
    /// Where the head is trainable, the format cannot hold its rows, or memory runs out.
    pub fn quantize_head(&mut self, format: Format) -> Result<()> {
        let op = "quantize_head";
        let Table::Stored(head) = self.head() else {
            return Err(Error::Argument { op, reason: "a trainable head is not stored in a format".into() });
        };
        let head = ops::quantize_rows(head, format)?;
        self.lm_head = Some(Table::Stored(Box::new(head)));
        self.screen = None;
        Ok(())
    }

    /// Runs a batch: hidden states `[T, C]` of all its tokens, before the last norm. Without a cache its spans are whole sequences, as in
    /// training.
    ///
    /// # Errors
    /// Where a token id or block lies outside the model or cache, a span without a cache does not begin at 0, or the device fails.
    pub fn forward(&self, batch: &Batch, cache: Option<&mut KvCache>) -> Result<Tensor> {
        self.run(batch, cache, None, None).map(|(x, _)| x)
    }

    /// As [`Decoder::forward`], with `watch` told the codes that down projections take, layer by layer, where they take codes.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; what `watch` returns.
    pub fn forward_watched(
        &self,
        batch: &Batch,
        cache: Option<&mut KvCache>,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor> {
        self.run(batch, cache, None, Some(watch)).map(|(x, _)| x)
    }

    /// As [`Decoder::forward`] without a cache, with queries, keys and values of a layer.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; where there is no such layer.
    pub fn forward_with_states(&self, batch: &Batch, layer: usize) -> Result<(Tensor, AttentionStates)> {
        let (x, states) = self.run(batch, None, Some(layer), None)?;
        let reason = || format!("there is no layer {layer} of {}", self.layers.len());
        let states = states.ok_or_else(|| Error::Argument { op: "forward", reason: reason() })?;
        Ok((x, states))
    }

    fn run(
        &self,
        batch: &Batch,
        mut cache: Option<&mut KvCache>,
        seen: Option<usize>,
        mut watch: Option<&mut Watch<'_>>,
    ) -> Result<(Tensor, Option<AttentionStates>)> {
        if cache.is_none()
            && let Some(span) = batch.spans.iter().find(|span| span.start > 0)
        {
            let reason = format!("a span from position {} on needs a cache of what is before it", span.start);
            return Err(Error::Argument { op: "forward", reason });
        }
        let spans: Vec<PagedSpan<'_>> =
            batch.spans.iter().map(|s| PagedSpan { len: s.len, start: s.start, blocks: &s.blocks }).collect();
        let positions: Vec<usize> = batch.spans.iter().flat_map(|s| s.start..s.start + s.len).collect();
        let rotation = self.rope.rotation(self.device(), &positions)?;
        let mut x = self.embed_tokens.rows(&batch.tokens)?;
        let (recompute, mut found) = (self.recompute && cache.is_none(), None);
        for (i, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| cache.layer_mut(i));
            x = if seen == Some(i) {
                let states = layer.states(&x, &rotation)?;
                let y = layer.step(x, &states, &spans, cache, |_| Ok(()))?;
                found = Some(states);
                y
            } else if let Some(watch) = &mut watch {
                layer.watched(x, &rotation, &spans, cache, |codes| watch(i, codes))?
            } else if recompute {
                let lens: Vec<usize> = batch.spans.iter().map(|span| span.len).collect();
                layer.recomputed(x, &rotation, &lens)?
            } else {
                layer.forward(x, &rotation, &spans, cache)?
            };
        }
        Ok((x, found))
    }

    /// Logits `[n, V]` of the rows that the batch asks for, given its hidden states `[T, C]`. With a screen, those that do not matter may be
    /// `f32::MIN`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn logits(&self, batch: &Batch, hidden: &Tensor) -> Result<Tensor> {
        if batch.logits_rows() == batch.tokens.len() {
            return self.products(batch, &self.norm.forward(hidden)?);
        }
        let mut rows = Vec::with_capacity(batch.logits_rows());
        let mut first = 0;
        for span in &batch.spans {
            let wanted = span.len - span.logits_rows();
            rows.extend((first + wanted..first + span.len).map(|row| row as u32));
            first += span.len;
        }
        let hidden = ops::embedding(&PackedTensor::from_rows(hidden)?, &rows)?;
        self.products(batch, &self.norm.forward(&hidden)?)
    }

    /// Products of the rows that the batch asks for with the head.
    fn products(&self, batch: &Batch, x: &Tensor) -> Result<Tensor> {
        if let (Table::Stored(head), Some(screen)) = (self.head(), &self.screen)
            && let Some(wanted) = batch.largest()
        {
            return ops::largest_products(x, head, screen, &wanted);
        }
        self.head().products(x)
    }
}
