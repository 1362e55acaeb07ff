//! What real work asks of a pool, recorded so that it can be replayed: a decode and a training step.

use bitnet_core::memory::{HybridMemoryPool, Trace, Tracking};
use bitnet_core::{Device, ops::cache::CacheType};
use bitnet_inference::local::{self, LocalModel};
use bitnet_inference::{Engine, EngineOptions, Request};
use bitnet_model::Decoder;
use bitnet_model::checkpoint::{Checkpoint, Options};
use bitnet_training::{RunConfig, Trainer, progress::Event};
use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use std::{fmt, fs};
use tempfile::TempDir;

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

/// What threads, the only users of a pool, asked of it, in order.
#[derive(Clone, Debug)]
pub struct Recording {
    /// From an empty pool on.
    pub steps: Vec<Step>,
    /// Who made each step: the place of the thread among all that used the pool.
    pub threads: Vec<usize>,
    /// The step at which loading and warming up are over.
    pub steady: usize,
    /// Blocks that are allocated in all.
    pub blocks: usize,
    /// The same as the analysis of patterns reads it.
    pub trace: Trace,
}

impl Recording {
    /// All that a pool remembers from before `steady` to now. The pool must have been tracked from its first block on.
    fn of(pool: &HybridMemoryPool, steady: Duration) -> Self {
        let snapshot = pool.snapshot();
        assert_eq!(snapshot.forgotten, 0, "the history holds the whole recording");
        let records = || snapshot.finished.iter().map(|lifetime| &lifetime.record).chain(&snapshot.live);
        let mut order: Vec<_> =
            records().map(|record| (record.born, record.id, Some(record.bytes), record.thread)).collect();
        order.extend(snapshot.finished.iter().map(|l| (l.died, l.record.id, None, l.freed_by)));
        // Where the clock did not move in between, a block is still freed after it was made.
        order.sort_by_key(|&(at, id, bytes, _)| (at, bytes.is_none(), id));
        let steady = order.partition_point(|&(at, ..)| at <= steady);
        let threads = order.iter().map(|&(.., thread)| thread as usize).collect();
        let mut numbers = HashMap::new();
        let steps = order.into_iter().map(|(_, id, bytes, _)| {
            let next = numbers.len();
            let block = *numbers.entry(id).or_insert(next);
            bytes.map_or(Step::Free { block }, |bytes| Step::Alloc { block, bytes })
        });
        let steps = steps.collect();
        Self { steps, threads, steady, blocks: numbers.len(), trace: snapshot.trace(0) }
    }

    /// The thread that recorded and gave the others their work.
    pub fn leader(&self) -> Option<usize> {
        self.threads.first().copied()
    }
}

/// A device that computes on the thread that asks, whose pool remembers everything.
fn recorded() -> Device {
    let device = Device::open("cpu", Some(1)).expect("every machine has a processor");
    device.pool().set_tracking(Tracking::Records);
    device.pool().set_history(1 << 22);
    // The first block tells which thread records.
    drop(device.pool().alloc(1));
    device
}

/// The model that is part of the program.
fn weights(device: &Device) -> Decoder {
    let path = crate::file("crates/bitnet-cli/assets/books-22m.gguf");
    let checkpoint = Checkpoint::open(path, Options::default()).expect("part of the repository");
    local::decoder(&checkpoint, device, &|_, _| {}).expect("memory")
}

fn engine(decoder: Decoder, context: usize) -> Engine<LocalModel> {
    let model = LocalModel::new(decoder, context, CacheType::default()).expect("memory");
    Engine::new(model, EngineOptions::default()).expect("the options are valid")
}

/// The model that is part of the program, an empty cache of `context` positions before it.
pub fn books(device: &Device, context: usize) -> Engine<LocalModel> {
    engine(weights(device), context)
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

/// Loading the model that is part of the program, then two threads with an engine each, which share its weights and the pool: a prompt and two
/// tokens, and then `tokens` decoded tokens.
pub fn record_decode(tokens: usize) -> Recording {
    let device = recorded();
    let decoder = weights(&device);
    let warm = Barrier::new(3);
    let (recording, _engines) = thread::scope(|scope| {
        let decoding = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut engine = engine(decoder.clone(), 512);
                decode(&mut engine, 2);
                // The second time nobody goes on before the moment is noted.
                (0..2).for_each(|_| _ = warm.wait());
                decode(&mut engine, tokens);
                engine
            })
        });
        warm.wait();
        let steady = device.pool().snapshot().at;
        warm.wait();
        let engines = decoding.map(|thread| thread.join().expect("decoding does not fail"));
        (Recording::of(device.pool(), steady), engines)
    });
    recording
}

/// The first training step of a small ternary model, then `steps` more, each of four passes by `workers` threads.
pub fn record_training(steps: usize, workers: usize) -> Recording {
    let device = recorded();
    let mut training = Training::new(&device, workers);
    training.step();
    let steady = device.pool().snapshot().at;
    (0..steps).for_each(|_| _ = training.step());
    Recording::of(device.pool(), steady)
}

const RUN: &str = r#"
[model]
hidden_size = 256
intermediate_size = 768
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 2
[data]
train = "text"
tokenizer = "chars"
context = 64
[schedule]
kind = "constant"
lr = 3e-3
[training]
steps = 1000
batch = 1
accumulation = 4
"#;

/// A ternary model that learns a text of its own.
pub struct Training {
    trainer: Trainer,
    /// Holds the text.
    _folder: TempDir,
}

impl fmt::Debug for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Training after {} steps", self.trainer.step_count())
    }
}

impl Training {
    /// With random weights. Passes are made by `workers` threads at a time.
    pub fn new(device: &Device, workers: usize) -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let path = |name: &str| folder.path().join(name);
        let words = ["ternary ", "weights ", "are ", "minus one, ", "zero ", "or ", "one. "];
        let text: String = (0..4000usize).map(|i| words[(i * i + i / 7) % words.len()]).collect();
        fs::write(path("text"), text).expect("the folder is ours");
        fs::write(path("run.toml"), RUN).expect("the folder is ours");
        let changes =
            [("training.workers", workers.to_string()), ("training.out", format!("{:?}", path("out")))];
        let config = RunConfig::read(&path("run.toml"), &changes.map(|(key, value)| (key.to_owned(), value)));
        let config = config.expect("the configuration is valid");
        let trainer = Trainer::new(config, device, None).expect("memory");
        Self { trainer, _folder: folder }
    }

    /// Forward, backward and update; returns the loss in nats a token.
    pub fn step(&mut self) -> f64 {
        match self.trainer.step().expect("memory") {
            Event::Step(step) => step.loss,
            other => unreachable!("the loss is finite: {other:?}"),
        }
    }
}
