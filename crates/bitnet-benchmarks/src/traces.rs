//! What real work asks of a pool, recorded so that it can be replayed: a decode and a training step.

use bitnet_core::memory::{HybridMemoryPool, Tracking};
use bitnet_core::ops::cache::CacheType;
use bitnet_core::random::Rng;
use bitnet_core::{DType, Device, Result, Tensor};
use bitnet_inference::local::{self, LocalModel};
use bitnet_inference::{Engine, EngineOptions, Request};
use bitnet_model::checkpoint::{Checkpoint, Options};
use std::collections::HashMap;
use std::time::Duration;

/// One request to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A block of so many bytes, which is called `block` from here on.
    Alloc {
        /// Number of the block, counted from 0.
        block: usize,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The end of a block.
    Free {
        /// Number of the block.
        block: usize,
    },
}

/// What one thread, the only user of a pool, asked of it, in order.
#[derive(Clone, Debug)]
pub struct Recording {
    /// From an empty pool on.
    pub steps: Vec<Step>,
    /// The step at which loading and warming up are over.
    pub steady: usize,
    /// Blocks that are allocated in all.
    pub blocks: usize,
}

impl Recording {
    /// All that a pool remembers from before `steady` to now. The pool must have been tracked from its first block on.
    fn of(pool: &HybridMemoryPool, steady: Duration) -> Self {
        let snapshot = pool.snapshot();
        assert_eq!(snapshot.forgotten, 0, "the history holds the whole recording");
        let records = || snapshot.finished.iter().map(|lifetime| &lifetime.record).chain(&snapshot.live);
        let mut order: Vec<_> =
            records().map(|record| (record.born, record.id, Some(record.bytes))).collect();
        order.extend(snapshot.finished.iter().map(|lifetime| (lifetime.died, lifetime.record.id, None)));
        // Where the clock did not move in between, a block is still freed after it was made.
        order.sort_by_key(|&(at, id, bytes)| (at, bytes.is_none(), id));
        let steady = order.partition_point(|&(at, ..)| at <= steady);
        let mut numbers = HashMap::new();
        let steps = order.into_iter().map(|(_, id, bytes)| {
            let next = numbers.len();
            let block = *numbers.entry(id).or_insert(next);
            bytes.map_or(Step::Free { block }, |bytes| Step::Alloc { block, bytes })
        });
        let steps = steps.collect();
        Self { steps, steady, blocks: numbers.len() }
    }

    /// Blocks that are made after loading and warming up.
    pub fn steady_allocations(&self) -> usize {
        self.steps[self.steady..].iter().filter(|step| matches!(step, Step::Alloc { .. })).count()
    }

    /// Replays the steps from `from` on. `allocate` makes a block, dropping it is its end; those that
    /// outlive the recording end with it.
    pub fn replay<B>(&self, from: usize, mut allocate: impl FnMut(usize) -> B) {
        let mut live: Vec<Option<B>> = (0..self.blocks).map(|_| None).collect();
        for &step in &self.steps[from..] {
            match step {
                Step::Alloc { block, bytes } => live[block] = Some(allocate(bytes)),
                Step::Free { block } => live[block] = None,
            }
        }
    }
}

/// A device on one thread whose pool remembers everything.
fn recorded() -> Device {
    let device = Device::open("cpu", Some(1)).expect("every machine has a processor");
    device.pool().set_tracking(Tracking::Records);
    device.pool().set_history(1 << 22);
    device
}

/// The model that is part of the program, an empty cache of `context` positions before it.
pub fn books(device: &Device, context: usize) -> Engine<LocalModel> {
    let path = crate::file("crates/bitnet-cli/assets/books-22m.gguf");
    let checkpoint = Checkpoint::open(path, Options::default()).expect("part of the repository");
    let decoder = local::decoder(&checkpoint, device, &|_, _| {}).expect("memory");
    let model = LocalModel::new(decoder, context, CacheType::default()).expect("memory");
    Engine::new(model, EngineOptions::default()).expect("the options are valid")
}

/// Decodes `tokens` tokens after a prompt of 32.
pub fn decode(engine: &mut Engine<LocalModel>, tokens: usize) {
    let prompt = (0..32).map(|i| i * 31 % 512).collect();
    let request = Request { tokens: prompt, max_tokens: Some(tokens), ..Request::default() };
    engine.submit(request).expect("it fits");
    while !engine.is_idle() {
        engine.step().expect("the model runs");
    }
}

/// Loading the model that is part of the program, a prompt and a first token, then `tokens` decoded tokens.
pub fn record_decode(tokens: usize) -> Recording {
    let device = recorded();
    let mut engine = books(&device, 512);
    decode(&mut engine, 2);
    let steady = device.pool().snapshot().at;
    decode(&mut engine, tokens);
    Recording::of(device.pool(), steady)
}

/// Making a small language model and its first training step, then `steps` more.
pub fn record_training(steps: usize) -> Recording {
    let device = recorded();
    let mut training = Training::new(&device).expect("memory");
    training.step().expect("memory");
    let steady = device.pool().snapshot().at;
    (0..steps).for_each(|_| _ = training.step().expect("memory"));
    Recording::of(device.pool(), steady)
}

const VOCABULARY: usize = 1024;
const WIDTH: usize = 256;
const INNER: usize = 1024;
const TOKENS: usize = 256;
const LAYERS: usize = 4;
/// Query, key, value, output, up, down.
const MATRICES: [[usize; 2]; 6] =
    [[WIDTH, WIDTH], [WIDTH, WIDTH], [WIDTH, WIDTH], [WIDTH, WIDTH], [WIDTH, INNER], [INNER, WIDTH]];

/// A decoder of two layers in float32 that learns one text by gradient descent.
#[derive(Debug)]
pub struct Training {
    embedding: Tensor,
    layers: Vec<[Tensor; 6]>,
    /// Minus infinity where a token would see a later one.
    mask: Tensor,
    tokens: Tensor,
    targets: Tensor,
}

impl Training {
    /// With random parameters and a text of its own.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn new(device: &Device) -> Result<Self> {
        let mut rng = Rng::new(1);
        let mut normal = |shape: [usize; 2]| {
            let deviation = 1.0 / (shape[0] as f32).sqrt();
            Tensor::normal(device, shape, (0.0, deviation), &mut rng)?.trainable()
        };
        let embedding = normal([VOCABULARY, WIDTH])?;
        let mut layers = Vec::new();
        for _ in 0..LAYERS {
            let matrices: Result<Vec<_>> = MATRICES.into_iter().map(&mut normal).collect();
            layers.push(matrices?.try_into().expect("as many as there are shapes"));
        }
        let text: Vec<i64> = (0..=TOKENS as i64).map(|i| i * i * 31 % VOCABULARY as i64).collect();
        let later = Tensor::full(device, [TOKENS, TOKENS], f64::NEG_INFINITY, DType::F32)?;
        Ok(Self {
            embedding,
            layers,
            mask: later.triu(1)?,
            tokens: Tensor::from_slice(device, [TOKENS], &text[..TOKENS])?,
            targets: Tensor::from_slice(device, [TOKENS, 1], &text[1..])?,
        })
    }

    /// Forward, backward and update; returns the loss in nats a token.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn step(&mut self) -> Result<f32> {
        let loss = self.loss()?;
        let gradients = loss.backward()?;
        for parameter in self.layers.iter_mut().flatten().chain([&mut self.embedding]) {
            let change = gradients.of(parameter)?.mul_scalar(0.1)?;
            *parameter = parameter.detach().sub(&change)?.trainable()?;
        }
        loss.item()
    }

    fn loss(&self) -> Result<Tensor> {
        let mut x = self.embedding.index_select(0, &self.tokens)?;
        for layer in &self.layers {
            x = self.layer(&x, layer)?;
        }
        let logits = normed(&x)?.matmul(&self.embedding.t()?)?;
        logits.log_softmax(1)?.gather(1, &self.targets)?.mean([0, 1], false)?.neg()
    }

    fn layer(&self, x: &Tensor, [query, key, value, output, up, down]: &[Tensor; 6]) -> Result<Tensor> {
        let h = normed(x)?;
        let scores =
            h.matmul(query)?.matmul(&h.matmul(key)?.t()?)?.mul_scalar(1.0 / (WIDTH as f64).sqrt())?;
        let seen = scores.add(&self.mask)?.softmax(1)?.matmul(&h.matmul(value)?)?;
        let x = x.add(&seen.matmul(output)?)?;
        x.add(&normed(&x)?.matmul(up)?.relu2()?.matmul(down)?)
    }
}

fn normed(x: &Tensor) -> Result<Tensor> {
    x.div(&x.mul(x)?.mean(1, true)?.add_scalar(1e-5)?.sqrt()?)
}
