//! Runs any number of sequences through one model: plan, forward, pick, advance.

use std::time::Instant;

use bitnet_model::batch::{BLOCK_LEN, Batch, Span};

use crate::blocks::Blocks;
use crate::error::{Error, Result};
use crate::event::{Event, FinishReason, SequenceId};
use crate::lookup::MAX_LOOKUP;
use crate::model::LanguageModel;
use crate::pressure::{Relief, Watch};
use crate::request::Request;
use crate::sampler::Sampler;
use crate::scheduler::Scheduler;
use crate::sequence::{End, Sequence};

/// How an engine shares the model among its sequences. Nothing here changes what a sequence yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Tokens that a step computes: one for every decoding sequence, the rest (at least one) for prefill.
    pub max_batch_tokens: usize,
    /// Sequences that run at a time; others wait.
    pub max_sequences: usize,
    /// Keeps the KV blocks of finished sequences, and reuses them where a prompt begins with the same tokens.
    pub prefix_cache: bool,
    /// Most tokens that a decode step guesses for each sequence, from earlier places where it said the same, and
    /// computes ahead; at most [`MAX_LOOKUP`], and 0 guesses none. A step then yields one token and those guessed right.
    pub lookup: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { max_batch_tokens: 512, max_sequences: 16, prefix_cache: true, lookup: 0 }
    }
}

/// The state of the KV cache, in blocks; `held + idle + free` is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvUsage {
    /// Used by sequences.
    pub held: usize,
    /// Unused, but kept for reuse.
    pub idle: usize,
    /// Empty.
    pub free: usize,
}

/// A model and the sequences that it continues.
///
/// Dropping an id without [`cancel`](Self::cancel) is fine: every sequence comes to its end by itself.
#[derive(Debug)]
pub struct Engine<M> {
    model: M,
    vocab_size: usize,
    scheduler: Scheduler,
    sampler: Sampler,
    batch: Batch,
    logits: Vec<f32>,
    submitted: u64,
    watch: Option<Watch>,
}

impl<M: LanguageModel> Engine<M> {
    /// An engine without sequences.
    ///
    /// # Errors
    /// [`Error::Parameter`] when an option, or what the model says of itself, is zero or too large.
    pub fn new(model: M, options: EngineOptions) -> Result<Self> {
        let sizes = [
            ("max_batch_tokens", options.max_batch_tokens),
            ("max_sequences", options.max_sequences),
            ("vocab_size", model.vocab_size()),
            ("context_length", model.context_length()),
            ("kv_blocks", model.kv_blocks()),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::parameter(name, "at least 1", 0));
        }
        if options.lookup > MAX_LOOKUP {
            return Err(Error::parameter("lookup", "at most 64", options.lookup));
        }
        let too_large = |_| Error::parameter("kv_blocks", "less than 2^32 - 1", model.kv_blocks());
        let capacity = u32::try_from(model.kv_blocks().saturating_add(1)).map_err(too_large)? - 1;
        Ok(Self {
            vocab_size: model.vocab_size(),
            scheduler: Scheduler::new(options, Blocks::new(capacity)),
            sampler: Sampler::default(),
            batch: Batch::default(),
            logits: Vec::new(),
            submitted: 0,
            watch: None,
            model,
        })
    }

    /// Keeps an eye on memory from now on. When it is scarce, the prefix cache shrinks, the system gets the memory of blocks that nobody
    /// uses, and the pool is trimmed; when it is critical, new sequences are refused. What a sequence yields does not depend on it.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// How scarce memory is and what was done about it, where somebody watches it.
    pub fn relief(&self) -> Option<Relief> {
        self.watch.as_ref().map(|watch| *watch.relief())
    }

    /// Queues a request. The sequence starts when there is room for it.
    ///
    /// # Errors
    /// When a parameter or token has no meaning, when the prompt and one new token can never fit, or when memory is critical.
    pub fn submit(&mut self, request: Request) -> Result<SequenceId> {
        request.validate(self.vocab_size)?;
        let room = self.room();
        let generates = usize::from(request.max_tokens != Some(0));
        if request.tokens.len() + generates > room {
            return Err(Error::PromptTooLong {
                tokens: request.tokens.len(),
                room: room - generates,
                context_length: self.model.context_length(),
                kv_positions: self.kv_positions(),
            });
        }
        let sequence = Sequence::new(SequenceId(self.submitted), request, room);
        self.expect_memory(sequence.limit)?;
        self.submitted += 1;
        let id = sequence.id;
        self.scheduler.waiting.push_back(sequence);
        Ok(id)
    }

    /// Ends a sequence at once and frees its blocks. Returns its [`Event::Finished`], which no step repeats,
    /// or `None` if it is not alive.
    pub fn cancel(&mut self, id: SequenceId) -> Option<Event> {
        let sequence = self.scheduler.remove(id)?;
        Some(Event::Finished { id, reason: FinishReason::Cancelled, stats: sequence.stats(Instant::now()) })
    }

    /// [`step_into`](Self::step_into) a new list.
    ///
    /// # Errors
    /// As there.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.step_into(&mut events)?;
        Ok(events)
    }

    /// Computes one batch and appends what happened to `events`; does nothing when no sequence is left.
    ///
    /// A step in which sequences only decode allocates nothing, if `events` has room and no scores are
    /// wanted.
    ///
    /// # Errors
    /// [`Error::Model`] and [`Error::LogitsLength`], which blame no sequence: none has moved, and a further
    /// step tries the same again. What goes wrong with one sequence alone is an [`Event::Failed`].
    pub fn step_into(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let now = Instant::now();
        self.look(now);
        self.scheduler.plan(&mut self.batch, now, self.model.step_cost());
        // Behind the plan: what a sequence that starts now finds in the prefix cache is worth more than its memory.
        self.shrink();
        if self.batch.spans.is_empty() {
            return Ok(());
        }
        self.forward().inspect_err(|_| self.scheduler.retract())?;
        let now = Instant::now();
        let (mut tokens, mut logits) = (self.batch.tokens.as_slice(), self.logits.as_slice());
        for (span, &at) in self.batch.spans.iter().zip(&self.scheduler.planned) {
            let done = Computed {
                span,
                tokens: tokens.split_off(..span.len).expect("the tokens of a span are in its batch"),
                logits: logits
                    .split_off(..span.logits_rows() * self.vocab_size)
                    .expect("the number of logits was checked"),
                vocab_size: self.vocab_size,
            };
            let sequence = &mut self.scheduler.running[at];
            match advance(sequence, done, &mut self.sampler, now, events) {
                Ok(None) => {}
                Ok(Some(reason)) => {
                    sequence.end = Some(End::Finished);
                    events.push(Event::Finished { id: sequence.id, reason, stats: sequence.stats(now) });
                }
                Err(error) => {
                    sequence.end = Some(End::Failed);
                    events.push(Event::Failed { id: sequence.id, error });
                }
            }
        }
        self.scheduler.settle();
        Ok(())
    }

    /// Sequences that hold blocks.
    pub fn running(&self) -> usize {
        self.scheduler.running.len()
    }

    /// Sequences that wait for room.
    pub fn waiting(&self) -> usize {
        self.scheduler.waiting.len()
    }

    /// Whether no sequence is left.
    pub fn is_idle(&self) -> bool {
        self.running() + self.waiting() == 0
    }

    /// Most tokens, prompt and output together, that a sequence may have.
    pub fn room(&self) -> usize {
        self.model.context_length().min(self.kv_positions())
    }

    /// Who uses the KV cache.
    pub fn kv_usage(&self) -> KvUsage {
        let blocks = &self.scheduler.blocks;
        let (available, idle) = (blocks.available(), blocks.idle());
        KvUsage { held: blocks.capacity() - available, idle, free: available - idle }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Gives the model back.
    pub fn into_model(self) -> M {
        self.model
    }

    /// Reads how scarce memory is, if that is due.
    fn look(&mut self, now: Instant) {
        let Some(watch) = &mut self.watch else { return };
        watch.look(now);
        self.scheduler.one_at_a_time = watch.is_critical();
    }

    /// Gives back the memory of blocks that hold nothing, and of prefixes that the level does not allow to keep.
    fn shrink(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        if let Some(keep) = watch.keep(self.scheduler.blocks.idle()) {
            self.cool(keep);
        }
    }

    /// Gives back the memory of the blocks that nobody uses, but for `keep` of the prefixes. Prefixes stay where that gains nothing.
    fn cool(&mut self, keep: usize) {
        let blocks = &mut self.scheduler.blocks;
        let surplus = blocks.surplus(keep);
        let bytes = if surplus.is_empty() { 0 } else { self.model.discard(&surplus) };
        if let Some(watch) = &mut self.watch
            && bytes > 0
        {
            watch.count_dropped(blocks.cool(keep), bytes);
        }
    }

    /// Refuses a sequence of up to `tokens` tokens where memory is critical and giving back did not help.
    fn expect_memory(&mut self, tokens: usize) -> Result<()> {
        self.look(Instant::now());
        if !self.scheduler.one_at_a_time || self.shortage(tokens).is_none() {
            return Ok(());
        }
        self.give_back();
        match (self.shortage(tokens), &mut self.watch) {
            (Some(refusal), Some(watch)) => {
                watch.count_refused();
                Err(refusal)
            }
            _ => Ok(()),
        }
    }

    fn shortage(&self, tokens: usize) -> Option<Error> {
        let cold = tokens.div_ceil(BLOCK_LEN).saturating_sub(self.scheduler.blocks.warm());
        let needed = cold.saturating_mul(self.model.block_bytes());
        self.watch.as_ref()?.shortage(tokens, needed, self.is_idle())
    }

    /// Gives back all memory that no sequence holds.
    fn give_back(&mut self) {
        if self.watch.as_ref().is_some_and(Watch::blocks_help) {
            self.cool(0);
        }
        if let Some(watch) = &mut self.watch {
            watch.trim();
        }
    }

    fn kv_positions(&self) -> usize {
        self.scheduler.blocks.capacity() * BLOCK_LEN
    }

    fn forward(&mut self) -> Result<()> {
        self.logits.clear();
        self.model.forward(&self.batch, &mut self.logits).map_err(Error::Model)?;
        let (rows, vocab_size, got) = (self.batch.logits_rows(), self.vocab_size, self.logits.len());
        let expected = rows * vocab_size;
        if got == expected { Ok(()) } else { Err(Error::LogitsLength { rows, vocab_size, expected, got }) }
    }
}

/// What a step made of one span.
#[derive(Clone, Copy)]
struct Computed<'a> {
    span: &'a Span,
    tokens: &'a [u32],
    logits: &'a [f32],
    vocab_size: usize,
}

impl<'a> Computed<'a> {
    fn row(self, row: usize) -> &'a [f32] {
        &self.logits[row * self.vocab_size..][..self.vocab_size]
    }
}

/// Moves a sequence past what was computed: scores prompt tokens, and picks the next token when all present ones are
/// computed, and more for as long as drafted tokens are those picked.
fn advance(
    sequence: &mut Sequence,
    done: Computed<'_>,
    sampler: &mut Sampler,
    now: Instant,
    events: &mut Vec<Event>,
) -> Result<Option<FinishReason>> {
    let (present, drafts) = done.tokens.split_at(done.span.len.min(sequence.pending()));
    sequence.computed += present.len();
    score_prompt(sequence, done, sampler, events)?;
    if sequence.pending() > 0 {
        return Ok(None);
    }
    sequence.drafted += drafts.len();
    let first = done.span.logits_rows().saturating_sub(drafts.len() + 1);
    for right in 0..=drafts.len() {
        if !sequence.wants_token() {
            break;
        }
        let reason = match pick(sequence, done.row(first + right), sampler, now, events) {
            // The next step meets the same error: the caller may end the sequence before.
            Err(_) if right > 0 => break,
            reason => reason?,
        };
        if right > 0 {
            sequence.computed += 1;
            sequence.accepted += 1;
        }
        if reason.is_some() {
            return Ok(reason);
        }
        if drafts.get(right) != sequence.tokens.last() {
            break;
        }
    }
    Ok((!sequence.wants_token()).then_some(FinishReason::Length))
}

fn score_prompt(
    sequence: &mut Sequence,
    done: Computed<'_>,
    sampler: &mut Sampler,
    events: &mut Vec<Event>,
) -> Result<()> {
    let Some(n) = sequence.prompt_logprobs else { return Ok(()) };
    while sequence.scored < sequence.prompt_len.min(sequence.computed + 1) {
        let position = sequence.scored;
        let row = done.row(position - 1 - done.span.start);
        let (score, top) = sampler.score(row, sequence.tokens[position], n)?;
        events.push(Event::Prompt { id: sequence.id, position, score, top });
        sequence.scored += 1;
    }
    Ok(())
}

fn pick(
    sequence: &mut Sequence,
    row: &[f32],
    sampler: &mut Sampler,
    now: Instant,
    events: &mut Vec<Event>,
) -> Result<Option<FinishReason>> {
    let token = sampler.pick(row, &sequence.tokens, &sequence.params, &mut sequence.rng)?;
    sequence.tick(now);
    if sequence.stop.ends_with(token) {
        return Ok(Some(FinishReason::StopToken(token)));
    }
    let (logprob, top) = match sequence.logprobs {
        Some(n) => {
            let (score, top) = sampler.score(row, token, n)?;
            (Some(score.logprob), top)
        }
        None => (None, Vec::new()),
    };
    sequence.push(token);
    events.push(Event::Token { id: sequence.id, token, logprob, top });
    Ok(None)
}
