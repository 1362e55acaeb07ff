//! A model that is open, and text that runs through it.

use crate::{
    interrupt,
    ui::{self, Ui},
};
use anyhow::{Context, Result, bail};
use bitnet_core::{
    Device,
    memory::{Bytes, pressure::Pressure},
    ops::cache::CacheType,
};
use bitnet_inference::{
    Engine, EngineOptions, FinishReason, Generation, LanguageModel, Relief, Request, Watch,
    local::{self, LoadOptions, Loaded, LocalModel},
};
use bitnet_model::Tokenizer;
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};
use tracing::{debug, info};

/// A model with its engine and tokenizer.
pub(crate) struct Session {
    pub(crate) engine: Engine<LocalModel>,
    pub(crate) tokenizer: Tokenizer,
    load: Duration,
}

impl Session {
    /// Opens a path, or a repository that was pulled.
    pub(crate) fn open(path: &Path, options: &LoadOptions, engine: EngineOptions, ui: &Ui) -> Result<Self> {
        let path = resolve(path)?;
        info!("opening {}", path.display());
        let session = Self::start(ui, engine, |progress| Ok(local::open(&path, options, progress)?))?;
        session.log(options.cache_type);
        let trained = session.engine.model().config().max_position_embeddings;
        if let Some(context) = options.context.filter(|&context| context > trained) {
            ui.note(format!("the context of {context} is longer than the {trained} positions that the model was trained for"));
        }
        Ok(session)
    }

    /// Opens a model that is part of the program.
    pub(crate) fn embedded(bytes: &'static [u8], options: &LoadOptions, ui: &Ui) -> Result<Self> {
        let engine = EngineOptions::default();
        let session =
            Self::start(ui, engine, |progress| Ok(local::open_gguf_bytes(bytes, options, progress)?))?;
        session.log(options.cache_type);
        Ok(session)
    }

    fn start(
        ui: &Ui,
        engine: EngineOptions,
        open: impl FnOnce(local::Progress<'_>) -> Result<Loaded>,
    ) -> Result<Self> {
        let begin = Instant::now();
        let bar = ui.progress("loading", 0, true);
        let shown = AtomicU64::new(0);
        let loaded = open(&|done, all| {
            bar.set_length(all);
            bar.set_position(shown.fetch_max(done, SeqCst).max(done));
        });
        bar.finish_and_clear();
        let Loaded { model, tokenizer, notes } = loaded?;
        notes.iter().for_each(|note| ui.note(note));
        let watch = Watch::new(model.device().pool());
        let mut engine = Engine::new(model, engine)?;
        engine.watch(watch);
        Ok(Self { engine, tokenizer, load: begin.elapsed() })
    }

    /// Logs what was opened and where it runs.
    fn log(&self, cache_type: CacheType) {
        let model = self.engine.model();
        let (config, device) = (model.config(), model.device());
        let kv = self.engine.kv_usage().free * bitnet_model::kv::KvCache::block_bytes(config, cache_type);
        info!(
            "{} with {} layers, {} parameters, {} tokens, opened in {:.0} ms",
            config.family.name(),
            config.num_hidden_layers,
            config.parameters(),
            self.tokenizer.vocab_size(),
            milliseconds(self.load),
        );
        info!("{} with {}", device.name(), threads(device));
        if let Some(choice) = device.choice() {
            info!("auto takes {choice}");
        }
        info!("{} positions, KV cache of {:.1} MiB ({cache_type:?})", model.context_length(), mebibytes(kv));
    }

    /// Writes a continuation to stdout as it comes. Ctrl-C ends the text; a second one ends the program.
    pub(crate) fn stream(&mut self, request: Request, show_special: bool) -> Result<Generation> {
        let writing = interrupt::writing();
        debug!("{} tokens in the prompt, {:?}", request.tokens.len(), request.params);
        let mut failed = None;
        let tokenizer = self.tokenizer.clone();
        let bytes = |id: u32| {
            if tokenizer.is_special(id) && !show_special {
                return Vec::new();
            }
            tokenizer.token_bytes(id).unwrap_or_default().to_vec()
        };
        let generation = bitnet_inference::generate(&mut self.engine, request, bytes, |text| {
            failed = ui::out(format_args!("{text}")).err();
            if failed.is_some() || writing.interrupted() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        info!("{}, ended by {:?}", rates(&generation), generation.reason);
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(generation),
        }
    }

    /// Says why a text ended where neither the model nor `limit` ended it.
    pub(crate) fn explain_end(&self, generation: &Generation, limit: Option<usize>, ui: &Ui) {
        let tokens = generation.tokens.len();
        match generation.reason {
            FinishReason::Cancelled => ui.note(format!("interrupted after {tokens} tokens")),
            FinishReason::Length if limit.is_none_or(|limit| tokens < limit) => {
                ui.note(format!("the context of {} tokens is full; -c sets its size", self.engine.room()));
            }
            _ => {}
        }
    }

    /// One line about where the time went.
    pub(crate) fn timings(&self, generation: &Generation) -> String {
        format!("load {:.0} ms · {}", milliseconds(self.load), rates(generation))
    }

    /// One line about the device and its memory.
    pub(crate) fn memory(&self) -> String {
        let device = self.engine.model().device();
        let pool = device.pool().stats();
        format!("{} with {} · pool: {pool} · {}", device.name(), threads(device), self.pressure())
    }

    /// How scarce memory is and was, and what the engine did about it.
    fn pressure(&self) -> String {
        let Relief { level, highest, dropped_blocks, discarded, trimmed, .. } =
            self.engine.relief().unwrap_or_default();
        let pressure = format!("memory pressure {level}");
        match (highest, dropped_blocks, trimmed) {
            (Pressure::None | Pressure::Low, ..) => pressure,
            _ => format!(
                "{pressure}, at most {highest}: {dropped_blocks} prefix blocks dropped, {} of KV cache given back, {} trimmed",
                Bytes(discarded),
                Bytes(trimmed)
            ),
        }
    }
}

/// How many threads compute.
pub(crate) fn threads(device: &Device) -> String {
    let count = |n: usize| if n == 1 { "1 thread".to_owned() } else { format!("{n} threads") };
    match [1, 2].map(|tokens| device.threads_for(tokens)) {
        [one, more] if one == more => count(one),
        [one, more] => format!("{} for a token, {} for more", count(one), count(more)),
    }
}

/// How fast prompt and text were.
pub(crate) fn rates(generation: &Generation) -> String {
    let prompt = generation.prompt_tokens - generation.cached_tokens;
    let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let tokens = generation.tokens.len();
    format!(
        "prompt {prompt} tokens at {:.0} tok/s · {tokens} tokens at {:.1} tok/s{}",
        rate(prompt, generation.prefill),
        rate(tokens.saturating_sub(1), generation.decode),
        guesses(generation),
    )
}

/// How good the guesses of the next tokens were, where there were some.
fn guesses(generation: &Generation) -> String {
    match generation.drafted_tokens {
        0 => String::new(),
        drafted => format!(" · {} of {drafted} guesses right", generation.accepted_tokens),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A path as it is, or the newest snapshot of a repository in the cache.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path.to_owned());
    }
    let name = path.to_str().unwrap_or_default();
    if name.split('/').count() == 2 && !name.starts_with(['.', '/']) {
        if let Some(found) = crate::commands::pull::cached(name) {
            return Ok(found);
        }
        bail!("{name}: no such file or folder, and not in the cache; to download it: bitnet pull {name}");
    }
    bail!("{}: no such file or folder", path.display());
}

/// The text of a file, or of stdin for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("stdin")?;
        bytes
    } else {
        std::fs::read(path).with_context(|| path.display().to_string())?
    };
    String::from_utf8(bytes).map_err(|e| {
        let (at, name) = (e.utf8_error().valid_up_to(), path.display().to_string());
        let name = if name == "-" { "stdin" } else { &name };
        anyhow::anyhow!("{name}: byte {at} is not UTF-8; expected text")
    })
}
