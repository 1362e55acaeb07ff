//! KV blocks, sampling, scheduling and the generation engine.
//!
//! An [`Engine`] owns a [`LanguageModel`] and any number of sequences. Each [`Engine::step`] is
//! `plan -> forward -> pick -> advance`: the scheduler lays out one ragged batch, the model turns it into
//! logits, the sampler picks tokens, and the sequences move on. [`generate()`] runs one request to its end as
//! text.
//!
//! What a sequence yields depends on its own request alone: not on the batch it shares, the size of the
//! prefill chunks, prefix reuse, preemption or guesses of the next tokens.
#![forbid(unsafe_code)]

mod blocks;
pub mod engine;
pub mod error;
pub mod event;
pub mod generate;
pub mod head;
pub mod local;
mod lookup;
pub mod model;
mod pace;
pub mod perplexity;
pub mod pressure;
pub mod request;
pub mod sampler;
mod scheduler;
mod sequence;
pub mod stop;
pub mod triples;
pub mod utf8;

pub use bitnet_core::random::Rng;
pub use engine::{Engine, EngineOptions, KvUsage};
pub use error::{Error, Result};
pub use event::{Event, FinishReason, SequenceId, Stats, TokenLogprob};
pub use generate::{Generation, TextStream, generate};
pub use lookup::MAX_LOOKUP;
pub use model::LanguageModel;
pub use pressure::{Relief, Watch};
pub use request::Request;
pub use sampler::{Sampler, SamplingParams};
pub use stop::{StopMatcher, StopRules};
pub use utf8::Utf8Stream;
