//! A model that is open, and text that runs through it.

use crate::ui::Ui;
use anyhow::{Context, Result, bail};
use bitnet_inference::{
    Engine, EngineOptions, Generation, Request,
    local::{self, LoadOptions, Loaded, LocalModel},
};
use bitnet_model::Tokenizer;
use std::{
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// A model with its engine and tokenizer.
pub(crate) struct Session {
    pub(crate) engine: Engine<LocalModel>,
    pub(crate) tokenizer: Tokenizer,
    load: Duration,
}

impl Session {
    /// Opens a path, or a repository that was pulled.
    pub(crate) fn open(path: &Path, options: &LoadOptions, ui: &Ui) -> Result<Self> {
        let path = resolve(path)?;
        Self::start(ui, |progress| Ok(local::open(&path, options, progress)?))
    }

    /// Opens a model that is part of the program.
    pub(crate) fn embedded(bytes: &'static [u8], options: &LoadOptions, ui: &Ui) -> Result<Self> {
        Self::start(ui, |progress| Ok(local::open_gguf_bytes(bytes, options, progress)?))
    }

    fn start(ui: &Ui, open: impl FnOnce(local::Progress<'_>) -> Result<Loaded>) -> Result<Self> {
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
        let engine = Engine::new(model, EngineOptions::default())?;
        Ok(Self { engine, tokenizer, load: begin.elapsed() })
    }

    /// Writes a continuation to stdout as it comes. Ctrl-C ends the text; a second one ends the program.
    pub(crate) fn stream(&mut self, request: Request, show_special: bool) -> Result<Generation> {
        let interrupt = interrupt();
        interrupt.store(false, SeqCst);
        let mut failed = None;
        let tokenizer = self.tokenizer.clone();
        let bytes = |id: u32| {
            if tokenizer.is_special(id) && !show_special {
                return Vec::new();
            }
            tokenizer.token_bytes(id).unwrap_or_default().to_vec()
        };
        let generation = bitnet_inference::generate(&mut self.engine, request, bytes, |text| {
            let mut out = std::io::stdout().lock();
            if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                failed = Some(error);
            }
            if failed.is_some() || interrupt.load(SeqCst) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        interrupt.store(false, SeqCst);
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(generation),
        }
    }

    /// One line about where the time and the memory went.
    pub(crate) fn timings(&self, generation: &Generation) -> String {
        let prompt = generation.prompt_tokens - generation.cached_tokens;
        let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        let decoded = generation.tokens.len().saturating_sub(1);
        format!(
            "load {:.0} ms · prompt {prompt} tokens at {:.0} tok/s · {} tokens at {:.1} tok/s",
            self.load.as_secs_f64() * 1e3,
            rate(prompt, generation.prefill),
            generation.tokens.len(),
            rate(decoded, generation.decode),
        )
    }

    /// One line about the device and its memory.
    pub(crate) fn memory(&self) -> String {
        let device = self.engine.model().device();
        format!("{} with {} threads · pool: {}", device.name(), device.threads(), device.pool().stats())
    }
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

/// Set by Ctrl-C. The second one ends the program, unless the first one was taken.
pub(crate) fn interrupt() -> &'static AtomicBool {
    static FLAG: OnceLock<&'static AtomicBool> = OnceLock::new();
    FLAG.get_or_init(|| {
        static PRESSED: AtomicBool = AtomicBool::new(false);
        // Without a handler Ctrl-C ends the program, as it does by default.
        let _ = ctrlc::set_handler(|| {
            if PRESSED.swap(true, SeqCst) {
                process::exit(130);
            }
        });
        &PRESSED
    })
}

/// The text of a file, or of stdin for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)?;
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
