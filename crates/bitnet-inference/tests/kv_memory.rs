//! Blocks of the KV cache that nobody uses give their memory back, and what is written there again is the same. Alone in its binary, because
//! the whole process is measured.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::memory::pressure::{Monitor, Pressure, Thresholds};
use bitnet_core::memory::usage::{Linux, Scope, Usage};
use bitnet_core::{Device, ops::cache::CacheType};
use bitnet_inference::{
    Engine, EngineOptions, Event, LanguageModel, Request, SamplingParams, Watch, local::LocalModel,
};
use bitnet_model::batch::{BLOCK_LEN, Batch, Logits};
use bitnet_model::{Checkpoint, checkpoint::Options};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn model(storage: CacheType, context: usize) -> LocalModel {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/bitnet-packed"));
    let device = Device::open("cpu", Some(1)).unwrap();
    let decoder = Checkpoint::open(path, Options::default()).unwrap().decoder(&device, &|_| {}).unwrap();
    LocalModel::new(decoder, context, storage).unwrap()
}

/// Tokens of a prompt; every prompt has its own.
fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * 131 + seed * 977 + i * i * 7) % 504).collect()
}

/// Writes a prompt into blocks from `first` on, and returns its last logits.
fn prefill(model: &mut LocalModel, tokens: &[u32], first: u32) -> Vec<f32> {
    let (mut batch, mut logits) = (Batch::default(), Vec::new());
    let blocks = (first..first + tokens.len().div_ceil(BLOCK_LEN) as u32).collect();
    batch.push(tokens, 0, blocks, Logits::Last);
    model.forward(&batch, &mut logits).unwrap();
    logits
}

#[test]
fn the_memory_of_discarded_blocks_leaves_the_process_and_the_other_blocks_stay() {
    let _alone = alone();
    for storage in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        let mut model = model(storage, 4096);
        let (kept, gone) = (prompt(1, 2 * BLOCK_LEN), prompt(2, 60 * BLOCK_LEN));
        prefill(&mut model, &kept, 0);
        let before = prefill(&mut model, &gone, 2);
        let blocks: Vec<u32> = (2..62).collect();
        let full = Linux::default().resident().unwrap();
        let bytes = model.discard(&blocks);
        let left = full.saturating_sub(Linux::default().resident().unwrap());
        println!("{storage:?}: {bytes} bytes counted, {left} left the process");
        assert!(bytes > 50 * model.block_bytes() && bytes <= 60 * model.block_bytes());
        assert!(left >= bytes - bytes / 8, "{storage:?}: {left} of {bytes}");
        // A prompt that goes on behind the kept blocks, and the discarded one once more.
        let mut again = Batch::default();
        again.push(&prompt(3, 5), 2 * BLOCK_LEN, vec![0, 1, 2], Logits::Last);
        let (mut reused, mut fresh) = (Vec::new(), Vec::new());
        model.forward(&again, &mut reused).unwrap();
        let whole = [kept, prompt(3, 5)].concat();
        fresh.extend(prefill(&mut model, &whole, 70));
        assert_eq!(reused, fresh, "{storage:?}: blocks that stay hold what they held");
        assert_eq!(
            prefill(&mut model, &gone, 2),
            before,
            "{storage:?}: blocks are written again before they are read"
        );
    }
}

/// The greedy tokens of a request.
fn generate(engine: &mut Engine<LocalModel>, tokens: Vec<u32>) -> Vec<u32> {
    let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    engine.submit(Request { tokens, params, max_tokens: Some(20), ..Request::default() }).unwrap();
    let mut tokens = Vec::new();
    while !engine.is_idle() {
        tokens.extend(engine.step().unwrap().iter().filter_map(|event| match event {
            Event::Token { token, .. } => Some(*token),
            _ => None,
        }));
    }
    tokens
}

#[test]
fn an_engine_under_pressure_gives_memory_back_and_yields_the_same() {
    let _alone = alone();
    let engine = || Engine::new(model(CacheType::F16, 4096), EngineOptions::default()).unwrap();
    let prompts = || (0..4).map(|seed| prompt(seed, 150 + 40 * seed as usize)).chain([prompt(1, 190)]);
    let mut calm = engine();
    let expected: Vec<_> = prompts().map(|tokens| generate(&mut calm, tokens)).collect();

    let (mut engine, used) = (engine(), Arc::new(AtomicUsize::new(0)));
    let pool = engine.model().device().pool().clone();
    let read = Arc::clone(&used);
    let source =
        move || vec![Usage { scope: Scope::System, used: read.load(SeqCst) * 1_000_000, limit: 100_000_000 }];
    let monitor = Monitor::with_source(&pool, Thresholds::default(), source);
    engine.watch(Watch::with_monitor(&pool, monitor, Duration::ZERO));
    let levels = [0, 80, 90, 99, 0];
    let tokens: Vec<_> = prompts()
        .zip(levels)
        .map(|(tokens, level)| {
            used.store(level, SeqCst);
            generate(&mut engine, tokens)
        })
        .collect();
    assert_eq!(tokens, expected);
    let relief = engine.relief().unwrap();
    assert_eq!(relief.highest, Pressure::Critical);
    assert!(relief.dropped_blocks > 0 && relief.discarded > 0, "{relief:?}");
}
