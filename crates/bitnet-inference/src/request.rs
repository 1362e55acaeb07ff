//! What a client asks for.

use crate::error::{Error, Result};
use crate::sampler::SamplingParams;
use crate::stop::StopRules;

/// Most alternatives that log-probabilities may list for a token.
pub const MAX_LOGPROBS: usize = 128;

/// One text to continue.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// How tokens are picked.
    pub params: SamplingParams,
    /// What ends the text.
    pub stop: StopRules,
    /// Most tokens to generate; `None` goes on to the end of the context. `Some(0)` only reads the prompt.
    pub max_tokens: Option<usize>,
    /// Reports the log-probability of every generated token and of this many best alternatives.
    pub logprobs: Option<usize>,
    /// Reports the same of every prompt token after the first. Reads the whole prompt, without prefix reuse.
    pub prompt_logprobs: Option<usize>,
}

impl Request {
    /// Checks everything that does not depend on the engine's free memory.
    pub(crate) fn validate(&self, vocab_size: usize) -> Result<()> {
        self.params.validate()?;
        self.stop.validate()?;
        check_logprobs("logprobs", self.logprobs)?;
        check_logprobs("prompt_logprobs", self.prompt_logprobs)?;
        check_tokens("prompt", &self.tokens, vocab_size)?;
        check_tokens("logit_bias", self.params.logit_bias.keys(), vocab_size)?;
        check_tokens("stop", self.stop.eos.iter().chain(&self.stop.tokens), vocab_size)?;
        if self.tokens.is_empty() { Err(Error::EmptyPrompt) } else { Ok(()) }
    }
}

fn check_logprobs(name: &'static str, n: Option<usize>) -> Result<()> {
    match n {
        Some(n) if n > MAX_LOGPROBS => Err(Error::parameter(name, "at most 128", n)),
        _ => Ok(()),
    }
}

fn check_tokens<'a>(
    what: &'static str,
    tokens: impl IntoIterator<Item = &'a u32>,
    vocab_size: usize,
) -> Result<()> {
    match tokens.into_iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(Error::TokenOutOfRange { what, token, vocab_size }),
        None => Ok(()),
    }
}
