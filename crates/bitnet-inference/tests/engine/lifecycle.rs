//! How sequences begin and end, and what is refused.

use crate::support::*;
use bitnet_inference::{
    Engine, EngineOptions, Error, Event, FinishReason, MAX_LOOKUP, Request, Sampler, SamplingParams,
    StopRules,
};
use bitnet_model::batch::BLOCK_LEN;

fn options() -> EngineOptions {
    EngineOptions::default()
}

#[test]
fn an_end_of_text_token_ends_the_sequence_and_is_not_part_of_it() {
    let request = request(prompt(1, 10), 30);
    let tokens = expected(&request);
    let at = 12;
    let first = tokens.iter().position(|&token| token == tokens[at]).unwrap();
    let stop = StopRules { eos: vec![tokens[at]], ..StopRules::default() };
    let output = run(8, options(), Request { stop, ..request });
    assert_eq!(output.tokens, tokens[..first]);
    assert_eq!(output.reason, Some(FinishReason::StopToken(tokens[at])));
    assert_eq!(output.stats.generated_tokens, first + 1);
}

#[test]
fn a_stop_token_ends_the_sequence_even_when_end_of_text_is_ignored() {
    let request = request(prompt(1, 10), 30);
    let tokens = expected(&request);
    let stop = StopRules { ignore_eos: true, tokens: vec![tokens[0]], ..StopRules::default() };
    let output = run(8, options(), Request { stop, ..request });
    assert_eq!((output.tokens, output.reason), (vec![], Some(FinishReason::StopToken(tokens[0]))));
}

#[test]
fn ignored_end_of_text_tokens_are_never_picked() {
    let request = request(prompt(1, 10), 40);
    let eos = expected(&request);
    let stop = StopRules { eos: eos.clone(), ignore_eos: true, ..StopRules::default() };
    let output = run(8, options(), Request { stop, ..request });
    assert_eq!((output.tokens.len(), output.reason), (40, Some(FinishReason::Length)));
    assert!(output.tokens.iter().all(|token| !eos.contains(token)));
}

#[test]
fn the_context_ends_a_sequence() {
    let mut engine = Engine::new(Mock::new(8, 100), options()).unwrap();
    let id = engine.submit(Request { max_tokens: None, ..request(prompt(1, 90), 0) }).unwrap();
    let output = finish(&mut engine).remove(&id).unwrap();
    assert_eq!((output.tokens.len(), output.reason), (10, Some(FinishReason::Length)));
}

#[test]
fn an_immense_max_tokens_means_the_context() {
    let mut engine = Engine::new(Mock::new(8, 100), options()).unwrap();
    let id = engine.submit(Request { max_tokens: Some(usize::MAX), ..request(prompt(1, 90), 0) }).unwrap();
    assert_eq!(finish(&mut engine)[&id].tokens.len(), 10);
}

#[test]
fn no_tokens_asked_for_reads_the_prompt_alone() {
    let request = Request { prompt_logprobs: Some(0), ..request(prompt(1, 70), 0) };
    let output = run(8, options(), request);
    assert_eq!((output.tokens.len(), output.prompt.len()), (0, 69));
    assert_eq!(output.reason, Some(FinishReason::Length));
}

#[test]
fn a_prompt_that_can_never_fit_is_refused_with_the_numbers() {
    let mut engine = Engine::new(Mock::new(2, 100), options()).unwrap();
    let error = engine.submit(request(prompt(1, 64), 1)).unwrap_err();
    assert!(matches!(
        error,
        Error::PromptTooLong { tokens: 64, room: 63, context_length: 100, kv_positions: 64 }
    ));
    assert!(engine.submit(request(prompt(1, 63), 1)).is_ok());
    assert!(engine.submit(request(prompt(1, 64), 0)).is_ok());
    assert_eq!(finish(&mut engine).len(), 2);
}

#[test]
fn requests_without_meaning_are_refused_by_name() {
    let mut engine = engine(4, options());
    let good = || request(prompt(1, 5), 5);
    let many = StopRules { strings: vec!["x".into(); 65], ..StopRules::default() };
    let long = StopRules { strings: vec!["x".repeat(1025)], ..StopRules::default() };
    let empty = StopRules { strings: vec![String::new()], ..StopRules::default() };
    let refused = [
        (Request { tokens: vec![], ..good() }, "the prompt is empty"),
        (Request { tokens: vec![50], ..good() }, "prompt: token 50"),
        (Request { logprobs: Some(129), ..good() }, "logprobs: expected at most 128, got 129"),
        (Request { prompt_logprobs: Some(usize::MAX), ..good() }, "prompt_logprobs"),
        (
            Request { stop: StopRules { eos: vec![u32::MAX], ..StopRules::default() }, ..good() },
            "stop: token",
        ),
        (
            Request { stop: StopRules { tokens: vec![1; 257], ..StopRules::default() }, ..good() },
            "stop tokens",
        ),
        (Request { stop: many, ..good() }, "stop strings: expected at most 64, got 65"),
        (Request { stop: long, ..good() }, "stop string: expected 1 to 1024 bytes, got 1025 bytes"),
        (Request { stop: empty, ..good() }, "stop string: expected 1 to 1024 bytes, got 0 bytes"),
        (
            Request {
                params: SamplingParams { logit_bias: [(50, 1.0)].into(), ..Default::default() },
                ..good()
            },
            "logit_bias: token 50",
        ),
        (
            Request { params: SamplingParams { temperature: -1.0, ..Default::default() }, ..good() },
            "temperature",
        ),
    ];
    for (request, message) in refused {
        let error = engine.submit(request).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(engine.is_idle());
}

#[test]
fn options_without_meaning_are_refused() {
    let broken = [
        (Mock::new(0, 10), options(), "kv_blocks"),
        (Mock::new(1, 0), options(), "context_length"),
        (Mock::new(1, 10), EngineOptions { max_batch_tokens: 0, ..options() }, "max_batch_tokens"),
        (Mock::new(1, 10), EngineOptions { max_sequences: 0, ..options() }, "max_sequences"),
        (Mock::new(1, 10), EngineOptions { lookup: MAX_LOOKUP + 1, ..options() }, "lookup"),
    ];
    for (mock, options, name) in broken {
        assert!(Engine::new(mock, options).unwrap_err().to_string().starts_with(name));
    }
}

#[test]
fn a_running_and_a_waiting_sequence_can_be_cancelled_once() {
    let mut engine = engine(8, EngineOptions { max_sequences: 1, ..options() });
    let ids = [1, 2].map(|i| engine.submit(request(prompt(i, 40), 40)).unwrap());
    engine.step().unwrap();
    assert_eq!((engine.running(), engine.waiting()), (1, 1));
    for id in ids {
        let event = engine.cancel(id).unwrap();
        assert!(matches!(event, Event::Finished { reason: FinishReason::Cancelled, .. }));
        assert!(engine.cancel(id).is_none());
    }
    assert!(engine.is_idle());
    assert_eq!(engine.kv_usage().held, 0);
    assert!(engine.step().unwrap().is_empty());
}

#[test]
fn cancelling_one_sequence_leaves_the_others_as_they_are() {
    let requests: Vec<_> = (0..3).map(|i| request(prompt(i, 40), 30)).collect();
    let mut engine = engine(16, options());
    let ids = submit_all(&mut engine, &requests);
    let mut outputs = Outputs::new();
    (0..10).for_each(|_| collect(engine.step().unwrap(), &mut outputs));
    engine.cancel(ids[1]).unwrap();
    while !engine.is_idle() {
        collect(engine.step().unwrap(), &mut outputs);
    }
    assert_eq!(outputs[&ids[0]].tokens, expected(&requests[0]));
    assert_eq!(outputs[&ids[1]].tokens, expected(&requests[1])[..10]);
    assert_eq!(outputs[&ids[2]].tokens, expected(&requests[2]));
}

#[test]
fn logits_that_are_no_numbers_fail_their_sequence_alone() {
    let good = request(prompt(1, 40), 30);
    let mut bad = request(prompt(2, 70), 30);
    bad.tokens.push(POISON);
    let mut engine = engine(16, options());
    let (good_id, bad_id) = (engine.submit(good.clone()).unwrap(), engine.submit(bad).unwrap());
    let outputs = finish(&mut engine);
    assert_eq!(outputs[&good_id].tokens, expected(&good));
    assert!(outputs[&bad_id].error.as_ref().unwrap().starts_with("the logit of token 0 is NaN"));
}

#[test]
fn blocks_of_a_failed_sequence_are_not_reused() {
    let mut bad = request(prompt(2, 70), 30);
    bad.tokens.push(POISON);
    let mut engine = engine(16, EngineOptions { max_batch_tokens: 32, ..options() });
    engine.submit(bad).unwrap();
    finish(&mut engine);
    assert_eq!(engine.kv_usage().free, 16);
}

#[test]
fn a_bias_against_every_token_fails_the_sequence() {
    let all = (0..VOCAB as u32).map(|token| (token, f32::NEG_INFINITY)).collect();
    let params = SamplingParams { logit_bias: all, ..SamplingParams::default() };
    let output = run(8, options(), Request { params, ..request(prompt(1, 5), 5) });
    assert!(output.error.unwrap().starts_with("no token is left"));
}

#[test]
fn log_probabilities_are_those_of_the_model_before_sampling() {
    let request = Request { logprobs: Some(3), ..request(prompt(1, 20), 10) };
    let output = run(8, options(), request.clone());
    let mut tokens = request.tokens.clone();
    for ((&token, &logprob), top) in output.tokens.iter().zip(&output.logprobs).zip(&output.top) {
        let (score, best) = Sampler::default().score(&logits_after(&tokens), token, 3).unwrap();
        assert_eq!((logprob, top), (score.logprob, &best));
        tokens.push(token);
    }
    assert_eq!(output.logprobs.len(), 10);
}

#[test]
fn the_end_of_the_longest_unused_prefix_makes_room_first() {
    let (old, recent) = (prompt(1, 2 * BLOCK_LEN + 1), prompt(2, BLOCK_LEN + 1));
    let third = prompt(3, 2 * BLOCK_LEN);
    for tokens in [&old, &recent] {
        let mut engine = engine(4, options());
        let cached = [&old, &recent, &third, tokens].map(|tokens| {
            let id = engine.submit(request(tokens.clone(), 0)).unwrap();
            finish(&mut engine)[&id].stats.cached_tokens
        });
        assert_eq!(cached, [0, 0, 0, BLOCK_LEN]);
    }
}
