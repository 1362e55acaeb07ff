//! Decides which tokens the next step computes, and who holds KV blocks.
//!
//! Sequences run in order of submission. Decode steps come first in a batch, then chunks of prefill. A
//! sequence starts when the blocks for all its present tokens are free, so that only decoding ever lacks one;
//! then the youngest sequence gives up its blocks and is computed again later. The oldest never does, hence
//! something always moves.
//!
//! With lookup, decode steps draft: guessed tokens are computed with the real one, and those that the sampler picks
//! are won. Drafts only take what nobody else wants: tokens that prefill leaves of the batch, and blocks that are
//! free and go back after the step.

use std::collections::VecDeque;
use std::time::Instant;

use bitnet_model::batch::{BLOCK_LEN, Batch, Logits, Span};

use crate::blocks::Blocks;
use crate::engine::EngineOptions;
use crate::event::SequenceId;
use crate::sequence::{End, Sequence};

/// Most prompt rows that a step scores: each is a row of logits, for which the memory has to be there.
const MAX_SCORED_ROWS: usize = 64;

/// Most tokens that a step drafts, for the same reason.
const MAX_DRAFTED_ROWS: usize = 64;

#[derive(Debug)]
pub(crate) struct Scheduler {
    options: EngineOptions,
    /// In order of submission, and all submitted before those that wait.
    pub running: Vec<Sequence>,
    pub waiting: VecDeque<Sequence>,
    pub blocks: Blocks,
    /// Which running sequence each span of the batch is of.
    pub planned: Vec<usize>,
    spare_tables: Vec<Vec<u32>>,
    /// Sequences that did not run yet wait until no other runs.
    pub one_at_a_time: bool,
}

impl Scheduler {
    pub fn new(options: EngineOptions, blocks: Blocks) -> Self {
        Self {
            options,
            running: Vec::new(),
            waiting: VecDeque::new(),
            blocks,
            planned: Vec::new(),
            spare_tables: Vec::new(),
            one_at_a_time: false,
        }
    }

    /// Lays out the next batch; it is empty only when no sequence is left. What a step costs is told by
    /// [`LanguageModel::step_cost`](crate::LanguageModel::step_cost).
    pub fn plan(&mut self, batch: &mut Batch, now: Instant, step_cost: f32) {
        let preempted = self.grow();
        if !preempted {
            self.admit(now);
        }
        self.lay_out(batch, step_cost);
    }

    /// Takes the sequence out, wherever it is, and frees its blocks.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let mut sequence = match self.running.iter().position(|s| s.id == id) {
            Some(at) => self.running.remove(at),
            None => self.waiting.remove(self.waiting.iter().position(|s| s.id == id)?)?,
        };
        sequence.release(&mut self.blocks);
        Some(sequence)
    }

    /// Makes computed blocks findable, and takes out the sequences that ended.
    pub fn settle(&mut self) {
        for &at in &self.planned {
            let sequence = &mut self.running[at];
            if self.options.prefix_cache && sequence.end != Some(End::Failed) {
                sequence.share(&mut self.blocks);
            }
        }
        self.retract();
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            if sequence.end.is_some() {
                sequence.release(blocks);
            }
            sequence.end.is_none()
        });
    }

    /// Gives back the blocks of drafts that came to nothing.
    pub fn retract(&mut self) {
        for &at in &self.planned {
            self.running[at].retract(&mut self.blocks);
        }
    }

    /// Gives every running sequence the blocks for its present tokens, at the cost of the youngest.
    fn grow(&mut self) -> bool {
        let (mut at, mut preempted) = (0, false);
        while let Some(sequence) = self.running.get_mut(at) {
            if sequence.blocks.len() >= sequence.blocks_needed() {
                at += 1;
            } else if let Some(block) = self.blocks.allocate() {
                sequence.blocks.push(block);
            } else {
                self.preempt_youngest();
                preempted = true;
            }
        }
        preempted
    }

    fn preempt_youngest(&mut self) {
        let mut youngest = self.running.pop().expect("a running sequence lacks a block");
        tracing::debug!(sequence = youngest.id.get(), "KV blocks are short, the youngest sequence waits");
        youngest.preempt(&mut self.blocks);
        self.waiting.push_front(youngest);
    }

    fn admit(&mut self, now: Instant) {
        while self.running.len() < self.options.max_sequences
            && self.prefill_pending() < self.prefill_budget()
        {
            let held_back = self.one_at_a_time && !self.running.is_empty();
            let next = self.waiting.pop_front_if(|next| !held_back || next.has_started());
            let Some(mut sequence) = next else { return };
            if !self.take_blocks(&mut sequence) {
                self.waiting.push_front(sequence);
                return;
            }
            sequence.start(now, self.options.lookup > 0);
            self.running.push(sequence);
        }
    }

    /// Gives `sequence` the blocks for its present tokens, if that leaves one for each sequence that runs
    /// already.
    fn take_blocks(&mut self, sequence: &mut Sequence) -> bool {
        if self.options.prefix_cache {
            sequence.reuse(&mut self.blocks);
        }
        let missing = sequence.blocks_needed() - sequence.blocks.len();
        if missing + self.running.len() > self.blocks.available() {
            sequence.release(&mut self.blocks);
            return false;
        }
        let blocks = &mut self.blocks;
        sequence.blocks.extend((0..missing).map(|_| blocks.allocate().expect("enough blocks are available")));
        true
    }

    fn prefill_pending(&self) -> usize {
        self.running.iter().map(Sequence::pending).filter(|&n| n > 1).sum()
    }

    /// Tokens of prefill beside the decode steps: never none, or a prompt could wait for a long text to end.
    fn prefill_budget(&self) -> usize {
        let decoding = self.running.iter().filter(|s| s.pending() == 1).count();
        self.options.max_batch_tokens.saturating_sub(decoding).max(1)
    }

    fn lay_out(&mut self, batch: &mut Batch, step_cost: f32) {
        batch.tokens.clear();
        self.spare_tables.extend(batch.spans.drain(..).map(|span| span.blocks));
        self.planned.clear();
        let mut drafts = self.drafts(step_cost);
        for at in 0..self.running.len() {
            if self.running[at].pending() == 1 {
                let drafted = self.push_drafting_span(batch, at, &drafts);
                drafts.left -= drafted;
            }
        }
        let (mut budget, mut rows) = (self.prefill_budget(), MAX_SCORED_ROWS);
        for at in 0..self.running.len() {
            let sequence = &self.running[at];
            let scores = sequence.wants_scores();
            let len = sequence.pending().min(budget).min(if scores { rows } else { budget });
            if sequence.pending() > 1 && len > 0 {
                budget -= len;
                rows -= if scores { len } else { 0 };
                self.push_span(batch, at, len);
            }
        }
    }

    /// What the next step may draft: nothing while memory is critical, nor more than the batch has room for.
    fn drafts(&self, step_cost: f32) -> Drafts {
        let decoding = self.running.iter().filter(|s| s.pending() == 1).count();
        let prefill = self.prefill_pending().min(self.prefill_budget());
        let room = self.options.max_batch_tokens.saturating_sub(decoding + prefill).min(MAX_DRAFTED_ROWS);
        // A step of `n` tokens costs `n + step_cost`. One more is worth its cost of 1 if it yields at least what the
        // others yield at that price, `n / (n + step_cost)`.
        let tokens = (decoding + prefill) as f32;
        Drafts { left: if self.one_at_a_time { 0 } else { room }, chance: tokens / (tokens + step_cost) }
    }

    /// Adds the decode step of a sequence, with guesses behind it. Returns how many.
    fn push_drafting_span(&mut self, batch: &mut Batch, at: usize, drafts: &Drafts) -> usize {
        let sequence = &mut self.running[at];
        let first = batch.tokens.len();
        batch.tokens.push(sequence.tokens[sequence.computed]);
        sequence.guess(self.options.lookup.min(drafts.left), drafts.chance, &mut batch.tokens);
        let drafted = sequence.reach(batch.tokens.len() - first - 1, &mut self.blocks);
        batch.tokens.truncate(first + 1 + drafted);
        let logits = if drafted > 0 { Logits::All } else { sequence.logits_of(1) };
        self.push_table(batch, at, 1 + drafted, logits);
        drafted
    }

    fn push_span(&mut self, batch: &mut Batch, at: usize, len: usize) {
        let sequence = &self.running[at];
        batch.tokens.extend_from_slice(&sequence.tokens[sequence.computed..][..len]);
        self.push_table(batch, at, len, sequence.logits_of(len));
    }

    /// Adds the span of `len` tokens that are in the batch already.
    fn push_table(&mut self, batch: &mut Batch, at: usize, len: usize, logits: Logits) {
        let sequence = &self.running[at];
        let (start, end) = (sequence.computed, sequence.computed + len);
        let mut blocks = self.spare_tables.pop().unwrap_or_default();
        blocks.clear();
        // As much as the sequence can come to have: its later steps then find room.
        blocks.reserve_exact(sequence.blocks.capacity());
        blocks.extend_from_slice(&sequence.blocks[..end.div_ceil(BLOCK_LEN)]);
        let largest = sequence.decisive_logits();
        batch.spans.push(Span { len, start, blocks, logits, largest });
        self.planned.push(at);
    }
}

/// What a step may guess.
struct Drafts {
    /// Tokens that there is still room for.
    left: usize,
    /// The probability of being right that makes a guess worth its cost.
    chance: f32,
}
