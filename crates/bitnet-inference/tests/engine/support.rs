//! A language model whose logits are a hash of the tokens it reads back through the block table.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;

use bitnet_inference::{
    Engine, EngineOptions, Event, FinishReason, LanguageModel, Request, Rng, Sampler, SamplingParams,
    SequenceId, Stats, TokenLogprob,
};
use bitnet_model::batch::{BLOCK_LEN, Batch, Logits, Span};

pub const VOCAB: usize = 50;
/// What a block of the cache would take.
pub const BLOCK_BYTES: usize = 1000;
/// Logits after this token are NaN.
pub const POISON: u32 = 49;

/// What a slot of the cache holds: the position it was written for, and the token.
type Slot = Option<(usize, u32)>;

#[derive(Debug)]
pub struct Mock {
    slots: Vec<Slot>,
    context: usize,
    /// Added to the logit of the token that [habit] names: the text then repeats itself.
    pub habit: f32,
    /// The length of every span, step by step.
    pub steps: Vec<Vec<usize>>,
    /// Addresses of everything that the engine lends to a step, step by step.
    pub addresses: Vec<HashSet<usize>>,
    /// Steps that fail, after they have written their slots.
    pub failures: HashSet<usize>,
    pub calls: usize,
    /// How often the memory of the cache was given back.
    pub forgotten: usize,
    /// Whether it has memory to give back.
    pub gives_back: bool,
}

impl Mock {
    pub fn new(kv_blocks: usize, context: usize) -> Self {
        Self {
            slots: vec![None; kv_blocks * BLOCK_LEN],
            context,
            habit: 0.0,
            steps: Vec::new(),
            addresses: Vec::new(),
            failures: HashSet::new(),
            calls: 0,
            forgotten: 0,
            gives_back: true,
        }
    }

    fn slot(span: &Span, position: usize) -> usize {
        span.blocks[position / BLOCK_LEN] as usize * BLOCK_LEN + position % BLOCK_LEN
    }

    fn write(&mut self, span: &Span, tokens: &[u32], written: &mut HashSet<usize>) {
        for (i, &token) in tokens.iter().enumerate() {
            let slot = Self::slot(span, span.start + i);
            assert!(written.insert(slot), "two tokens of one batch write slot {slot}");
            self.slots[slot] = Some((span.start + i, token));
        }
    }

    fn row(&self, span: &Span, position: usize) -> Vec<f32> {
        let mut row = row((0..=position).map(|p| self.slots[Self::slot(span, p)]));
        if let Some((_, last)) = self.slots[Self::slot(span, position)] {
            row[habit(last)] += self.habit;
        }
        row
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
    x = (x ^ (x >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d);
    x ^ (x >> 33)
}

fn row(slots: impl Iterator<Item = Slot>) -> Vec<f32> {
    let (mut hash, mut last) = (1, None);
    for slot in slots {
        let (position, token) = slot.unwrap_or((usize::MAX, u32::MAX));
        hash = mix(hash ^ mix((position as u64) << 32 | u64::from(token)));
        last = Some(token);
    }
    if last == Some(POISON) {
        return vec![f32::NAN; VOCAB];
    }
    (0..VOCAB as u64)
        .map(|v| (mix(hash.wrapping_add(mix(v))) >> 40) as f32 / (1 << 21) as f32 - 4.0)
        .collect()
}

/// What a model with a habit likes to say after a token.
fn habit(token: u32) -> usize {
    (token as usize * 5 + 3) % 16
}

/// The logits after `tokens`, without any cache.
pub fn logits_after(tokens: &[u32]) -> Vec<f32> {
    row(tokens.iter().enumerate().map(|(position, &token)| Some((position, token))))
}

impl LanguageModel for Mock {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_length(&self) -> usize {
        self.context
    }

    fn kv_blocks(&self) -> usize {
        self.slots.len() / BLOCK_LEN
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn discard(&mut self, blocks: &[u32]) -> usize {
        assert!(blocks.is_sorted_by(|a, b| a < b), "{blocks:?}");
        if !self.gives_back {
            return 0;
        }
        for &block in blocks {
            self.slots[block as usize * BLOCK_LEN..][..BLOCK_LEN].fill(None);
        }
        self.forgotten += 1;
        blocks.len() * BLOCK_BYTES
    }

    fn forward(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<(), Box<dyn Error + Send + Sync>> {
        assert_eq!(batch.tokens.len(), batch.spans.iter().map(|span| span.len).sum::<usize>());
        assert!(batch.spans.iter().all(|span| span.len > 0 && span.start + span.len <= self.context));
        let (mut rest, mut written) = (batch.tokens.as_slice(), HashSet::new());
        for span in &batch.spans {
            let (tokens, after) = rest.split_at(span.len);
            self.write(span, tokens, &mut written);
            rest = after;
        }
        self.calls += 1;
        if self.failures.contains(&(self.calls - 1)) {
            return Err("the device is lost".into());
        }
        for span in &batch.spans {
            let rows = match span.logits {
                Logits::None => 0..0,
                Logits::Last => span.start + span.len - 1..span.start + span.len,
                Logits::All => span.start..span.start + span.len,
            };
            rows.for_each(|position| logits.extend(self.row(span, position)));
        }
        self.steps.push(batch.spans.iter().map(|span| span.len).collect());
        let tables = batch.spans.iter().map(|span| span.blocks.as_ptr() as usize);
        let lent = [batch.tokens.as_ptr() as usize, batch.spans.as_ptr() as usize, logits.as_ptr() as usize];
        self.addresses.push(tables.chain(lent).collect());
        Ok(())
    }
}

/// What became of one sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    pub tokens: Vec<u32>,
    pub logprobs: Vec<f64>,
    pub top: Vec<Vec<TokenLogprob>>,
    pub prompt: Vec<(usize, TokenLogprob)>,
    pub reason: Option<FinishReason>,
    pub stats: Stats,
    pub error: Option<String>,
}

pub type Outputs = BTreeMap<SequenceId, Output>;

pub fn collect(events: Vec<Event>, outputs: &mut Outputs) {
    for event in events {
        let output = outputs.entry(event.id()).or_default();
        assert!(output.reason.is_none() && output.error.is_none(), "an event after the last: {event:?}");
        match event {
            Event::Prompt { position, score, .. } => output.prompt.push((position, score)),
            Event::Token { token, logprob, top, .. } => {
                output.tokens.push(token);
                output.logprobs.extend(logprob);
                output.top.push(top);
            }
            Event::Finished { reason, stats, .. } => (output.reason, output.stats) = (Some(reason), stats),
            Event::Failed { error, .. } => output.error = Some(error.to_string()),
            other => panic!("unknown event {other:?}"),
        }
    }
}

/// Steps until no sequence is left, which must not take more than `STEPS`.
pub fn finish(engine: &mut Engine<Mock>) -> Outputs {
    const STEPS: usize = 20_000;
    let mut outputs = Outputs::new();
    for _ in 0..STEPS {
        if engine.is_idle() {
            assert_eq!(engine.kv_usage().held, 0, "an idle engine holds blocks");
            return outputs;
        }
        collect(engine.step().unwrap(), &mut outputs);
    }
    panic!("sequences are left after {STEPS} steps");
}

pub fn engine(kv_blocks: usize, options: EngineOptions) -> Engine<Mock> {
    Engine::new(Mock::new(kv_blocks, 4096), options).unwrap()
}

pub fn submit_all(engine: &mut Engine<Mock>, requests: &[Request]) -> Vec<SequenceId> {
    requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect()
}

/// The output of one request in an engine of its own.
pub fn run(kv_blocks: usize, options: EngineOptions, request: Request) -> Output {
    let mut engine = engine(kv_blocks, options);
    let id = engine.submit(request).unwrap();
    finish(&mut engine).remove(&id).unwrap()
}

/// A prompt of `n` tokens below `POISON`.
pub fn prompt(seed: u64, n: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| (rng.next_u64() % u64::from(POISON)) as u32).collect()
}

/// Random but never poisoned.
pub fn params(seed: u64) -> SamplingParams {
    SamplingParams {
        seed,
        repeat_penalty: 1.1,
        logit_bias: [(POISON, f32::NEG_INFINITY)].into(),
        ..Default::default()
    }
}

pub fn request(tokens: Vec<u32>, max_tokens: usize) -> Request {
    let seed = tokens.iter().map(|&token| u64::from(token)).sum();
    Request { tokens, params: params(seed), max_tokens: Some(max_tokens), ..Request::default() }
}

/// What `request` must yield, computed without engine or cache.
pub fn expected(request: &Request) -> Vec<u32> {
    let (mut rng, mut sampler) = (Rng::new(request.params.seed), Sampler::default());
    let mut tokens = request.tokens.clone();
    for _ in 0..request.max_tokens.unwrap() {
        let token = sampler.pick(&logits_after(&tokens), &tokens, &request.params, &mut rng).unwrap();
        tokens.push(token);
    }
    tokens.split_off(request.tokens.len())
}

/// A request that comes before a step, and may be cancelled before another.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub step: usize,
    pub request: Request,
    pub cancelled_at: Option<usize>,
}

/// What becomes of all that arrive, in their order. Makes at least `steps` steps.
pub fn outputs_of(
    engine: &mut Engine<Mock>,
    arrivals: &[Arrival],
    steps: usize,
    mut step_of: impl FnMut(&mut Engine<Mock>) -> Vec<Event>,
) -> Vec<Output> {
    let (mut ids, mut outputs) = (vec![None; arrivals.len()], Outputs::new());
    for step in 0.. {
        for (arrival, id) in arrivals.iter().zip(&mut ids) {
            if arrival.step == step {
                *id = Some(engine.submit(arrival.request.clone()).unwrap());
            } else if arrival.cancelled_at == Some(step) {
                collect(id.and_then(|id| engine.cancel(id)).into_iter().collect(), &mut outputs);
            }
        }
        if step > steps && engine.is_idle() {
            break;
        }
        assert!(step < 5000, "the engine hangs");
        collect(step_of(engine), &mut outputs);
    }
    assert_eq!(engine.kv_usage().held, 0);
    ids.into_iter().map(|id| outputs.remove(&id.unwrap()).unwrap()).collect()
}
