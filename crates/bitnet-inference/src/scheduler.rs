//! Decides which tokens the next step computes, and who holds KV blocks.
//!
//! Sequences run in order of submission. Decode steps come first in a batch, then chunks of prefill. A
//! sequence starts when the blocks for all its present tokens are free, so that only decoding ever lacks one;
//! then the youngest sequence gives up its blocks and is computed again later. The oldest never does, hence
//! something always moves.

use std::collections::VecDeque;
use std::time::Instant;

use bitnet_model::batch::{BLOCK_LEN, Batch, Span};

use crate::blocks::Blocks;
use crate::engine::EngineOptions;
use crate::event::SequenceId;
use crate::sequence::{End, Sequence};

/// Most prompt rows that a step scores: each is a row of logits, for which the memory has to be there.
const MAX_SCORED_ROWS: usize = 64;

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

    /// Lays out the next batch; it is empty only when no sequence is left.
    pub fn plan(&mut self, batch: &mut Batch, now: Instant) {
        let preempted = self.grow();
        if !preempted {
            self.admit(now);
        }
        self.lay_out(batch);
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
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            if sequence.end.is_some() {
                sequence.release(blocks);
            }
            sequence.end.is_none()
        });
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
            sequence.start(now);
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

    fn lay_out(&mut self, batch: &mut Batch) {
        batch.tokens.clear();
        self.spare_tables.extend(batch.spans.drain(..).map(|span| span.blocks));
        self.planned.clear();
        for at in 0..self.running.len() {
            if self.running[at].pending() == 1 {
                self.push_span(batch, at, 1);
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

    fn push_span(&mut self, batch: &mut Batch, at: usize, len: usize) {
        let sequence = &self.running[at];
        let (start, end) = (sequence.computed, sequence.computed + len);
        let mut blocks = self.spare_tables.pop().unwrap_or_default();
        blocks.clear();
        // As much as the sequence can come to have: its later steps then find room.
        blocks.reserve_exact(sequence.blocks.capacity());
        blocks.extend_from_slice(&sequence.blocks[..end.div_ceil(BLOCK_LEN)]);
        batch.tokens.extend_from_slice(&sequence.tokens[start..end]);
        batch.spans.push(Span { len, start, blocks, logits: sequence.logits_of(len) });
        self.planned.push(at);
    }
}
