//! From a request to text, for callers with one request at a time.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event::{Event, FinishReason, SequenceId, Stats, TokenLogprob};
use crate::model::LanguageModel;
use crate::request::Request;
use crate::stop::{StopMatcher, StopRules};
use crate::utf8::Utf8Stream;

/// What a request yielded.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The tokens generated, without a stop token; with all that a stop string was found in.
    pub tokens: Vec<u32>,
    /// With `logprobs`: the score of each of `tokens`, and the best tokens at its place.
    pub logprobs: Vec<(TokenLogprob, Vec<TokenLogprob>)>,
    /// With `prompt_logprobs`: the same for each prompt token after the first.
    pub prompt_logprobs: Vec<(TokenLogprob, Vec<TokenLogprob>)>,
    /// The text of `tokens`, up to the stop string.
    pub text: String,
    /// Why the text ended.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens that were found in the prefix cache.
    pub cached_tokens: usize,
    /// Tokens that were guessed and computed ahead.
    pub drafted_tokens: usize,
    /// Those of them that were picked.
    pub accepted_tokens: usize,
    /// Time to the first token.
    pub prefill: Duration,
    /// Time from the first token to the last.
    pub decode: Duration,
}

/// Bytes of tokens as text that can be shown at once: whole characters, and nothing that may become a stop
/// string.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    stops: StopMatcher,
    characters: Utf8Stream,
    safe: Vec<u8>,
}

impl TextStream {
    /// A text that ends at the strings of `stop`.
    pub fn new(stop: &StopRules) -> Self {
        Self { stops: StopMatcher::new(&stop.strings), ..Self::default() }
    }

    /// Takes the bytes of the next token and appends what can be shown to `text`. Returns the index of the
    /// stop string that the text ends at, if it does.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) -> Option<usize> {
        self.safe.clear();
        let found = self.stops.push(bytes, &mut self.safe);
        self.characters.push(&self.safe, text);
        found
    }

    /// Ends the text, and appends what was held back to `text`.
    pub fn finish(&mut self, text: &mut String) {
        self.safe.clear();
        self.stops.finish(&mut self.safe);
        self.characters.push(&self.safe, text);
        self.characters.finish(text);
    }
}

/// Runs `request` to its end.
///
/// `token_bytes` gives the bytes of a token. `on_text` gets the text as it comes, once a step, and so also
/// with nothing new (during prefill, or while a stop string may be forming); it ends the text with
/// [`ControlFlow::Break`]. When this returns, whatever the outcome, the sequence and its blocks are gone from
/// the engine.
///
/// # Errors
/// Those of [`Engine::submit`] and [`Engine::step_into`]; the reason of an [`Event::Failed`]; [`Error::Busy`]
/// when other sequences are unfinished.
pub fn generate<M: LanguageModel>(
    engine: &mut Engine<M>,
    request: Request,
    token_bytes: impl Fn(u32) -> Vec<u8>,
    mut on_text: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation> {
    if !engine.is_idle() {
        return Err(Error::Busy { sequences: engine.running() + engine.waiting() });
    }
    let mut writer = Writer::new(&request.stop, token_bytes);
    let id = engine.submit(request)?;
    let outcome = writer.run(engine, id, &mut on_text);
    // After an error, or a stop that the engine does not know of, the sequence is still there.
    if let Some(Event::Finished { stats, .. }) = engine.cancel(id) {
        writer.stats = stats;
    }
    outcome.map(|reason| writer.generation(reason))
}

/// What comes of one sequence.
struct Writer<F> {
    token_bytes: F,
    stream: TextStream,
    tokens: Vec<u32>,
    logprobs: Vec<(TokenLogprob, Vec<TokenLogprob>)>,
    prompt_logprobs: Vec<(TokenLogprob, Vec<TokenLogprob>)>,
    text: String,
    reason: Option<FinishReason>,
    stats: Stats,
}

impl<F: Fn(u32) -> Vec<u8>> Writer<F> {
    fn new(stop: &StopRules, token_bytes: F) -> Self {
        Self {
            token_bytes,
            stream: TextStream::new(stop),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            prompt_logprobs: Vec::new(),
            text: String::new(),
            reason: None,
            stats: Stats::default(),
        }
    }

    fn run<M: LanguageModel>(
        &mut self,
        engine: &mut Engine<M>,
        id: SequenceId,
        on_text: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<FinishReason> {
        let mut events = Vec::new();
        loop {
            engine.step_into(&mut events)?;
            let shown = self.text.len();
            for event in events.drain(..).filter(|event| event.id() == id) {
                self.take(event)?;
            }
            if self.reason.is_some() {
                self.stream.finish(&mut self.text);
            }
            let flow = on_text(&self.text[shown..]);
            match self.reason {
                Some(reason) => return Ok(reason),
                None if flow.is_break() => return Ok(FinishReason::Cancelled),
                None => {}
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Finished { reason, stats, .. } => {
                // A stop string in the last token allowed counts as the stop.
                self.reason.get_or_insert(reason);
                self.stats = stats;
            }
            Event::Failed { error, .. } => return Err(error),
            // Tokens of the same step behind a stop string.
            _ if self.reason.is_some() => {}
            Event::Prompt { score, top, .. } => self.prompt_logprobs.push((score, top)),
            Event::Token { token, logprob, top, .. } => {
                self.tokens.push(token);
                self.logprobs.extend(logprob.map(|logprob| (TokenLogprob { token, logprob }, top)));
                let found = self.stream.push(&(self.token_bytes)(token), &mut self.text);
                self.reason = found.map(FinishReason::StopString);
            }
        }
        Ok(())
    }

    fn generation(self, reason: FinishReason) -> Generation {
        let Stats { prompt_tokens, cached_tokens, drafted_tokens, accepted_tokens, prefill, decode, .. } =
            self.stats;
        Generation {
            tokens: self.tokens,
            logprobs: self.logprobs,
            prompt_logprobs: self.prompt_logprobs,
            text: self.text,
            reason,
            prompt_tokens,
            cached_tokens,
            drafted_tokens,
            accepted_tokens,
            prefill,
            decode,
        }
    }
}
