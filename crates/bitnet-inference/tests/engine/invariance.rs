//! What a sequence yields depends on its own request alone.

use crate::support::*;
use bitnet_inference::{Engine, EngineOptions, FinishReason, MAX_LOOKUP, Request, Sampler};
use bitnet_model::batch::BLOCK_LEN;
use proptest::prelude::*;

fn with_chunk(max_batch_tokens: usize) -> EngineOptions {
    EngineOptions { max_batch_tokens, ..EngineOptions::default() }
}

#[test]
fn every_prefill_chunk_gives_the_same_tokens() {
    let request = request(prompt(1, 130), 40);
    for chunk in [1, 7, 31, 32, 33, 64, 129, 130, 512] {
        assert_eq!(run(8, with_chunk(chunk), request.clone()).tokens, expected(&request), "chunk {chunk}");
    }
}

#[test]
fn a_long_prompt_is_prefilled_in_chunks_of_the_batch_size() {
    let mut engine = engine(8, with_chunk(64));
    engine.submit(request(prompt(1, 130), 3)).unwrap();
    finish(&mut engine);
    assert_eq!(engine.model().steps, [[64], [64], [2], [1], [1]]);
}

#[test]
fn decode_steps_come_before_prefill_and_share_its_budget() {
    let mut engine = engine(16, with_chunk(64));
    engine.submit(request(prompt(1, 10), 5)).unwrap();
    engine.step().unwrap();
    engine.submit(request(prompt(2, 100), 1)).unwrap();
    finish(&mut engine);
    assert_eq!(engine.model().steps, [vec![10], vec![1, 63], vec![1, 37], vec![1], vec![1]]);
}

#[test]
fn a_prompt_moves_even_when_decode_steps_fill_the_batch() {
    let mut engine = engine(16, with_chunk(1));
    engine.submit(request(prompt(1, 1), 4)).unwrap();
    engine.step().unwrap();
    engine.submit(request(prompt(2, 3), 1)).unwrap();
    finish(&mut engine);
    assert_eq!(engine.model().steps, [vec![1], vec![1, 1], vec![1, 1], vec![1, 1]]);
}

#[test]
fn sequences_in_a_batch_yield_what_they_yield_alone() {
    let requests: Vec<_> = (0..5).map(|i| request(prompt(i, 1 + 37 * i as usize), 50)).collect();
    let mut engine = engine(64, with_chunk(48));
    let ids = submit_all(&mut engine, &requests);
    let outputs = finish(&mut engine);
    for (request, id) in requests.iter().zip(ids) {
        assert_eq!(outputs[&id].tokens, expected(request), "prompt of {}", request.tokens.len());
    }
}

#[test]
fn only_max_sequences_run_at_a_time() {
    let mut engine = engine(64, EngineOptions { max_sequences: 2, ..EngineOptions::default() });
    submit_all(&mut engine, &[0, 1, 2, 3, 4].map(|i| request(prompt(i, 5), 3)));
    engine.step().unwrap();
    assert_eq!((engine.running(), engine.waiting()), (2, 3));
    assert_eq!(finish(&mut engine).len(), 5);
    assert!(engine.model().steps.iter().all(|spans| spans.len() <= 2));
}

#[test]
fn a_repeated_prompt_reuses_its_full_blocks() {
    let mut engine = engine(16, EngineOptions::default());
    let request = request(prompt(3, 100), 20);
    let first = engine.submit(request.clone()).unwrap();
    let first = finish(&mut engine).remove(&first).unwrap();
    let second = engine.submit(request.clone()).unwrap();
    let second = finish(&mut engine).remove(&second).unwrap();
    assert_eq!((first.stats.cached_tokens, second.stats.cached_tokens), (0, 3 * BLOCK_LEN));
    assert_eq!(first.tokens, expected(&request));
    assert_eq!(second.tokens, first.tokens);
}

#[test]
fn the_last_prompt_token_is_computed_though_its_block_is_cached() {
    let mut engine = engine(16, EngineOptions::default());
    let request = request(prompt(3, 2 * BLOCK_LEN), 2);
    engine.submit(request.clone()).unwrap();
    finish(&mut engine);
    let id = engine.submit(request.clone()).unwrap();
    let output = finish(&mut engine).remove(&id).unwrap();
    assert_eq!(output.stats.cached_tokens, BLOCK_LEN);
    assert_eq!(output.tokens, expected(&request));
}

#[test]
fn a_conversation_reuses_what_was_generated() {
    let mut engine = engine(16, EngineOptions::default());
    let first = request(prompt(4, 50), 50);
    engine.submit(first.clone()).unwrap();
    finish(&mut engine);
    let turn = [first.tokens.clone(), expected(&first), prompt(5, 10)].concat();
    let second = request(turn, 10);
    let id = engine.submit(second.clone()).unwrap();
    let output = finish(&mut engine).remove(&id).unwrap();
    assert_eq!(output.stats.cached_tokens, 3 * BLOCK_LEN);
    assert_eq!(output.tokens, expected(&second));
}

#[test]
fn a_block_is_not_reused_while_its_last_token_is_not_computed() {
    let mut engine = engine(16, EngineOptions::default());
    let first = request(prompt(4, 50), 3 * BLOCK_LEN - 50);
    engine.submit(first.clone()).unwrap();
    finish(&mut engine);
    let turn = [first.tokens.clone(), expected(&first), prompt(5, 10)].concat();
    let second = request(turn, 10);
    let id = engine.submit(second.clone()).unwrap();
    let output = finish(&mut engine).remove(&id).unwrap();
    assert_eq!(output.stats.cached_tokens, 2 * BLOCK_LEN);
    assert_eq!(output.tokens, expected(&second));
}

#[test]
fn prompts_that_part_inside_a_block_share_only_the_blocks_before() {
    let mut engine = engine(16, EngineOptions::default());
    let first = request(prompt(6, 100), 5);
    let mut second = first.clone();
    second.tokens[40] ^= 1;
    engine.submit(first).unwrap();
    finish(&mut engine);
    let id = engine.submit(second.clone()).unwrap();
    let output = finish(&mut engine).remove(&id).unwrap();
    assert_eq!(output.stats.cached_tokens, BLOCK_LEN);
    assert_eq!(output.tokens, expected(&second));
}

#[test]
fn equal_prompts_at_once_end_up_in_the_same_blocks() {
    let mut engine = engine(64, EngineOptions::default());
    let request = request(prompt(7, 100), 10);
    let ids = [(); 3].map(|()| engine.submit(request.clone()).unwrap());
    let mut outputs = Outputs::new();
    collect(engine.step().unwrap(), &mut outputs);
    assert_eq!(engine.kv_usage().held, 3 + 3);
    let rest = finish(&mut engine);
    for id in ids {
        assert_eq!([outputs[&id].tokens.clone(), rest[&id].tokens.clone()].concat(), expected(&request));
    }
}

#[test]
fn without_the_prefix_cache_nothing_is_kept() {
    let mut engine = engine(16, EngineOptions { prefix_cache: false, ..EngineOptions::default() });
    let request = request(prompt(3, 100), 20);
    for _ in 0..2 {
        let id = engine.submit(request.clone()).unwrap();
        let output = finish(&mut engine).remove(&id).unwrap();
        assert_eq!((output.stats.cached_tokens, output.tokens), (0, expected(&request)));
        assert_eq!(engine.kv_usage().free, 16);
    }
}

#[test]
fn sequences_that_lose_their_blocks_yield_the_same() {
    for prefix_cache in [false, true] {
        let requests: Vec<_> = (0..4).map(|i| request(prompt(i, 20), 100)).collect();
        let mut engine = engine(7, EngineOptions { prefix_cache, ..EngineOptions::default() });
        let ids = submit_all(&mut engine, &requests);
        let outputs = finish(&mut engine);
        let preemptions: Vec<_> = ids.iter().map(|id| outputs[id].stats.preemptions).collect();
        assert_eq!(preemptions[0], 0, "the oldest sequence never waits");
        assert!(preemptions.iter().sum::<usize>() > 0);
        for (request, id) in requests.iter().zip(ids) {
            assert_eq!(outputs[&id].tokens, expected(request));
        }
    }
}

#[test]
fn a_sequence_starts_only_when_those_that_run_have_room_to_grow() {
    let requests = [request(prompt(1, BLOCK_LEN), 5), request(prompt(2, 2 * BLOCK_LEN), 5)];
    let mut engine = engine(3, EngineOptions::default());
    let ids = submit_all(&mut engine, &requests);
    engine.step().unwrap();
    assert_eq!((engine.running(), engine.waiting()), (1, 1));
    let outputs = finish(&mut engine);
    assert_eq!(outputs[&ids[1]].tokens, expected(&requests[1]));
    assert_eq!(outputs[&ids[1]].stats.preemptions, 0);
}

#[test]
fn a_sequence_that_lost_its_blocks_is_not_overtaken() {
    let lens = [2 * BLOCK_LEN, 2 * BLOCK_LEN + 1, 1];
    let requests = lens.map(|len| request(prompt(len as u64, len), 60));
    let mut engine = engine(6, EngineOptions { max_sequences: 2, ..EngineOptions::default() });
    let ids = submit_all(&mut engine, &requests);
    let mut outputs = Outputs::new();
    (0..40).for_each(|_| collect(engine.step().unwrap(), &mut outputs));
    assert_eq!((engine.running(), engine.waiting()), (1, 2));
    assert!(!outputs.contains_key(&ids[2]));
    assert_eq!(finish(&mut engine)[&ids[2]].tokens, expected(&requests[2]));
}

#[test]
fn a_sequence_may_fill_the_whole_cache() {
    let request = Request { max_tokens: None, ..request(prompt(1, 40), 0) };
    let output = run(3, EngineOptions::default(), request.clone());
    assert_eq!(output.reason, Some(FinishReason::Length));
    assert_eq!(output.tokens, expected(&Request { max_tokens: Some(3 * BLOCK_LEN - 40), ..request }));
}

#[test]
fn a_step_that_failed_can_be_repeated() {
    let requests: Vec<_> = (0..3).map(|i| request(prompt(i, 60), 30)).collect();
    let mut mock = Mock::new(32, 4096);
    mock.failures = [0, 2, 7, 20, 31].into();
    let mut engine = Engine::new(mock, with_chunk(50)).unwrap();
    let ids = submit_all(&mut engine, &requests);
    let (mut outputs, mut failures) = (Outputs::new(), 0);
    while !engine.is_idle() {
        match engine.step() {
            Ok(events) => collect(events, &mut outputs),
            Err(error) => {
                assert_eq!(error.to_string(), "the forward pass failed: the device is lost");
                failures += 1;
            }
        }
    }
    assert_eq!(failures, 5);
    for (request, id) in requests.iter().zip(ids) {
        assert_eq!(outputs[&id].tokens, expected(request));
    }
}

#[test]
fn prompt_scores_are_those_of_the_model_for_every_chunk_and_with_a_cached_prefix() {
    let request = Request { prompt_logprobs: Some(2), ..request(prompt(9, 150), 4) };
    let score = |position: usize| {
        let row = logits_after(&request.tokens[..position]);
        Sampler::default().score(&row, request.tokens[position], 0).unwrap().0
    };
    let scores: Vec<_> = (1..150).map(|position| (position, score(position))).collect();
    for chunk in [1, 7, 64, 512] {
        let mut engine = engine(16, with_chunk(chunk));
        for _ in 0..2 {
            let id = engine.submit(request.clone()).unwrap();
            let output = finish(&mut engine).remove(&id).unwrap();
            assert_eq!(output.prompt, scores, "chunk {chunk}");
            assert_eq!((output.tokens, output.stats.cached_tokens), (expected(&request), 0));
        }
    }
}

#[test]
fn prompt_scores_take_the_memory_of_few_rows() {
    let mut engine = engine(64, EngineOptions::default());
    submit_all(
        &mut engine,
        &[0, 1, 2].map(|i| Request { prompt_logprobs: Some(0), ..request(prompt(i, 300), 1) }),
    );
    finish(&mut engine);
    assert!(engine.model().steps.iter().all(|spans| spans.iter().sum::<usize>() <= 64 + 2));
}

#[test]
fn steady_decode_steps_reuse_their_memory() {
    let mut engine = engine(64, EngineOptions::default());
    submit_all(&mut engine, &[0, 1, 2, 3].map(|i| request(prompt(i, 20), 200)));
    finish(&mut engine);
    let steps = &engine.model().addresses[1..];
    assert!(steps.iter().all(|lent| lent == &steps[0]));
}

fn arrival() -> impl Strategy<Value = Arrival> {
    // Few kinds of prompts of many lengths, so that prefixes are shared.
    let request =
        (0..3u64, 1..120usize, 0..60usize, any::<bool>()).prop_map(|(kind, len, max_tokens, scores)| {
            Request { prompt_logprobs: scores.then_some(1), ..request(prompt(kind, len), max_tokens) }
        });
    (0..60usize, request, proptest::option::weighted(0.2, 0..120usize))
        .prop_map(|(step, request, cancelled_at)| Arrival { step, request, cancelled_at })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_company_gives_the_same_tokens_and_returns_all_blocks(
        arrivals in prop::collection::vec(arrival(), 1..8),
        kv_blocks in 6..24usize,
        max_batch_tokens in 1..100usize,
        max_sequences in 1..6usize,
        prefix_cache: bool,
        lookup in prop_oneof![Just(0), 1..=MAX_LOOKUP],
    ) {
        let options = EngineOptions { max_batch_tokens, max_sequences, prefix_cache, lookup };
        let mut engine = engine(kv_blocks, options);
        let outputs = outputs_of(&mut engine, &arrivals, 120, |engine| {
            let (events, usage) = (engine.step().unwrap(), engine.kv_usage());
            assert_eq!(usage.held + usage.idle + usage.free, kv_blocks);
            events
        });
        for (arrival, output) in arrivals.iter().zip(&outputs) {
            let expected = expected(&arrival.request);
            let scored = arrival.request.tokens.len() - 1;
            match output.reason.unwrap() {
                FinishReason::Cancelled => prop_assert!(expected.starts_with(&output.tokens)),
                reason => {
                    prop_assert_eq!(reason, FinishReason::Length);
                    prop_assert_eq!(&output.tokens, &expected);
                    prop_assert_eq!(output.prompt.len(), arrival.request.prompt_logprobs.map_or(0, |_| scored));
                }
            }
        }
    }
}
