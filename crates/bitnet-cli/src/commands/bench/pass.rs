//! Models to measure, and what is measured of them.

use crate::{args::FileArgs, session::resolve, ui::Ui};
use anyhow::{Context, Result, anyhow};
use bitnet_core::{Device, memory::Owner};
use bitnet_inference::{
    LanguageModel, SamplingParams,
    local::{self, LocalModel},
};
use bitnet_model::{
    Checkpoint, Decoder,
    batch::{Batch, Logits},
    checkpoint::Options,
    synthetic,
};
use std::path::Path;

/// Where weights come from: a model, or random numbers in a shape.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub(crate) model: Option<&'a Path>,
    pub(crate) synthetic: Option<&'a str>,
    pub(crate) files: &'a FileArgs,
}

impl Weights<'_> {
    /// The decoder, and what to call it.
    pub(crate) fn decoder(self, device: &Device, ui: &Ui) -> Result<(String, Decoder)> {
        let _owner = Owner::enter("weights");
        if let Some(name) = self.synthetic {
            let shape =
                synthetic::Shape::named(name).context("the shape was checked with the command line")?;
            return Ok((format!("{name} (synthetic)"), synthetic::decoder(&shape.config(), device, 1)?));
        }
        let path = resolve(self.model.context("expected a model (-m) or a shape (--synthetic)")?)?;
        let options =
            Options { load_mode: self.files.load_mode.into(), i2s_layout: self.files.i2s_layout.format() };
        let checkpoint = Checkpoint::open(&path, options)?;
        let bar = ui.progress("loading", checkpoint.weight_bytes(), true);
        let decoder = local::decoder(&checkpoint, device, &|done, _| bar.set_position(done));
        bar.finish_and_clear();
        Ok((path.display().to_string(), decoder?))
    }
}

/// Tokens to compute.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    /// Position of the first token.
    pub(crate) start: usize,
    /// Tokens of each sequence.
    pub(crate) tokens: usize,
    /// Tokens of a sequence that are computed at once.
    pub(crate) chunk: usize,
    pub(crate) sequences: usize,
    /// Blocks of the cache that each sequence has.
    pub(crate) blocks: usize,
    pub(crate) logits: Logits,
}

impl Pass {
    pub(crate) fn run(self, model: &mut LocalModel) -> Result<()> {
        let vocab = model.vocab_size() as u32;
        let ids: Vec<u32> = (0..self.tokens as u32).map(|i| (i * 7919 + 13) % vocab).collect();
        let mut logits = Vec::new();
        for (i, ids) in ids.chunks(self.chunk).enumerate() {
            let mut batch = Batch::default();
            for sequence in 0..self.sequences {
                let blocks = sequence * self.blocks..(sequence + 1) * self.blocks;
                let blocks = blocks.map(|block| block as u32).collect();
                batch.push(ids, self.start + i * self.chunk, blocks, self.logits);
            }
            for span in &mut batch.spans {
                span.largest = Some(SamplingParams::default().top_k);
            }
            logits.clear();
            model.forward(&batch, &mut logits).map_err(|e| anyhow!(e))?;
        }
        Ok(())
    }
}
