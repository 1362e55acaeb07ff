//! What can go wrong between a request and its tokens.

use bitnet_core::memory::{Bytes, usage::Scope};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request, an option or a step was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A sampling parameter, stop rule or engine option has a value without meaning.
    #[error("{name}: expected {expected}, got {got}")]
    Parameter {
        /// Name of the field.
        name: &'static str,
        /// Which values it takes.
        expected: &'static str,
        /// The value that came.
        got: String,
    },
    /// The prompt has no token, so nothing predicts the first one.
    #[error("the prompt is empty: expected at least one token (the beginning-of-text token will do)")]
    EmptyPrompt,
    /// A token that the model does not have.
    #[error("{what}: token {token} is outside of the vocabulary of {vocab_size} tokens")]
    TokenOutOfRange {
        /// Where the token was named: `prompt`, `logit_bias`, `stop`.
        what: &'static str,
        /// The token that came.
        token: u32,
        /// Number of tokens that the model has.
        vocab_size: usize,
    },
    /// The prompt alone can never fit.
    #[error(
        "the prompt has {tokens} tokens, at most {room} fit (context {context_length}, KV cache \
         {kv_positions} positions); shorten the prompt or raise the context size"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Longest prompt that this engine takes.
        room: usize,
        /// Positions that the model was loaded for.
        context_length: usize,
        /// Positions that the KV cache holds.
        kv_positions: usize,
    },
    /// Memory is so scarce that no further sequence may start.
    #[error(
        "memory is critical: a sequence of up to {tokens} tokens needs {} more of KV cache{}, {} of the {} of {} are \
         available, {} are missing; try again when others are done, allow fewer tokens or a smaller context, or store \
         keys and values as q8_0",
        Bytes(*needed),
        if *reserve > 0 { format!(" beside {} kept for those that run", Bytes(*reserve)) } else { String::new() },
        Bytes(*available),
        Bytes(*limit),
        scope.name(),
        Bytes(*missing)
    )]
    MemoryPressure {
        /// Most tokens that the sequence may come to have.
        tokens: usize,
        /// Bytes that its keys and values take beyond what the KV cache has in memory.
        needed: usize,
        /// Bytes that must stay free while other sequences run.
        reserve: usize,
        /// Bytes that can be had.
        available: usize,
        /// Bytes that there are.
        limit: usize,
        /// `needed + reserve - available`.
        missing: usize,
        /// What the limit belongs to.
        scope: Scope,
    },
    /// The engine still runs other sequences, whose events would be lost.
    #[error("the engine has {sequences} unfinished sequences: finish or cancel them first")]
    Busy {
        /// Number of unfinished sequences.
        sequences: usize,
    },
    /// The model failed; no sequence has moved, and the step may be tried again.
    #[error("the forward pass failed: {0}")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The model returned another number of logits than the batch asked for.
    #[error("expected {expected} logits ({rows} rows of {vocab_size}), got {got}")]
    LogitsLength {
        /// Rows that the batch asked for.
        rows: usize,
        /// Length of a row.
        vocab_size: usize,
        /// `rows * vocab_size`.
        expected: usize,
        /// Number of logits that came.
        got: usize,
    },
    /// A logit is NaN or infinite, so the distribution has no meaning.
    #[error("the logit of token {token} is {value}: expected a finite number (are the weights damaged?)")]
    LogitNotFinite {
        /// The first such token.
        token: u32,
        /// Its logit.
        value: f32,
    },
    /// Every token was excluded by a bias of negative infinity.
    #[error("no token is left to pick: the logit bias excludes the whole vocabulary")]
    NoCandidate,
}

impl Error {
    pub(crate) fn parameter(name: &'static str, expected: &'static str, got: impl ToString) -> Self {
        Self::Parameter { name, expected, got: got.to_string() }
    }
}
