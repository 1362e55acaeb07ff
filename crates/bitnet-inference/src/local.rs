//! Models on a device of this machine: opened, checked, and ready for the engine.

use crate::{
    LanguageModel,
    head::{self, Head, Screening},
    pace::Pace,
    perplexity, triples,
};
use bitnet_core::{
    Device,
    cpu::topology::Memory,
    device::{Task, ThreadCounts, Work},
    memory::{Owner, Tracking},
    ops::{PartialScreen, cache::CacheType},
};
use bitnet_model::{
    Checkpoint, Config, Decoder,
    batch::Batch,
    checkpoint::{Decision, Evidence, LAYOUTS, Options},
    kv::KvCache,
    sparsity::Sparsity,
    tokenizer::Tokenizer,
    weights::{self, LoadMode, Source},
};
use bitnet_quant::Format;
use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The files, or a tensor in them.
    #[error(transparent)]
    Model(#[from] bitnet_model::Error),
    /// The device.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// The KV cache does not fit into memory.
    #[error(
        "a context of {context} tokens needs {} MiB of KV cache ({cache_type:?}), {} MiB of memory are available; \
         use a context of at most {fitting}{}",
        needed >> 20,
        available >> 20,
        if *cache_type == CacheType::F32 { ", or a smaller cache type" } else { "" }
    )]
    KvCache {
        /// Positions asked for.
        context: usize,
        /// How keys and values are stored.
        cache_type: CacheType,
        /// Bytes of the cache.
        needed: usize,
        /// Bytes that can be had.
        available: usize,
        /// Positions that fit.
        fitting: usize,
    },
    /// The weights do not fit into memory.
    #[error(
        "the weights need {} MiB of memory, {} MiB are available; use a smaller model or a machine with more{}",
        needed >> 20,
        available >> 20,
        if *read { ", or --load-mode mmap, which leaves them in the file" } else { "" }
    )]
    Memory {
        /// Bytes of the weights that have to be in memory.
        needed: usize,
        /// Bytes that can be had.
        available: usize,
        /// Whether they would be read although they could be mapped.
        read: bool,
    },
    /// The head cannot be rounded to a format.
    #[error(
        "--head {format}: the head has rows of {cols} numbers, {format} holds multiples of {multiple}; use --head {}auto or file",
        if *multiple > 32 && cols.is_multiple_of(32) { "q8_0, " } else { "" }
    )]
    HeadShape {
        /// What was asked for.
        format: Format,
        /// Numbers of a row.
        cols: usize,
        /// Numbers that the format stores together.
        multiple: usize,
    },
    /// The tokenizer knows tokens that the model has no embedding for.
    #[error("the tokenizer has {tokens} tokens, the embedding {rows} rows; they belong to different models")]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// A context without positions.
    #[error(
        "a context of {context} tokens: expected 1 to {limit}, the positions that the model was trained for"
    )]
    Context {
        /// Positions asked for.
        context: usize,
        /// Positions of the model.
        limit: usize,
    },
}

/// How a model is opened.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Name for [`Device::open`].
    pub device: String,
    /// Threads of decode steps and of steps of more tokens.
    pub threads: ThreadCounts,
    /// How bytes come into memory.
    pub load_mode: LoadMode,
    /// Layout of I2_S tensors; told apart where it is `None`.
    pub i2s_layout: Option<Format>,
    /// Looks at every float too before anything runs; codes and scales are looked at in any case.
    pub check_tensors: bool,
    /// Positions of the KV cache; what the model was trained for where it is `None`.
    pub context: Option<usize>,
    /// How keys and values are stored.
    pub cache_type: CacheType,
    /// How the head is held.
    pub head: Head,
    /// Makes a copy of the ternary weights for steps of one token ([`triples`]).
    pub decode_copy: bool,
    /// How much the pool of the device remembers, from its first block on.
    pub tracking: Tracking,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            threads: ThreadCounts::default(),
            load_mode: LoadMode::default(),
            i2s_layout: None,
            check_tensors: false,
            context: None,
            cache_type: CacheType::default(),
            head: Head::default(),
            decode_copy: false,
            tracking: Tracking::default(),
        }
    }
}

/// Told while weights are brought to the device: bytes that are done, bytes of all.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// A model with everything around it.
#[derive(Debug)]
pub struct Loaded {
    /// What computes.
    pub model: LocalModel,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// What was repaired or assumed; for people.
    pub notes: Vec<String>,
}

/// A decoder with its KV cache.
#[derive(Debug)]
pub struct LocalModel {
    decoder: Decoder,
    cache: KvCache,
    cache_type: CacheType,
    context: usize,
    pace: Pace,
    sparsity: Option<Sparsity>,
    screening: Option<Screening>,
}

impl LocalModel {
    /// A decoder with a cache of `context` positions.
    ///
    /// # Errors
    /// Where the context has no positions or the cache does not fit into memory.
    pub fn new(decoder: Decoder, context: usize, cache_type: CacheType) -> Result<Self, OpenError> {
        let limit = decoder.config.max_position_embeddings;
        if context == 0 {
            return Err(OpenError::Context { context, limit });
        }
        let blocks = KvCache::blocks_for(context);
        check_memory(&decoder.config, context, cache_type)?;
        let _owner = Owner::enter("kv cache");
        let cache = KvCache::new(&decoder.config, decoder.device(), blocks, cache_type)?;
        Ok(Self {
            decoder,
            cache,
            cache_type,
            context,
            pace: Pace::default(),
            sparsity: None,
            screening: None,
        })
    }

    /// Begins a screen for a head that is large. Returns why there is none although it would help.
    pub fn screen_later(&mut self) -> Option<String> {
        match head::begin_screen(&self.decoder) {
            Ok(screen) => {
                screen.into_iter().for_each(|screen| self.go_on_with(screen));
                None
            }
            Err(note) => Some(note),
        }
    }

    /// Goes on with a screen of the head, a piece at a time between decode steps. No token depends on when it is there.
    pub fn go_on_with(&mut self, screen: PartialScreen) {
        self.screening = Some(Screening::new(screen));
    }

    /// Makes what is missing of a screen that was begun.
    pub fn finish_screen(&mut self) {
        self.make_screen(Screening::complete);
    }

    /// Goes on with the screen.
    fn make_screen(&mut self, make: impl FnOnce(&mut Screening) -> bitnet_core::Result<bool>) {
        let Some(mut screening) = self.screening.take() else { return };
        let _owner = Owner::enter("screen");
        match make(&mut screening) {
            Ok(true) => self.screening = Some(screening),
            Ok(false) => self.decoder.screen = Some(screening.finish()),
            // Rows that are not finite, which are left to the head and to whoever meets their logits.
            Err(_) => {}
        }
    }

    /// What computes.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Hyperparameters.
    pub fn config(&self) -> &Config {
        &self.decoder.config
    }

    /// From now on counts the zeros that down projections take.
    pub fn count_zeros(&mut self) {
        self.sparsity = Some(Sparsity::of(&self.decoder));
    }

    /// What was counted since [`LocalModel::count_zeros`].
    pub fn sparsity(&self) -> Option<&Sparsity> {
        self.sparsity.as_ref()
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.decoder.device()
    }
}

impl LanguageModel for LocalModel {
    fn vocab_size(&self) -> usize {
        self.decoder.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.context
    }

    fn kv_blocks(&self) -> usize {
        self.cache.blocks()
    }

    fn block_bytes(&self) -> usize {
        KvCache::block_bytes(&self.decoder.config, self.cache_type)
    }

    fn step_cost(&self) -> f32 {
        self.pace.step_cost()
    }

    fn discard(&mut self, blocks: &[u32]) -> usize {
        self.cache.discard(blocks)
    }

    fn forward(
        &mut self,
        batch: &Batch,
        logits: &mut Vec<f32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let screened = self.screening.is_some() && batch.logits_rows() > 0 && batch.largest().is_some();
        if screened {
            self.make_screen(Screening::advance);
        }
        let _owner = Owner::enter("activations");
        let begin = Instant::now();
        let (decoder, cache) = (&self.decoder, Some(&mut self.cache));
        let hidden = match &mut self.sparsity {
            None => decoder.forward(batch, cache)?,
            Some(zeros) => {
                decoder.forward_watched(batch, cache, &mut |layer, codes| zeros.count(layer, codes))?
            }
        };
        if batch.logits_rows() > 0 {
            let rows = self.decoder.logits(batch, &hidden)?;
            logits.reserve(rows.shape().len());
            match rows.as_slice::<f32>() {
                Ok(rows) => logits.extend_from_slice(rows),
                Err(_) => logits.extend(rows.to_vec::<f32>()?),
            }
        }
        let elapsed = begin.elapsed();
        if batch.logits_rows() == batch.tokens.len() {
            self.pace.note(batch.tokens.len(), elapsed.as_secs_f32());
        }
        if let Some(screening) = self.screening.as_mut().filter(|_| screened) {
            screening.note(elapsed);
        }
        Ok(())
    }
}

/// Refuses a cache that the memory of this machine cannot hold, before anything is allocated.
fn check_memory(config: &Config, context: usize, cache_type: CacheType) -> Result<(), OpenError> {
    let Some(Memory { available, .. }) = Memory::detect() else { return Ok(()) };
    let block = KvCache::block_bytes(config, cache_type);
    let needed = KvCache::blocks_for(context).saturating_mul(block);
    if needed <= available {
        return Ok(());
    }
    let fitting = available / block * bitnet_model::batch::BLOCK_LEN;
    Err(OpenError::KvCache { context, cache_type, needed, available, fitting })
}

/// Refuses weights that the memory of this machine cannot hold, before anything is allocated.
pub(crate) fn expect_room(needed: usize, read: bool) -> Result<(), OpenError> {
    match Memory::detect() {
        Some(Memory { available, .. }) if needed > available => {
            Err(OpenError::Memory { needed, available, read })
        }
        _ => Ok(()),
    }
}

/// Opens a GGUF file or a Hugging Face folder.
///
/// # Errors
/// What is unknown, missing or broken in the files; what the device or the memory cannot do.
pub fn open(path: &Path, options: &LoadOptions, progress: Progress<'_>) -> Result<Loaded, OpenError> {
    if options.load_mode == LoadMode::Read {
        expect_room(weights::stored_bytes(path), true)?;
    }
    load(Source::open(path, options.load_mode)?, options, progress)
}

/// Opens a GGUF that is part of the program.
///
/// # Errors
/// As [`open`].
pub fn open_gguf_bytes(
    bytes: &'static [u8],
    options: &LoadOptions,
    progress: Progress<'_>,
) -> Result<Loaded, OpenError> {
    load(Source::embedded(bytes)?, options, progress)
}

fn load(source: Source, options: &LoadOptions, progress: Progress<'_>) -> Result<Loaded, OpenError> {
    let layout = options.i2s_layout;
    let mut checkpoint =
        Checkpoint::from_source(source, Options { load_mode: options.load_mode, i2s_layout: layout })?;
    let device = Device::open_for(&options.device, options.threads, &work(&checkpoint, options))?;
    device.pool().set_tracking(options.tracking);
    // A vocabulary of 128,000 tokens takes longer to index than the weights to map.
    let (tokenizer, prepared) = std::thread::scope(|scope| {
        let vocabulary = scope.spawn(|| Tokenizer::of(checkpoint.source()));
        let prepared = prepare(&checkpoint, &device, options, progress);
        (vocabulary.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), prepared)
    });
    let (tokenizer, mut notes) = tokenizer?;
    let prepared = prepared?;
    check_vocabulary(&checkpoint, &tokenizer)?;
    notes.extend(settle_i2s_layout(&mut checkpoint, &device, &tokenizer)?);
    let (mut decoder, note) = match prepared {
        Some(prepared) => prepared,
        None => ready(&checkpoint, &device, options, progress)?,
    };
    notes.extend(note);
    if options.decode_copy {
        let _owner = Owner::enter("decode copy");
        let note = triples::copy(&mut decoder, progress).map_err(|error| match error {
            OpenError::Model(error) => OpenError::Model(error.at(checkpoint.path())),
            error => error,
        });
        notes.push(note?);
    }
    let context = options.context.unwrap_or(decoder.config.max_position_embeddings);
    let mut model = LocalModel::new(decoder, context, options.cache_type)?;
    if options.head != Head::File {
        notes.extend(model.screen_later());
    }
    Ok(Loaded { model, tokenizer, notes })
}

/// A decoder, and what a person should know of its head.
type Ready = (Decoder, Option<String>);

/// What can be done without a tokenizer: everything, unless a text has to tell how the weights are laid out.
fn prepare(
    checkpoint: &Checkpoint,
    device: &Device,
    options: &LoadOptions,
    progress: Progress<'_>,
) -> Result<Option<Ready>, OpenError> {
    if options.check_tensors {
        checkpoint.check_tensors(&|_| {})?;
    }
    if checkpoint.i2s_decision().is_some_and(|decision| decision.evidence == Evidence::Convention) {
        return Ok(None);
    }
    ready(checkpoint, device, options, progress).map(Some)
}

fn ready(
    checkpoint: &Checkpoint,
    device: &Device,
    options: &LoadOptions,
    progress: Progress<'_>,
) -> Result<Ready, OpenError> {
    expect_room(checkpoint.repacked_bytes(), false)?;
    let mut decoder = decoder(checkpoint, device, progress)?;
    let _owner = Owner::enter("weights");
    let note = head::quantize(&mut decoder, options.head)?;
    Ok((decoder, note))
}

/// What a device is wanted for: the weights, the KV cache and the tokens of a decode step.
fn work(checkpoint: &Checkpoint, options: &LoadOptions) -> Work {
    let config = checkpoint.config();
    let blocks = KvCache::blocks_for(options.context.unwrap_or(config.max_position_embeddings));
    Work {
        task: Task::Inference,
        weights: usize::try_from(checkpoint.weight_bytes()).unwrap_or(usize::MAX),
        beside: blocks.saturating_mul(KvCache::block_bytes(config, options.cache_type)),
        tokens: 1,
    }
}

/// Refuses a tokenizer of another model.
///
/// # Errors
/// Where the tokenizer has more tokens than the embedding has rows.
pub fn check_vocabulary(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<(), OpenError> {
    let (tokens, rows) = (tokenizer.vocab_size(), checkpoint.config().vocab_size);
    if tokens <= rows { Ok(()) } else { Err(OpenError::Vocabulary { tokens, rows }) }
}

/// Chooses the I2_S layout by a text where neither the file nor its weights tell. Whatever reads the codes of a model has to
/// ask first. Returns what a person should know.
///
/// # Errors
/// As [`open`].
pub fn settle_i2s_layout(
    checkpoint: &mut Checkpoint,
    device: &Device,
    tokenizer: &Tokenizer,
) -> Result<Option<String>, OpenError> {
    let Some(decision) = checkpoint.i2s_decision().cloned() else { return Ok(None) };
    if decision.evidence != Evidence::Convention {
        return Ok(note(&decision));
    }
    let decision = probe(checkpoint, device, tokenizer)?;
    let note = note(&decision);
    checkpoint.set_i2s_decision(decision);
    Ok(note)
}

/// Brings the weights to the device and reports how far it is.
///
/// # Errors
/// As [`open`].
pub fn decoder(
    checkpoint: &Checkpoint,
    device: &Device,
    progress: Progress<'_>,
) -> Result<Decoder, OpenError> {
    let (done, all) = (AtomicU64::new(0), checkpoint.weight_bytes());
    let _owner = Owner::enter("weights");
    let step = |bytes: u64| progress(done.fetch_add(bytes, Relaxed) + bytes, all);
    Ok(checkpoint.decoder(device, &step)?)
}

/// A text that models of English know by heart or at least find likely: A. Conan Doyle, "The Red-Headed League" (1891).
const PROBE: &str = "I had called upon my friend, Mr. Sherlock Holmes, one day in the autumn of last year and found him in deep \
    conversation with a very stout, florid-faced, elderly gentleman with fiery red hair.";
/// Tokens of the probe that are looked at.
const PROBE_LEN: usize = 96;

/// Tells the I2_S layouts apart by how well each predicts a text, where the statistics of the weights did not.
fn probe(checkpoint: &mut Checkpoint, device: &Device, tokenizer: &Tokenizer) -> Result<Decision, OpenError> {
    let mut tokens: Vec<u32> = tokenizer.bos().into_iter().collect();
    tokens.extend(tokenizer.encode(PROBE, false).map_err(bitnet_model::Error::from)?);
    tokens.truncate(checkpoint.config().max_position_embeddings.min(PROBE_LEN));
    let mut losses = Vec::new();
    for layout in LAYOUTS {
        checkpoint.set_i2s_layout(layout);
        let loss = match decoder(checkpoint, device, &|_, _| {}) {
            Ok(decoder) => {
                let mut model = LocalModel::new(decoder, tokens.len(), CacheType::F32)?;
                perplexity::window(&mut model, &tokens).map_or(f64::INFINITY, |sum| sum.mean())
            }
            // A code 3 or a shape that this layout cannot have.
            Err(_) => f64::INFINITY,
        };
        losses.push((layout, loss));
    }
    let uniform = (checkpoint.config().vocab_size as f64).ln();
    Ok(Decision::by_losses(&losses, uniform))
}

fn note(decision: &Decision) -> Option<String> {
    let name = decision.layout.name();
    match decision.evidence {
        Evidence::Convention => Some(format!(
            "the weights do not tell which I2_S layout this file has; reading it as {name}, as every published file. \
             If the text is gibberish, try --i2s-layout arm or row4"
        )),
        _ if decision.layout == Format::I2S => None,
        evidence => {
            let told = if evidence == Evidence::Probe {
                "told by a text that it predicts"
            } else {
                "told from its weights"
            };
            Some(format!(
                "this file has the I2_S layout of another build ({name}), {told}; \
                 convert it with `bitnet convert` so that every engine reads it"
            ))
        }
    }
}
