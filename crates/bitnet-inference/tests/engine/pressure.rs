//! What an engine does when memory is scarce, with a machine whose memory the test fills.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::*;
use bitnet_core::memory::HybridMemoryPool;
use bitnet_core::memory::pressure::{Monitor, Pressure, Thresholds};
use bitnet_core::memory::usage::{Scope, Usage};
use bitnet_inference::{Engine, EngineOptions, Error, Relief, Watch};
use bitnet_model::batch::BLOCK_LEN;

const LIMIT: usize = 100_000;

/// An engine on a machine of `LIMIT` bytes, a pool that it trims, and how much of the machine is used.
struct Setup {
    engine: Engine<Mock>,
    pool: HybridMemoryPool,
    used: Arc<AtomicUsize>,
}

impl Setup {
    fn new() -> Self {
        Self::with_engine(engine(32, EngineOptions::default()))
    }

    fn with_engine(mut engine: Engine<Mock>) -> Self {
        let (pool, used) = (HybridMemoryPool::host(), Arc::new(AtomicUsize::new(0)));
        let read = Arc::clone(&used);
        let source = move || vec![Usage { scope: Scope::System, used: read.load(SeqCst), limit: LIMIT }];
        let monitor = Monitor::with_source(&pool, Thresholds::default(), source);
        engine.watch(Watch::with_monitor(&pool, monitor, Duration::ZERO));
        Self { engine, pool, used }
    }

    fn fill(&self, percent: usize) {
        self.used.store(LIMIT / 100 * percent, SeqCst);
    }

    fn relief(&self) -> Relief {
        self.engine.relief().unwrap()
    }

    /// Leaves the eight full blocks of a finished sequence in the prefix cache.
    fn leave_a_prefix(&mut self) {
        self.engine.submit(request(prompt(1, 8 * BLOCK_LEN), 1)).unwrap();
        finish(&mut self.engine);
        assert_eq!(self.engine.kv_usage().idle, 8);
    }
}

#[test]
fn medium_pressure_drops_half_of_the_unused_prefixes_once() {
    let mut setup = Setup::new();
    setup.leave_a_prefix();
    setup.fill(80);
    setup.engine.submit(request(prompt(2, 5), 5)).unwrap();
    finish(&mut setup.engine);
    assert_eq!((setup.relief().level, setup.relief().dropped_blocks), (Pressure::Medium, 4));
    assert_eq!(setup.engine.kv_usage().idle, 4);
    assert_eq!(setup.relief().discarded, 4 * BLOCK_BYTES);
}

#[test]
fn prefixes_stay_where_dropping_them_gives_nothing_back() {
    let mut mock = Mock::new(32, 4096);
    mock.gives_back = false;
    let mut setup = Setup::with_engine(Engine::new(mock, EngineOptions::default()).unwrap());
    setup.leave_a_prefix();
    for percent in [80, 90, 97] {
        setup.fill(percent);
        setup.engine.submit(request(prompt(2, 5), 5)).unwrap();
        finish(&mut setup.engine);
    }
    assert_eq!((setup.relief().highest, setup.relief().dropped_blocks), (Pressure::Critical, 0));
    assert_eq!((setup.relief().discarded, setup.engine.kv_usage().idle), (0, 8));
    setup.fill(0);
    let id = setup.engine.submit(request(prompt(1, 8 * BLOCK_LEN), 3)).unwrap();
    assert_eq!(finish(&mut setup.engine)[&id].stats.cached_tokens, 7 * BLOCK_LEN);
}

#[test]
fn a_refusal_beside_others_gives_back_what_they_do_not_hold() {
    let mut setup = Setup::new();
    setup.leave_a_prefix();
    setup.engine.submit(request(prompt(3, 5), 50)).unwrap();
    setup.engine.step().unwrap();
    setup.fill(97);
    let error = setup.engine.submit(request(prompt(2, 20 * BLOCK_LEN), 0)).unwrap_err();
    assert!(matches!(error, Error::MemoryPressure { needed, .. } if needed == 20 * BLOCK_BYTES), "{error}");
    assert_eq!((setup.relief().dropped_blocks, setup.engine.kv_usage().held), (8, 1));
}

#[test]
fn high_pressure_drops_all_unused_prefixes_and_trims_the_pool() {
    let mut setup = Setup::new();
    setup.leave_a_prefix();
    drop(setup.pool.alloc(1 << 20).unwrap());
    assert!(setup.pool.stats().cached > 0);
    setup.fill(90);
    setup.engine.submit(request(prompt(2, 5), 5)).unwrap();
    finish(&mut setup.engine);
    let relief = setup.relief();
    assert_eq!((relief.level, relief.dropped_blocks, setup.engine.kv_usage().idle), (Pressure::High, 8, 0));
    assert!(relief.trimmed >= 1 << 20);
    assert_eq!(setup.pool.stats().cached, 0);
}

#[test]
fn a_prompt_finds_its_prefix_even_when_pressure_is_high() {
    let mut setup = Setup::new();
    setup.leave_a_prefix();
    setup.fill(90);
    let id = setup.engine.submit(request(prompt(1, 8 * BLOCK_LEN), 3)).unwrap();
    assert_eq!(finish(&mut setup.engine)[&id].stats.cached_tokens, 7 * BLOCK_LEN);
}

#[test]
fn critical_pressure_refuses_a_sequence_beside_others_with_all_numbers() {
    let mut setup = Setup::new();
    setup.engine.submit(request(prompt(1, 5), 50)).unwrap();
    setup.engine.step().unwrap();
    setup.fill(97);
    let error = setup.engine.submit(request(prompt(2, 2 * BLOCK_LEN), BLOCK_LEN)).unwrap_err();
    let numbers = |e: &Error| match e {
        Error::MemoryPressure {
            tokens,
            needed,
            reserve,
            available,
            limit,
            missing,
            scope: Scope::System,
        } => [*tokens, *needed, *reserve, *available, *limit, *missing],
        other => panic!("{other}"),
    };
    let needed = 3 * BLOCK_BYTES;
    assert_eq!(numbers(&error), [3 * BLOCK_LEN, needed, 10_000, 3000, LIMIT, needed + 10_000 - 3000]);
    assert_eq!(
        error.to_string(),
        "memory is critical: a sequence of up to 96 tokens needs 2.9 KiB more of KV cache beside 9.8 KiB kept for those \
         that run, 2.9 KiB of the 97.7 KiB of the machine are available, 9.8 KiB are missing; try again when others are \
         done, allow fewer tokens or a smaller context, or store keys and values as q8_0"
    );
    assert_eq!(setup.relief().refused, 1);
}

#[test]
fn alone_a_sequence_may_take_what_is_left_but_not_more() {
    let mut setup = Setup::new();
    setup.fill(97);
    assert!(setup.engine.submit(request(prompt(1, 4 * BLOCK_LEN), 0)).is_err());
    let id = setup.engine.submit(request(prompt(1, 3 * BLOCK_LEN), 0)).unwrap();
    assert!(finish(&mut setup.engine).contains_key(&id));
}

#[test]
fn blocks_that_are_in_memory_already_are_not_needed_again() {
    let mut setup = Setup::new();
    setup.leave_a_prefix();
    setup.fill(97);
    assert!(setup.engine.submit(request(prompt(2, 11 * BLOCK_LEN), 0)).is_ok());
    assert_eq!(setup.engine.kv_usage().idle, 8);
}

#[test]
fn a_refusal_gives_the_memory_of_an_idle_engine_back_first() {
    let mut setup = Setup::new();
    setup.leave_a_prefix();
    setup.fill(97);
    let tokens = 12 * BLOCK_LEN;
    for _ in 0..2 {
        let error = setup.engine.submit(request(prompt(2, tokens), 0)).unwrap_err();
        assert!(matches!(error, Error::MemoryPressure { needed, .. } if needed == 12 * BLOCK_BYTES));
    }
    assert_eq!((setup.engine.model().forgotten, setup.engine.kv_usage().free), (1, 32));
    setup.fill(0);
    let id = setup.engine.submit(request(prompt(2, tokens), 4)).unwrap();
    assert_eq!(finish(&mut setup.engine)[&id].tokens, expected(&request(prompt(2, tokens), 4)));
}

#[test]
fn sequences_that_run_yield_the_same_whatever_the_pressure() {
    let requests: Vec<_> =
        (0..6).map(|i| request(prompt(i, 20 + 30 * i as usize), 40 + 10 * i as usize)).collect();
    let mut setup = Setup::new();
    let ids = submit_all(&mut setup.engine, &requests);
    let mut outputs = Outputs::new();
    for percent in [0, 97, 80, 99, 50, 90, 100].into_iter().cycle() {
        if setup.engine.is_idle() {
            break;
        }
        setup.fill(percent);
        collect(setup.engine.step().unwrap(), &mut outputs);
    }
    for (id, request) in ids.iter().zip(&requests) {
        assert_eq!(outputs[id].tokens, expected(request));
    }
    assert_eq!(setup.relief().highest, Pressure::Critical);
}

#[test]
fn accepted_sequences_run_one_at_a_time_while_memory_is_critical() {
    let mut setup = Setup::new();
    let requests = [request(prompt(1, 40), 5), request(prompt(2, 40), 5), request(prompt(3, 40), 5)];
    let ids = submit_all(&mut setup.engine, &requests);
    setup.fill(99);
    let mut outputs = Outputs::new();
    while !setup.engine.is_idle() {
        collect(setup.engine.step().unwrap(), &mut outputs);
        assert!(setup.engine.running() <= 1);
    }
    assert!(ids.iter().zip(&requests).all(|(id, request)| outputs[id].tokens == expected(request)));
}

#[test]
fn when_pressure_falls_sequences_are_taken_again() {
    let mut setup = Setup::new();
    let first = setup.engine.submit(request(prompt(1, 5), 50)).unwrap();
    setup.engine.step().unwrap();
    setup.fill(97);
    assert!(setup.engine.submit(request(prompt(2, 5), 5)).is_err());
    // Below the threshold, but not below its margin.
    setup.fill(92);
    assert!(setup.engine.submit(request(prompt(2, 5), 5)).is_err());
    setup.fill(89);
    let second = setup.engine.submit(request(prompt(2, 5), 5)).unwrap();
    let mut outputs = Outputs::new();
    collect(setup.engine.step().unwrap(), &mut outputs);
    assert_eq!(setup.engine.running(), 2);
    while !setup.engine.is_idle() {
        collect(setup.engine.step().unwrap(), &mut outputs);
    }
    assert!(outputs.contains_key(&first) && outputs[&second].tokens == expected(&request(prompt(2, 5), 5)));
}

#[test]
fn nothing_is_guessed_while_memory_is_critical() {
    let mut mock = Mock::new(32, 4096);
    mock.habit = 100.0;
    let options = EngineOptions { lookup: 8, ..EngineOptions::default() };
    let mut setup = Setup::with_engine(Engine::new(mock, options).unwrap());
    setup.engine.submit(request(prompt(1, 20), 900)).unwrap();
    let mut steps = |percent| {
        setup.fill(percent);
        let before = setup.engine.model().steps.len();
        (0..40).for_each(|_| _ = setup.engine.step().unwrap());
        setup.engine.model().steps[before + 30..].concat()
    };
    assert_eq!(steps(0), [9; 10]);
    assert_eq!(steps(99), [1; 10]);
    assert_eq!(steps(0), [9; 10]);
}
