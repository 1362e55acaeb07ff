//! What a step tells about the sequences that moved.

use std::time::Duration;

use crate::error::Error;

/// Names a sequence; never used twice by an engine, and rising in order of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(crate) u64);

impl SequenceId {
    /// The number behind the id.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A token with its log-probability under the model, before penalties, bias, truncation and temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// This end-of-text or stop token was picked; it is not part of the output.
    StopToken(u32),
    /// The stop string of this index in [`StopRules::strings`](crate::StopRules::strings) was written.
    StopString(usize),
    /// `max_tokens`, the context or the KV cache is full.
    Length,
    /// The caller ended it.
    Cancelled,
}

impl FinishReason {
    /// `"stop"`, `"length"` or `"cancelled"`, as in the field `finish_reason` of the HTTP interfaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StopToken(_) | Self::StopString(_) => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a sequence cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens whose keys and values were found in the prefix cache.
    pub cached_tokens: usize,
    /// Tokens picked, with a stop token that ended the sequence.
    pub generated_tokens: usize,
    /// Tokens that were guessed and computed ahead, with [`lookup`](crate::EngineOptions::lookup).
    pub drafted_tokens: usize,
    /// Those of them that were picked.
    pub accepted_tokens: usize,
    /// Times that the sequence gave its KV blocks to an older one and was computed again.
    pub preemptions: usize,
    /// From submission to the first plan that holds the sequence.
    pub queued: Duration,
    /// From there to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// What happened to one sequence in a step. With [`lookup`](crate::EngineOptions::lookup) a step may pick several
/// tokens; whoever ends the text at one of them ignores those after it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A prompt token was scored; only with `prompt_logprobs`.
    Prompt {
        /// The sequence.
        id: SequenceId,
        /// Its index in the prompt, from 1.
        position: usize,
        /// The prompt token there, given all before it.
        score: TokenLogprob,
        /// The best tokens at this place, best first.
        top: Vec<TokenLogprob>,
    },
    /// A token was picked.
    Token {
        /// The sequence.
        id: SequenceId,
        /// The token.
        token: u32,
        /// Its log-probability; only with `logprobs`.
        logprob: Option<f64>,
        /// The best tokens at this place, best first; only with `logprobs`.
        top: Vec<TokenLogprob>,
    },
    /// The sequence ended and its blocks are free; the last event of its id.
    Finished {
        /// The sequence.
        id: SequenceId,
        /// Why.
        reason: FinishReason,
        /// What it cost.
        stats: Stats,
    },
    /// No token could be picked for this sequence; the last event of its id. Others go on.
    Failed {
        /// The sequence.
        id: SequenceId,
        /// Why.
        error: Error,
    },
}

impl Event {
    /// The sequence that the event is about.
    pub fn id(&self) -> SequenceId {
        match self {
            Self::Prompt { id, .. }
            | Self::Token { id, .. }
            | Self::Finished { id, .. }
            | Self::Failed { id, .. } => *id,
        }
    }
}
