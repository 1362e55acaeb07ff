//! Time to the first token.

use super::BenchArgs;
use anyhow::Result;
use bitnet_core::{device::ThreadCounts, ops::cache::CacheType};
use bitnet_inference::{
    Engine, EngineOptions, Event, LanguageModel, Request,
    local::{self, LoadOptions, LocalModel},
};
use bitnet_model::batch::BLOCK_LEN;
use std::{path::Path, time::Instant};

/// Seconds of each repetition.
pub(super) struct First {
    /// Tokens of the prompt.
    pub(super) tokens: usize,
    pub(super) threads: usize,
    /// From a path to a model and a tokenizer; none of a model that was in memory.
    pub(super) open: Vec<f64>,
    /// From a prompt to a token that was picked.
    pub(super) prompt: Vec<f64>,
}

impl First {
    /// Opens the file for each prompt, as a program that starts does; the first time, which warms the file up, does not count.
    pub(super) fn of_file(
        args: &BenchArgs,
        path: &Path,
        threads: ThreadCounts,
        tokens: usize,
    ) -> Result<Self> {
        let options = LoadOptions {
            device: args.device.clone(),
            threads,
            load_mode: args.files.load_mode.into(),
            i2s_layout: args.files.i2s_layout.format(),
            context: Some((tokens + 1).next_multiple_of(BLOCK_LEN)),
            cache_type: CacheType::from(args.cache_type),
            head: args.head.into(),
            decode_copy: args.decode_copy,
            ..LoadOptions::default()
        };
        let mut first = Self { tokens, threads: 0, open: Vec::new(), prompt: Vec::new() };
        for _ in 0..=args.repeat {
            let begin = Instant::now();
            let loaded = local::open(path, &options, &|_, _| {})?;
            first.open.push(begin.elapsed().as_secs_f64());
            first.threads = loaded.model.device().threads();
            first.prompt(args, loaded.model)?;
        }
        first.open.remove(0);
        first.prompt.remove(0);
        Ok(first)
    }

    /// The prompt alone. Returns the model.
    pub(super) fn of_model(
        args: &BenchArgs,
        mut model: LocalModel,
        tokens: usize,
    ) -> Result<(Self, LocalModel)> {
        let threads = model.device().threads();
        let mut first = Self { tokens, threads, open: Vec::new(), prompt: Vec::new() };
        for _ in 0..=args.repeat {
            model = first.prompt(args, model)?;
        }
        first.prompt.remove(0);
        Ok((first, model))
    }

    fn prompt(&mut self, args: &BenchArgs, model: LocalModel) -> Result<LocalModel> {
        let vocab = model.vocab_size() as u32;
        let tokens = (0..self.tokens as u32).map(|i| (i * 7919 + 13) % vocab).collect();
        let options = EngineOptions { max_batch_tokens: args.batch_size, ..EngineOptions::default() };
        let begin = Instant::now();
        let mut engine = Engine::new(model, options)?;
        engine.submit(Request { tokens, max_tokens: Some(1), ..Request::default() })?;
        while !engine.is_idle() {
            for event in engine.step()? {
                if let Event::Failed { error, .. } = event {
                    return Err(error.into());
                }
            }
        }
        self.prompt.push(begin.elapsed().as_secs_f64());
        Ok(engine.into_model())
    }

    /// Seconds of each repetition, all together.
    pub(super) fn samples(&self) -> Vec<f64> {
        let open = self.open.iter().copied().chain(std::iter::repeat(0.0));
        self.prompt.iter().zip(open).map(|(prompt, open)| prompt + open).collect()
    }
}
