//! Small runs.

#![allow(dead_code, clippy::allow_attributes, reason = "each test uses its own part")]

use bitnet_core::Device;
use bitnet_training::{
    Error, RunConfig, Trainer, checkpoint,
    progress::{Event, Step},
    trainer::End,
};
use std::{fs, ops::ControlFlow, path::Path};

/// A text with something to learn: words of a few letters in a fixed order.
pub fn text(seed: u64, words: usize) -> String {
    let vocabulary = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog", "run"];
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        vocabulary[(state >> 33) as usize % vocabulary.len()]
    };
    (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
}

pub const CONFIG: &str = r#"
    [model]
    hidden_size = 32
    intermediate_size = 64
    num_hidden_layers = 2
    num_attention_heads = 4
    num_key_value_heads = 2
    [data]
    train = "train.txt"
    tokenizer = "chars"
    context = 16
    [schedule]
    kind = "cosine"
    lr = 5e-3
    warmup = 5
    [training]
    steps = 40
    batch = 4
    accumulation = 2
    seed = 3
    eval_every = 20
    checkpoint_every = 10
    log_every = 5
    keep = 2
    out = "run"
"#;

/// A configuration with a text beside it, in a folder of its own.
pub fn config(dir: &Path, changes: &[(&str, &str)]) -> RunConfig {
    fs::write(dir.join("train.txt"), text(1, 2000)).unwrap();
    fs::write(dir.join("run.toml"), CONFIG).unwrap();
    let out = format!("{:?}", dir.join("run"));
    let mut all = vec![("training.out".to_owned(), out)];
    all.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    RunConfig::read(&dir.join("run.toml"), &all).unwrap()
}

/// The one device of a test.
pub fn device() -> Device {
    thread_local! {
        static DEVICE: Device = Device::open("cpu", Some(1)).unwrap();
    }
    DEVICE.with(Device::clone)
}

/// Runs to the end, or until `stop` steps were made; the events.
pub fn run(trainer: &mut Trainer, stop: u64) -> (End, Vec<Event>) {
    let mut events = Vec::new();
    let end = trainer
        .run(&mut |_, event| {
            events.push(event.clone());
            let over = matches!(event, Event::Step(step) if step.step >= stop);
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    (end, events)
}

/// The updates among what happened.
pub fn steps(events: &[Event]) -> Vec<&Step> {
    events.iter().filter_map(|event| if let Event::Step(step) = event { Some(step) } else { None }).collect()
}

/// Losses and norms by step, without the time they took.
pub fn losses(events: &[Event]) -> Vec<(u64, u64, u64)> {
    let of = |step: &Step| (step.step, step.loss.to_bits(), step.gradient_norm.to_bits());
    steps(events).into_iter().map(of).collect()
}

pub fn model_bytes(dir: &Path) -> Vec<u8> {
    let last = checkpoint::last(&dir.join("run")).unwrap();
    ["model.safetensors", "optimizer.safetensors"].map(|name| fs::read(last.join(name)).unwrap()).concat()
}

pub fn refusal(result: Result<Trainer, Error>) -> String {
    match result {
        Ok(_) => panic!("refused"),
        Err(error) => error.to_string(),
    }
}
