//! One token stream: its tokens, what of them the KV cache holds, and its clock.

use std::time::{Duration, Instant};

use bitnet_model::batch::{BLOCK_LEN, Logits};

use crate::blocks::{Blocks, Prefix};
use crate::event::{SequenceId, Stats};
use crate::lookup::Lookup;
use crate::request::Request;
use crate::sampler::SamplingParams;
use crate::stop::StopRules;
use bitnet_core::random::Rng;

/// A sequence always has a token whose keys and values are not computed yet: `computed < tokens.len()`, but
/// after its last step.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub id: SequenceId,
    /// The prompt and what was generated.
    pub tokens: Vec<u32>,
    pub prompt_len: usize,
    /// Most tokens that the sequence may come to have.
    pub limit: usize,
    pub params: SamplingParams,
    pub stop: StopRules,
    pub logprobs: Option<usize>,
    pub prompt_logprobs: Option<usize>,
    pub rng: Rng,
    /// Tokens that were computed ahead, and those of them that were picked.
    pub drafted: usize,
    pub accepted: usize,
    /// Leading positions that the KV cache holds.
    pub computed: usize,
    pub blocks: Vec<u32>,
    /// Leading prompt tokens whose score is reported or not wanted.
    pub scored: usize,
    pub end: Option<End>,
    /// Leading blocks that the prefix cache knows, and what they hold.
    known: usize,
    prefix: Prefix,
    lookup: Option<Lookup>,
    clock: Clock,
    cached_tokens: usize,
    picked: usize,
    preemptions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    /// What its blocks hold is not to be trusted.
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Clock {
    submitted: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Sequence {
    /// `room` is the most tokens that any sequence may have; the prompt is within it.
    pub fn new(id: SequenceId, request: Request, room: usize) -> Self {
        let Request { tokens, mut params, stop, max_tokens, logprobs, prompt_logprobs } = request;
        if stop.ignore_eos {
            params.logit_bias.extend(stop.eos.iter().map(|&token| (token, f32::NEG_INFINITY)));
        }
        let prompt_len = tokens.len();
        Self {
            id,
            limit: prompt_len.saturating_add(max_tokens.unwrap_or(usize::MAX)).min(room),
            scored: if prompt_logprobs.is_some() { 1 } else { prompt_len },
            rng: Rng::new(params.seed),
            clock: Clock { submitted: Instant::now(), started: None, first: None, last: None },
            lookup: None,
            drafted: 0,
            accepted: 0,
            tokens,
            prompt_len,
            params,
            stop,
            logprobs,
            prompt_logprobs,
            computed: 0,
            blocks: Vec::new(),
            end: None,
            known: 0,
            prefix: Prefix::EMPTY,
            cached_tokens: 0,
            picked: 0,
            preemptions: 0,
        }
    }

    /// Tokens that are not in the KV cache: 1 in a decode step, more in a prefill.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Blocks that hold all present tokens.
    pub fn blocks_needed(&self) -> usize {
        self.tokens.len().div_ceil(BLOCK_LEN)
    }

    pub fn wants_scores(&self) -> bool {
        self.scored < self.prompt_len
    }

    pub fn wants_token(&self) -> bool {
        self.tokens.len() < self.limit
    }

    /// The rows of logits that the next `len` tokens owe.
    pub fn logits_of(&self, len: usize) -> Logits {
        if self.wants_scores() {
            Logits::All
        } else if len == self.pending() && self.wants_token() {
            Logits::Last
        } else {
            Logits::None
        }
    }

    /// How many of the largest logits decide what comes next; `None` where all do.
    pub fn decisive_logits(&self) -> Option<usize> {
        if self.logprobs.is_some() || self.wants_scores() {
            None
        } else {
            self.params.decisive_logits(self.limit)
        }
    }

    /// Appends a token that was picked.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        if let Some(lookup) = &mut self.lookup {
            lookup.push(&self.tokens);
        }
    }

    /// Appends to `out` at most `most` guesses of the tokens after the present ones, all of which are right with a
    /// probability of at least `chance`. There are none while the prompt is read, and none that the last token
    /// allowed would not follow.
    pub fn guess(&self, most: usize, chance: f32, out: &mut Vec<u32>) {
        let decodes = self.pending() == 1 && self.tokens.len() > self.prompt_len;
        let Some(lookup) = self.lookup.as_ref().filter(|_| decodes) else { return };
        let most = most.min((self.limit - self.tokens.len()).saturating_sub(1));
        lookup.guess(&self.tokens, most, chance, out);
    }

    /// Takes free blocks for up to `ahead` positions after the present tokens. Returns for how many there is room.
    pub fn reach(&mut self, ahead: usize, blocks: &mut Blocks) -> usize {
        let end = self.tokens.len() + ahead;
        while self.blocks.len() * BLOCK_LEN < end
            && let Some(block) = blocks.allocate_free()
        {
            self.blocks.push(block);
        }
        ahead.min(self.blocks.len() * BLOCK_LEN - self.tokens.len())
    }

    /// Gives back the blocks behind the present tokens.
    pub fn retract(&mut self, blocks: &mut Blocks) {
        while self.blocks.len() > self.blocks_needed() {
            blocks.release(self.blocks.pop().expect("more blocks than are needed"));
        }
    }

    /// Takes as many leading blocks from the prefix cache as may be reused: the last token is always
    /// computed, and so is what a wanted score comes from.
    pub fn reuse(&mut self, blocks: &mut Blocks) {
        let most = if self.wants_scores() { self.scored - 1 } else { self.tokens.len() - 1 };
        let (full, _) = self.tokens[..most].as_chunks();
        for tokens in full {
            let Some((block, prefix)) = blocks.find(self.prefix, tokens) else { break };
            self.blocks.push(block);
            self.prefix = prefix;
        }
        self.known = self.blocks.len();
        self.computed = self.known * BLOCK_LEN;
    }

    /// Makes the blocks that are full by now findable.
    pub fn share(&mut self, blocks: &mut Blocks) {
        let (full, _) = self.tokens[..self.computed].as_chunks();
        for tokens in &full[self.known..] {
            let block = &mut self.blocks[self.known];
            (*block, self.prefix) = blocks.share(*block, self.prefix, tokens);
            self.known += 1;
        }
    }

    /// Gives all blocks back.
    pub fn release(&mut self, blocks: &mut Blocks) {
        let failed = self.end == Some(End::Failed);
        for block in self.blocks.drain(..).rev() {
            if failed { blocks.discard(block) } else { blocks.release(block) }
        }
        (self.computed, self.known, self.prefix) = (0, 0, Prefix::EMPTY);
    }

    pub fn preempt(&mut self, blocks: &mut Blocks) {
        self.release(blocks);
        self.preemptions += 1;
    }

    /// Notes that the sequence runs from now on, and takes the memory that it can come to need. Guesses its tokens
    /// if it shall.
    pub fn start(&mut self, now: Instant, guesses: bool) {
        if self.clock.started.is_none() {
            self.clock.started = Some(now);
            self.cached_tokens = self.computed;
            self.lookup = (guesses && self.wants_token()).then(|| Lookup::new(&self.tokens, self.limit));
        }
        self.tokens.reserve_exact(self.limit - self.tokens.len());
        let blocks = self.limit.div_ceil(BLOCK_LEN);
        self.blocks.reserve_exact(blocks.saturating_sub(self.blocks.len()));
    }

    /// Whether it ran already, and waits again since it gave up its blocks.
    pub fn has_started(&self) -> bool {
        self.clock.started.is_some()
    }

    /// Notes that a token was picked.
    pub fn tick(&mut self, now: Instant) {
        self.picked += 1;
        self.clock.first.get_or_insert(now);
        self.clock.last = Some(now);
    }

    pub fn stats(&self, now: Instant) -> Stats {
        let Clock { submitted, started, first, last } = self.clock;
        let between = |from: Option<Instant>, to: Option<Instant>| match from {
            Some(from) => to.unwrap_or(now).saturating_duration_since(from),
            None => Duration::ZERO,
        };
        Stats {
            prompt_tokens: self.prompt_len,
            cached_tokens: self.cached_tokens,
            generated_tokens: self.picked,
            drafted_tokens: self.drafted,
            accepted_tokens: self.accepted,
            preemptions: self.preemptions,
            queued: between(Some(submitted), started),
            prefill: between(started, first),
            decode: between(first, last),
        }
    }
}
