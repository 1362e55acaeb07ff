//! One request to its end, as text.

use std::ops::ControlFlow;

use crate::support::*;
use bitnet_inference::{
    Engine, EngineOptions, Error, FinishReason, Generation, Request, StopRules, generate,
};

/// Token 7 is `<7>`; every third token is a lone byte of a euro sign instead.
fn token_bytes(token: u32) -> Vec<u8> {
    match token % 9 {
        0 => vec![0xe2],
        3 => vec![0x82],
        6 => vec![0xac],
        _ => format!("<{token}>").into_bytes(),
    }
}

fn bytes_of(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| token_bytes(token)).collect()
}

fn text_of(tokens: &[u32]) -> String {
    String::from_utf8_lossy(&bytes_of(tokens)).into_owned()
}

/// The generation, and the text as it was shown.
fn shown(engine: &mut Engine<Mock>, request: Request) -> (Generation, String) {
    let mut shown = String::new();
    let generation = generate(engine, request, token_bytes, |text| {
        shown.push_str(text);
        ControlFlow::Continue(())
    });
    (generation.unwrap(), shown)
}

#[test]
fn the_text_is_that_of_the_tokens_and_is_shown_once() {
    let request = request(prompt(1, 70), 60);
    let mut engine = engine(8, EngineOptions { max_batch_tokens: 32, ..EngineOptions::default() });
    let (generation, shown) = shown(&mut engine, request.clone());
    assert_eq!(generation.tokens, expected(&request));
    assert_eq!(generation.text, text_of(&generation.tokens));
    assert_eq!(shown, generation.text);
    assert_eq!((generation.reason, generation.prompt_tokens), (FinishReason::Length, 70));
    assert!(engine.is_idle());
}

#[test]
fn a_stop_string_over_two_tokens_ends_text_and_sequence() {
    let request = request(prompt(1, 10), 40);
    let tokens = expected(&request);
    let text = text_of(&tokens);
    let stop = text[text.char_indices().nth(41).unwrap().0..].chars().take(6).collect::<String>();
    let stop = StopRules { strings: vec!["never".into(), stop.clone()], ..StopRules::default() };
    let mut engine = engine(8, EngineOptions::default());
    let (generation, shown) = shown(&mut engine, Request { stop: stop.clone(), ..request });
    assert_eq!(generation.reason, FinishReason::StopString(1));
    assert_eq!(generation.text, text.split(&stop.strings[1]).next().unwrap());
    assert_eq!(shown, generation.text);
    assert!(tokens.starts_with(&generation.tokens) && generation.tokens.len() < tokens.len());
    assert_eq!((engine.is_idle(), engine.kv_usage().held), (true, 0));
}

#[test]
fn a_stop_string_in_the_last_token_counts_as_the_stop() {
    let request = request(prompt(1, 10), 7);
    let text = text_of(&expected(&request));
    let (before, end) = text.split_at(text.len() - 6);
    let stop = StopRules { strings: vec![end.into()], ..StopRules::default() };
    let (generation, shown) = shown(&mut engine(8, EngineOptions::default()), Request { stop, ..request });
    assert_eq!((generation.text.as_str(), shown.as_str()), (before, before));
    assert_eq!(generation.reason, FinishReason::StopString(0));
    assert_eq!(generation.prompt_tokens, 10);
}

#[test]
fn the_caller_can_break_off_between_tokens() {
    let mut engine = engine(8, EngineOptions::default());
    let mut calls = 0;
    let generation = generate(&mut engine, request(prompt(1, 10), 40), token_bytes, |_| {
        calls += 1;
        if calls == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!((generation.tokens.len(), generation.reason), (5, FinishReason::Cancelled));
    assert_eq!((engine.is_idle(), engine.kv_usage().held), (true, 0));
}

#[test]
fn the_caller_can_break_off_during_prefill() {
    let mut engine = engine(8, EngineOptions { max_batch_tokens: 10, ..EngineOptions::default() });
    let generation =
        generate(&mut engine, request(prompt(1, 100), 40), token_bytes, |_| ControlFlow::Break(())).unwrap();
    assert_eq!((generation.tokens.len(), generation.reason), (0, FinishReason::Cancelled));
    assert_eq!(engine.model().steps, [[10]]);
}

#[test]
fn after_an_error_the_engine_is_idle() {
    let mut mock = Mock::new(8, 4096);
    mock.failures = [3].into();
    let mut engine = Engine::new(mock, EngineOptions::default()).unwrap();
    let request = request(prompt(1, 10), 40);
    let result = generate(&mut engine, request.clone(), token_bytes, |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(Error::Model(_))));
    assert_eq!((engine.is_idle(), engine.kv_usage().held), (true, 0));
    assert_eq!(shown(&mut engine, request.clone()).0.tokens, expected(&request));
}

#[test]
fn an_engine_with_other_sequences_is_refused() {
    let mut engine = engine(8, EngineOptions::default());
    engine.submit(request(prompt(1, 10), 4)).unwrap();
    let result = generate(&mut engine, request(prompt(2, 10), 4), token_bytes, |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(Error::Busy { sequences: 1 })));
}

#[test]
fn scores_come_with_the_tokens_they_are_of() {
    let request = Request { logprobs: Some(1), prompt_logprobs: Some(0), ..request(prompt(1, 10), 4) };
    let (generation, _) = shown(&mut engine(8, EngineOptions::default()), request);
    let scored: Vec<_> = generation.logprobs.iter().map(|(score, _)| score.token).collect();
    assert_eq!(scored, generation.tokens);
    assert!(generation.logprobs.iter().all(|(score, top)| top.len() == 1 && top[0].logprob >= score.logprob));
    let prompted: Vec<_> = generation.prompt_logprobs.iter().map(|(score, _)| score.token).collect();
    assert_eq!(prompted, prompt(1, 10)[1..]);
}
