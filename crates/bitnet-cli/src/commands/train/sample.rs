//! What a model in training writes.

use anyhow::{Result, ensure};
use bitnet_core::ops::cache::CacheType;
use bitnet_inference::{
    Engine, EngineOptions, Request, SamplingParams, StopRules, generate, local::LocalModel,
};
use bitnet_training::Trainer;
use std::ops::ControlFlow;

/// A continuation of the prompt that the configuration names, by the weights as they would be shipped now; always with the same seed, so that
/// texts of a run differ by what was learnt.
pub(super) fn sample(trainer: &Trainer) -> Result<String> {
    let (t, tokenizer) = (&trainer.config().training, trainer.tokenizer());
    let tokens = tokenizer.encode(&t.sample_prompt, true)?;
    ensure!(!tokens.is_empty(), "training.sample_prompt {:?} has no tokens", t.sample_prompt);
    let decoder = trainer.shipped()?;
    let context = decoder.config.max_position_embeddings;
    let mut engine =
        Engine::new(LocalModel::new(decoder, context, CacheType::F32)?, EngineOptions::default())?;
    let request = Request {
        tokens,
        params: SamplingParams { seed: t.seed, ..SamplingParams::default() },
        stop: StopRules { eos: tokenizer.eos().to_vec(), ..StopRules::default() },
        max_tokens: Some(t.sample_tokens),
        ..Request::default()
    };
    let bytes = |id| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
    let generation = generate(&mut engine, request, bytes, |_| ControlFlow::Continue(()))?;
    Ok(format!("{}{}", t.sample_prompt, generation.text))
}
