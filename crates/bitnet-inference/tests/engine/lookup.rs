//! Guessed tokens make steps fewer and change nothing else.

use std::ops::ControlFlow;

use crate::support::*;
use bitnet_inference::{
    Engine, EngineOptions, FinishReason, KvUsage, MAX_LOOKUP, Request, SamplingParams, StopRules, generate,
};
use bitnet_model::batch::BLOCK_LEN;
use proptest::prelude::*;

/// Strong enough that most guesses are right, and weak enough that some are not.
const HABIT: f32 = 8.0;

fn with_lookup(lookup: usize) -> EngineOptions {
    EngineOptions { lookup, ..EngineOptions::default() }
}

fn with_habit(kv_blocks: usize, context: usize, habit: f32, options: EngineOptions) -> Engine<Mock> {
    Engine::new(mock(kv_blocks, context, habit), options).unwrap()
}

fn mock(kv_blocks: usize, context: usize, habit: f32) -> Mock {
    let mut mock = Mock::new(kv_blocks, context);
    mock.habit = habit;
    mock
}

/// The output of one request, and the number of steps.
fn run_alone(request: &Request, options: EngineOptions) -> (Output, usize) {
    let mut engine = with_habit(16, 4096, HABIT, options);
    let id = engine.submit(request.clone()).unwrap();
    let output = finish(&mut engine).remove(&id).unwrap();
    (output, engine.model().steps.len())
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_steps() {
    let params = SamplingParams { repeat_penalty: 1.0, ..params(1) };
    let request = Request { params, ..request(prompt(1, 30), 200) };
    let (plain, plain_steps) = run_alone(&request, with_lookup(0));
    let (guessed, steps) = run_alone(&request, with_lookup(8));
    assert_eq!(guessed.tokens, plain.tokens);
    assert_eq!((plain_steps, plain.stats.drafted_tokens), (200, 0));
    assert!(steps < 120, "{steps} steps");
    assert_eq!(guessed.stats.accepted_tokens, 200 - steps);
    assert!(guessed.stats.drafted_tokens >= guessed.stats.accepted_tokens);
}

#[test]
fn a_text_without_repetition_is_not_guessed() {
    let mut engine = engine(16, with_lookup(8));
    let request = request(prompt(1, 100), 300);
    let id = engine.submit(request.clone()).unwrap();
    let output = finish(&mut engine).remove(&id).unwrap();
    assert_eq!(output.tokens, expected(&request));
    assert!(output.stats.drafted_tokens < 10, "{:?}", output.stats);
}

#[test]
fn no_step_guesses_more_than_it_may() {
    let mut engine = with_habit(16, 4096, 100.0, with_lookup(3));
    engine.submit(request(prompt(1, 30), 100)).unwrap();
    finish(&mut engine);
    assert_eq!(engine.model().steps[1..].iter().flatten().max(), Some(&4));
}

#[test]
fn guesses_take_what_prefill_leaves_of_the_batch() {
    let mut engine = with_habit(32, 4096, 100.0, EngineOptions { max_batch_tokens: 32, ..with_lookup(8) });
    engine.submit(request(prompt(1, 30), 200)).unwrap();
    (0..30).for_each(|_| _ = engine.step().unwrap());
    engine.submit(request(prompt(2, 100), 1)).unwrap();
    (0..4).for_each(|_| _ = engine.step().unwrap());
    let steps = &engine.model().steps[29..];
    assert_eq!(steps, [vec![9], vec![1, 31], vec![1, 31], vec![1, 31], vec![9, 7]]);
}

#[test]
fn the_blocks_of_wrong_guesses_are_free_after_the_step() {
    let mut engine = with_habit(16, 4096, HABIT, with_lookup(MAX_LOOKUP));
    let request = request(prompt(1, 30), 400);
    let mut outputs = Outputs::new();
    let id = engine.submit(request).unwrap();
    while !engine.is_idle() {
        collect(engine.step().unwrap(), &mut outputs);
        let tokens = 30 + outputs[&id].tokens.len();
        assert!(engine.kv_usage().held <= tokens.div_ceil(BLOCK_LEN));
    }
    let stats = outputs[&id].stats;
    assert!(stats.drafted_tokens >= stats.accepted_tokens + BLOCK_LEN, "{stats:?}");
}

#[test]
fn the_blocks_of_guesses_are_free_after_a_step_that_failed() {
    let mut mock = mock(80, 4096, 100.0);
    mock.failures = (30..60).collect();
    let mut engine = Engine::new(mock, with_lookup(MAX_LOOKUP)).unwrap();
    engine.submit(request(prompt(1, 30), 2000)).unwrap();
    (0..30).for_each(|_| _ = engine.step().unwrap());
    let held = engine.kv_usage().held;
    for _ in 30..60 {
        assert!(engine.step().is_err());
        assert!(engine.kv_usage().held <= held + 1);
    }
}

#[test]
fn a_stop_string_ends_the_text_where_it_ends_without_guesses() {
    let token_bytes = |token: u32| format!("<{token}>").into_bytes();
    let run = |options, strings: Vec<String>| {
        let stop = StopRules { strings, ..StopRules::default() };
        let request = Request { stop, logprobs: Some(1), ..request(prompt(1, 30), 200) };
        let mut engine = with_habit(16, 4096, HABIT, options);
        generate(&mut engine, request, token_bytes, |_| ControlFlow::Continue(())).unwrap()
    };
    let tokens = run(with_lookup(0), vec![]).tokens;
    for at in 100..140 {
        let stop = format!("<{}><{}><{}>", tokens[at - 2], tokens[at - 1], tokens[at]);
        let (plain, guessed) = (run(with_lookup(0), vec![stop.clone()]), run(with_lookup(8), vec![stop]));
        assert_eq!(guessed.reason, FinishReason::StopString(0));
        assert_eq!((guessed.text, guessed.tokens), (plain.text, plain.tokens));
        assert_eq!(guessed.logprobs, plain.logprobs);
        assert_eq!(guessed.prompt_tokens, 30);
    }
}

#[test]
fn logits_that_are_no_numbers_behind_a_right_guess_fail_the_next_step() {
    let params = SamplingParams { seed: 3, ..SamplingParams::default() };
    let request = Request { params, ..request(prompt(1, 30), 2000) };
    let run = |lookup| {
        let mut engine = with_habit(64, 4096, 8.0, with_lookup(lookup));
        let id = engine.submit(request.clone()).unwrap();
        finish(&mut engine).remove(&id).unwrap()
    };
    let (plain, guessed) = (run(0), run(8));
    assert!(plain.error.is_some());
    assert_eq!((guessed.tokens, guessed.error), (plain.tokens, plain.error));
}

#[test]
fn steady_steps_that_guess_reuse_their_memory() {
    let mut engine = with_habit(80, 4096, 100.0, with_lookup(8));
    submit_all(&mut engine, &[0, 1].map(|i| request(prompt(i, 20), 1000)));
    finish(&mut engine);
    let (steps, lent) = (&engine.model().steps[60..120], &engine.model().addresses[60..120]);
    assert!(steps.iter().all(|spans| spans == &[9, 9]));
    assert!(lent.iter().all(|addresses| addresses == &lent[0]));
}

fn sampling() -> impl Strategy<Value = SamplingParams> {
    (any::<u64>(), prop_oneof![Just(0.0), 0.1..1.5f32], 1.0..1.3f32, any::<bool>(), 0.0..0.5f32).prop_map(
        |(seed, temperature, repeat_penalty, poisoned, frequency_penalty)| SamplingParams {
            temperature,
            repeat_penalty,
            frequency_penalty,
            logit_bias: if poisoned { [].into() } else { [(POISON, f32::NEG_INFINITY)].into() },
            seed,
            ..SamplingParams::default()
        },
    )
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let stop = prop_oneof![
        2 => Just(StopRules::default()),
        1 => (0..VOCAB as u32).prop_map(|token| StopRules { eos: vec![token], ..StopRules::default() }),
        1 => Just(StopRules { ignore_eos: true, eos: vec![3], ..StopRules::default() }),
    ];
    let max_tokens = prop_oneof![4 => (0..80usize).prop_map(Some), 1 => Just(None)];
    let scores = proptest::option::weighted(0.3, 0..3usize);
    let request =
        (0..3u64, 1..100usize, sampling(), stop, max_tokens, scores.clone(), scores).prop_map(|drawn| {
            let (kind, len, params, stop, max_tokens, logprobs, prompt_logprobs) = drawn;
            Request { tokens: prompt(kind, len), params, stop, max_tokens, logprobs, prompt_logprobs }
        });
    (0..40usize, request, proptest::option::weighted(0.2, 0..80usize))
        .prop_map(|(step, request, cancelled_at)| Arrival { step, request, cancelled_at })
}

#[derive(Clone, Debug)]
struct Setup {
    kv_blocks: usize,
    habit: f32,
    failures: Vec<usize>,
    options: EngineOptions,
}

fn setup() -> impl Strategy<Value = Setup> {
    let options = (1..100usize, 1..6usize, any::<bool>(), 1..=MAX_LOOKUP);
    let habit = prop_oneof![Just(0.0), 3.0..9.0f32, Just(100.0)];
    (4..16usize, habit, prop::collection::vec(0..150usize, 0..4), options).prop_map(
        |(kv_blocks, habit, failures, (max_batch_tokens, max_sequences, prefix_cache, lookup))| Setup {
            kv_blocks,
            habit,
            failures,
            options: EngineOptions { max_batch_tokens, max_sequences, prefix_cache, lookup },
        },
    )
}

impl Setup {
    /// The longest text ends here, inside a block.
    const CONTEXT: usize = 150;

    fn engine(&self, lookup: usize) -> Engine<Mock> {
        let mut mock = mock(self.kv_blocks, Self::CONTEXT, self.habit);
        mock.failures = self.failures.iter().copied().collect();
        Engine::new(mock, EngineOptions { lookup, ..self.options }).unwrap()
    }

    /// What becomes of all that arrive.
    fn outputs(&self, arrivals: &[Arrival], lookup: usize) -> Vec<Output> {
        // A step that failed is repeated.
        outputs_of(&mut self.engine(lookup), arrivals, 80, |engine| engine.step().unwrap_or_default())
    }

    /// What the prefix cache knows, and the use of blocks, after each request.
    fn one_by_one(&self, arrivals: &[Arrival], lookup: usize) -> Vec<(usize, KvUsage)> {
        let mut engine = self.engine(lookup);
        let mut seen = Vec::new();
        for arrival in arrivals {
            let id = engine.submit(arrival.request.clone()).unwrap();
            let mut outputs = Outputs::new();
            while !engine.is_idle() {
                if let Ok(events) = engine.step() {
                    collect(events, &mut outputs);
                }
            }
            seen.push((outputs[&id].stats.cached_tokens, engine.kv_usage()));
        }
        seen
    }
}

/// What a sequence said, for comparison: what it cost depends on the steps.
fn said(output: &Output) -> Output {
    Output { stats: Default::default(), ..output.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_company_says_the_same_with_and_without_guesses(
        setup in setup(),
        arrivals in prop::collection::vec(arrival(), 1..6),
    ) {
        let (plain, guessed) = (setup.outputs(&arrivals, 0), setup.outputs(&arrivals, setup.options.lookup));
        for (plain, guessed) in plain.iter().zip(&guessed) {
            let cancelled = [plain, guessed].map(|output| output.reason == Some(FinishReason::Cancelled));
            if cancelled == [false, false] {
                prop_assert_eq!(said(plain), said(guessed));
                prop_assert_eq!(plain.stats.generated_tokens, guessed.stats.generated_tokens);
            } else {
                let both = plain.tokens.len().min(guessed.tokens.len());
                prop_assert_eq!(&plain.tokens[..both], &guessed.tokens[..both]);
                prop_assert!(cancelled[0] || guessed.tokens.len() <= plain.tokens.len());
                prop_assert!(cancelled[1] || plain.tokens.len() <= guessed.tokens.len());
            }
            prop_assert!(guessed.stats.accepted_tokens <= guessed.stats.drafted_tokens);
        }
    }

    #[test]
    fn guesses_evict_nothing_from_the_prefix_cache(
        setup in setup(),
        arrivals in prop::collection::vec(arrival(), 1..6),
    ) {
        let lookup = setup.options.lookup;
        prop_assert_eq!(setup.one_by_one(&arrivals, 0), setup.one_by_one(&arrivals, lookup));
    }
}
