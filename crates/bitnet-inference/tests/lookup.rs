//! A model with weights says the same, to the last bit of its scores, whether or not its tokens are guessed and its head is screened.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;

use bitnet_core::{Device, ops::cache::CacheType};
use bitnet_inference::{
    Engine, EngineOptions, Event, FinishReason, LanguageModel, Request, SamplingParams, SequenceId, Stats,
    StopRules, local::LocalModel,
};
use bitnet_model::{
    Checkpoint, Decoder,
    batch::{Batch, Logits},
    checkpoint::Options,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const VOCAB: u32 = 512;
/// Positions of the cache, which are too few for all sequences of a case at once.
const CONTEXT: usize = 160;

fn decoder() -> Decoder {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/bitnet-packed"));
    let device = Device::open("auto", Some(2)).unwrap();
    Checkpoint::open(path, Options::default()).unwrap().decoder(&device, &|_| {}).unwrap()
}

fn screened() -> Decoder {
    let mut decoder = decoder();
    let mut screen = decoder.begin_screen().unwrap().unwrap();
    screen.advance(screen.missing()).unwrap();
    decoder.screen = Some(screen.finish());
    decoder
}

#[test]
fn logits_that_matter_are_those_of_the_head() {
    let rows = |decoder: Decoder, largest: [Option<usize>; 2]| {
        let mut model = LocalModel::new(decoder, CONTEXT, CacheType::F16).unwrap();
        let mut batch = Batch::default();
        batch.push(&[5, 9, 200], 0, vec![0], Logits::Last);
        batch.push(&[7, 8], 0, vec![1], Logits::All);
        batch.spans.iter_mut().zip(largest).for_each(|(span, largest)| span.largest = largest);
        let mut logits = Vec::new();
        model.forward(&batch, &mut logits).unwrap();
        logits
    };
    let all = rows(decoder(), [None; 2]);
    assert_eq!(rows(screened(), [Some(1), None]), all, "one that wants all gets all");
    let some = rows(screened(), [Some(1), Some(3)]);
    let vocab = VOCAB as usize;
    for ((some, all), wanted) in some.chunks(vocab).zip(all.chunks(vocab)).zip([1, 3, 3]) {
        let mut order: Vec<usize> = (0..vocab).collect();
        order.sort_by(|&a, &b| all[b].total_cmp(&all[a]));
        assert!(order[..wanted].iter().all(|&id| some[id].to_bits() == all[id].to_bits()));
        assert!(some.contains(&f32::MIN), "nothing was left out");
    }
}

/// What a sequence said, with the bits of every score.
#[derive(Debug, Default, PartialEq)]
struct Said {
    tokens: Vec<u32>,
    scores: Vec<u64>,
    reason: Option<FinishReason>,
}

/// Runs all requests in one engine. Returns the engine's model for the next run.
fn run(
    model: LocalModel,
    requests: &[Request],
    options: EngineOptions,
) -> (LocalModel, Vec<Said>, Vec<Stats>) {
    let mut engine = Engine::new(model, options).unwrap();
    let ids: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    let mut said: BTreeMap<SequenceId, Said> = BTreeMap::new();
    let mut stats = BTreeMap::new();
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            let said = said.entry(event.id()).or_default();
            match event {
                Event::Token { token, logprob, top, .. } => {
                    said.tokens.push(token);
                    said.scores.extend(logprob.map(f64::to_bits));
                    said.scores.extend(top.iter().map(|score| score.logprob.to_bits()));
                }
                Event::Prompt { score, .. } => said.scores.push(score.logprob.to_bits()),
                Event::Finished { id, reason, stats: cost } => {
                    said.reason = Some(reason);
                    stats.insert(id, cost);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let said = ids.iter().map(|id| said.remove(id).unwrap()).collect();
    (engine.into_model(), said, stats.into_values().collect())
}

/// A prompt that says something `times` times.
fn prompt() -> impl Strategy<Value = Vec<u32>> {
    (prop::collection::vec(0..VOCAB - 8, 2..24), 1..4usize).prop_map(|(tokens, times)| tokens.repeat(times))
}

fn request() -> impl Strategy<Value = Request> {
    let params = (
        any::<u64>(),
        prop_oneof![Just(0.0), 0.05..0.8f32],
        prop_oneof![Just(1.0), Just(1.1f32)],
        0..40usize,
    )
        .prop_map(|(seed, temperature, repeat_penalty, top_k)| SamplingParams {
            seed,
            temperature,
            repeat_penalty,
            top_k,
            repeat_last_n: 20,
            ..SamplingParams::default()
        });
    let eos = prop::collection::vec(0..VOCAB, 0..3);
    let scores = proptest::option::weighted(0.5, 0..3usize);
    (prompt(), params, eos, 1..80usize, scores.clone(), scores).prop_map(
        |(tokens, params, eos, max_tokens, logprobs, prompt_logprobs)| Request {
            tokens,
            params,
            stop: StopRules { eos, ..StopRules::default() },
            max_tokens: Some(max_tokens),
            logprobs,
            prompt_logprobs,
        },
    )
}

#[test]
fn guesses_and_screens_change_no_token_and_no_score() {
    let model = RefCell::new(Some(LocalModel::new(decoder(), CONTEXT, CacheType::F16).unwrap()));
    let screened = RefCell::new(Some(LocalModel::new(screened(), CONTEXT, CacheType::F16).unwrap()));
    let cases = (prop::collection::vec(request(), 1..4), 1..12usize, any::<bool>(), 8..64usize);
    let config = ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() };
    let accepted = Cell::new(0);
    let outcome =
        TestRunner::new(config).run(&cases, |(requests, lookup, prefix_cache, max_batch_tokens)| {
            let options = EngineOptions { max_batch_tokens, prefix_cache, ..EngineOptions::default() };
            let (back, plain, _) = run(model.take().unwrap(), &requests, options);
            let (back, guessed, stats) = run(back, &requests, EngineOptions { lookup, ..options });
            model.replace(Some(back));
            let (back, found, _) = run(screened.take().unwrap(), &requests, options);
            let (back, both, _) = run(back, &requests, EngineOptions { lookup, ..options });
            screened.replace(Some(back));
            prop_assert_eq!([&found, &both], [&plain; 2]);
            accepted.update(|n| n + stats.iter().map(|stats| stats.accepted_tokens).sum::<usize>());
            prop_assert_eq!(guessed, plain);
            Ok(())
        });
    outcome.unwrap();
    assert!(accepted.get() > 0);
}
