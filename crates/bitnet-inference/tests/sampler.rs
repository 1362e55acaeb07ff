//! The sampler: known answers, statistics, and the rules of every parameter.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use bitnet_inference::{Error, Rng, Sampler, SamplingParams};
use proptest::prelude::*;

/// Everything off: the plain distribution.
fn plain() -> SamplingParams {
    SamplingParams { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplingParams::default() }
}

fn picks(logits: &[f32], history: &[u32], params: &SamplingParams, n: usize) -> Vec<u32> {
    let (mut sampler, mut rng) = (Sampler::default(), Rng::new(params.seed));
    (0..n).map(|_| sampler.pick(logits, history, params, &mut rng).unwrap()).collect()
}

fn greedy(logits: &[f32], history: &[u32], params: &SamplingParams) -> u32 {
    picks(logits, history, &SamplingParams { temperature: 0.0, ..params.clone() }, 1)[0]
}

/// The tokens that can be picked, in rising order.
fn support(logits: &[f32], params: &SamplingParams) -> Vec<u32> {
    let mut tokens = picks(logits, &[], params, 5000);
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// Logits whose softmax is `probabilities`.
fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

/// 101 distinct logits, exact in f32, in no order.
fn spread() -> Vec<f32> {
    (0..101).map(|i| (i * 37 % 101) as f32 / 16.0 - 3.0).collect()
}

/// Expected values: a Python program of its own, with 64-bit softmax and the published xoshiro256++ and
/// SplitMix64.
#[test]
fn a_seed_gives_the_known_tokens() {
    let row = spread();
    let usual = SamplingParams { seed: 42, ..SamplingParams::default() };
    let wide = SamplingParams { temperature: 1.5, seed: 42, ..plain() };
    let narrow = SamplingParams { top_k: 10, top_p: 0.9, seed: 42, ..plain() };
    let expected: [(_, [u32; 16]); 3] = [
        (usual, [35, 49, 21, 16, 5, 27, 60, 27, 90, 73, 98, 95, 87, 30, 79, 68]),
        (wide, [59, 98, 96, 62, 100, 24, 19, 54, 79, 12, 95, 7, 2, 60, 87, 65]),
        (narrow, [8, 90, 68, 79, 8, 49, 30, 49, 60, 68, 49, 38, 79, 30, 19, 49]),
    ];
    for (params, tokens) in expected {
        assert_eq!(picks(&row, &[], &params, 16), tokens, "{params:?}");
    }
}

#[test]
fn the_default_is_that_of_llama_cpp() {
    let p = SamplingParams::default();
    assert_eq!((p.temperature, p.top_k, p.top_p, p.min_p), (0.8, 40, 0.95, 0.05));
    assert_eq!((p.repeat_penalty, p.repeat_last_n), (1.0, 64));
    assert_eq!((p.presence_penalty, p.frequency_penalty), (0.0, 0.0));
}

#[test]
fn greedy_takes_the_lowest_of_equal_tokens_and_draws_nothing() {
    let mut rng = Rng::new(5);
    let row = [-1.0, 2.0, 0.0, 2.0];
    let token = Sampler::default().pick(&row, &[], &SamplingParams::greedy(), &mut rng).unwrap();
    assert_eq!((token, rng), (1, Rng::new(5)));
    assert_eq!(greedy(&[-0.0, 0.0], &[], &plain()), 0);
}

#[test]
fn every_pick_draws_exactly_one_number() {
    let one = SamplingParams { top_k: 1, ..plain() };
    let (mut rng, mut drawn) = (Rng::new(5), Rng::new(5));
    Sampler::default().pick(&spread(), &[], &one, &mut rng).unwrap();
    drawn.next_u64();
    assert_eq!(rng, drawn);
}

#[test]
fn a_single_candidate_is_the_greedy_token() {
    let one = SamplingParams { top_k: 1, temperature: 100.0, ..plain() };
    assert_eq!(support(&[-0.0, 0.0, -1.0], &one), [0]);
    assert_eq!(support(&[1.0, 3.0, 2.0], &one), [1]);
}

#[test]
fn frequencies_are_the_softmax_at_the_temperature() {
    let (n, row) = (40_000, [0.5f32, -1.0, 2.0, 1.0, -0.25, 0.0]);
    for temperature in [0.5f32, 1.0, 2.0] {
        let weights = row.map(|l| f64::from(l / temperature).exp());
        let total: f64 = weights.iter().sum();
        let tokens = picks(&row, &[], &SamplingParams { temperature, seed: 3, ..plain() }, n);
        let chi_square: f64 = (0..6)
            .map(|t| {
                let expected = n as f64 * weights[t as usize] / total;
                let seen = tokens.iter().filter(|&&token| token == t).count() as f64;
                (seen - expected).powi(2) / expected
            })
            .sum();
        // The 99.9 % quantile for 5 degrees of freedom.
        assert!(chi_square < 20.52, "temperature {temperature}: chi-square {chi_square}");
    }
}

#[test]
fn top_k_keeps_the_likeliest_and_of_equal_ones_the_lowest() {
    let row = [1.0, 1.0, 2.0, 1.0, 0.0];
    assert_eq!(support(&row, &SamplingParams { top_k: 2, ..plain() }), [0, 2]);
    assert_eq!(support(&row, &SamplingParams { top_k: usize::MAX, ..plain() }), [0, 1, 2, 3, 4]);
}

#[test]
fn top_p_keeps_the_token_that_reaches_it() {
    let row = logits_of(&[0.04, 0.5, 0.16, 0.3]);
    for (top_p, kept) in [(0.4, vec![1]), (0.6, vec![1, 3]), (0.9, vec![1, 2, 3]), (0.97, vec![0, 1, 2, 3])] {
        assert_eq!(support(&row, &SamplingParams { top_p, ..plain() }), kept, "top_p {top_p}");
    }
    assert_eq!(support(&row, &SamplingParams { top_p: f32::MIN_POSITIVE, ..plain() }), [1]);
}

#[test]
fn top_p_counts_what_top_k_left() {
    let row = logits_of(&[0.4, 0.3, 0.2, 0.1]);
    // 0.4 of 0.7 is more than 0.55, and 0.4 of 1 is less.
    assert_eq!(support(&row, &SamplingParams { top_k: 2, top_p: 0.55, ..plain() }), [0]);
    assert_eq!(support(&row, &SamplingParams { top_p: 0.55, ..plain() }), [0, 1]);
}

#[test]
fn min_p_is_relative_to_the_likeliest_before_the_temperature() {
    let row = logits_of(&[0.04, 0.5, 0.16, 0.3]);
    for temperature in [0.5, 3.0] {
        let params = |min_p| SamplingParams { min_p, temperature, ..plain() };
        assert_eq!(support(&row, &params(0.1)), [1, 2, 3]);
        assert_eq!(support(&row, &params(1.0)), [1]);
    }
}

#[test]
fn the_repetition_penalty_moves_logits_of_either_sign_down() {
    let params = SamplingParams { repeat_penalty: 2.0, ..plain() };
    assert_eq!(greedy(&[3.0, 1.6], &[0], &params), 1);
    assert_eq!(greedy(&[3.0, 1.4], &[0], &params), 0);
    assert_eq!(greedy(&[-1.0, -1.9], &[0], &params), 1);
    assert_eq!(greedy(&[-1.0, -2.1], &[0], &params), 0);
}

#[test]
fn presence_counts_once_and_frequency_every_time() {
    let presence = SamplingParams { presence_penalty: 1.0, ..plain() };
    let frequency = SamplingParams { frequency_penalty: 1.0, ..plain() };
    let row = [3.0, 1.5];
    assert_eq!(greedy(&row, &[0, 0], &presence), 0);
    assert_eq!(greedy(&row, &[0], &frequency), 0);
    assert_eq!(greedy(&row, &[0, 0], &frequency), 1);
}

#[test]
fn penalties_see_the_last_tokens_only() {
    let params = |repeat_last_n| SamplingParams { presence_penalty: 9.0, repeat_last_n, ..plain() };
    let history = [0, 1, 1];
    assert_eq!(greedy(&[2.0, 1.0, 0.0], &history, &params(0)), 0);
    assert_eq!(greedy(&[2.0, 1.0, 0.0], &history, &params(2)), 0);
    assert_eq!(greedy(&[2.0, 1.0, 0.0], &history, &params(3)), 2);
    assert_eq!(greedy(&[2.0, 1.0, 0.0], &history, &params(usize::MAX)), 2);
}

#[test]
fn a_bias_moves_and_excludes_tokens() {
    let biased =
        |bias: &[(u32, f32)]| SamplingParams { logit_bias: bias.iter().copied().collect(), ..plain() };
    assert_eq!(greedy(&[0.0, 1.0], &[], &biased(&[(0, 1.5)])), 0);
    assert_eq!(support(&[5.0, 1.0, 1.0], &biased(&[(0, f32::NEG_INFINITY)])), [1, 2]);
    assert_eq!(greedy(&[5.0, 1.0], &[], &biased(&[(0, f32::NEG_INFINITY)])), 1);
}

#[test]
fn penalties_come_before_the_bias() {
    let params = SamplingParams { repeat_penalty: 2.0, logit_bias: [(0, 1.0)].into(), ..plain() };
    assert_eq!(greedy(&[2.0, 1.9], &[0], &params), 0);
    assert_eq!(greedy(&[2.0, 2.1], &[0], &params), 1);
}

#[test]
fn a_bias_that_excludes_every_token_is_an_error() {
    let all = [(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)];
    for temperature in [0.0, 1.0] {
        let params = SamplingParams { logit_bias: all.into(), temperature, ..plain() };
        let result = Sampler::default().pick(&[1.0, 2.0], &[], &params, &mut Rng::new(0));
        assert!(matches!(result, Err(Error::NoCandidate)));
    }
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let row = [0.0, value, 1.0];
        let pick =
            Sampler::default().pick(&row, &[], &SamplingParams::greedy(), &mut Rng::new(0)).unwrap_err();
        let score = Sampler::default().score(&row, 0, 1).unwrap_err();
        assert!(matches!(pick, Error::LogitNotFinite { token: 1, .. }));
        assert!(matches!(score, Error::LogitNotFinite { token: 1, .. }));
    }
}

#[test]
fn parameters_without_meaning_are_refused_by_name() {
    let d = SamplingParams::default;
    let biased = |bias| SamplingParams { logit_bias: [(0, bias)].into(), ..d() };
    let refused = [
        (SamplingParams { temperature: -0.1, ..d() }, "temperature: expected a finite number >= 0, got -0.1"),
        (SamplingParams { temperature: f32::NAN, ..d() }, "temperature"),
        (SamplingParams { temperature: f32::INFINITY, ..d() }, "temperature"),
        (SamplingParams { top_p: 0.0, ..d() }, "top_p: expected a number in (0, 1], got 0"),
        (SamplingParams { top_p: 1.1, ..d() }, "top_p"),
        (SamplingParams { min_p: -0.1, ..d() }, "min_p"),
        (SamplingParams { min_p: f32::NAN, ..d() }, "min_p"),
        (SamplingParams { repeat_penalty: 0.0, ..d() }, "repeat_penalty"),
        (SamplingParams { presence_penalty: f32::NAN, ..d() }, "presence_penalty"),
        (SamplingParams { frequency_penalty: f32::NEG_INFINITY, ..d() }, "frequency_penalty"),
        (biased(f32::INFINITY), "logit_bias"),
        (biased(f32::NAN), "logit_bias"),
    ];
    for (params, message) in refused {
        let error = params.validate().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    d().validate().unwrap();
    biased(f32::NEG_INFINITY).validate().unwrap();
}

#[test]
fn scores_are_log_probabilities_best_first() {
    let row = logits_of(&[0.1, 0.6, 0.1, 0.2]);
    let (score, top) = Sampler::default().score(&row, 3, 3).unwrap();
    assert!((score.logprob - 0.2f64.ln()).abs() < 1e-6);
    assert_eq!(top.iter().map(|t| t.token).collect::<Vec<_>>(), [1, 3, 0]);
    assert_eq!(top[1], score);
}

#[test]
fn scores_of_extreme_logits_are_finite_and_exact() {
    let score = |row: &[f32], token| Sampler::default().score(row, token, 0).unwrap().0.logprob;
    assert_eq!(score(&[f32::MAX, f32::MIN], 0), 0.0);
    assert_eq!(score(&[-1e30, -1e30, f32::MIN], 1), score(&[1e30, 1e30, f32::MIN], 1));
    assert!((score(&[7.0; 1000], 5) + 1000f64.ln()).abs() < 1e-12);
}

/// The rules written as plainly as possible: sort everything, then cut.
fn reference(row: &[f32], params: &SamplingParams, rng: &mut Rng) -> u32 {
    let mut ranked: Vec<(u32, f64)> = (0..).zip(row.iter().map(|&logit| f64::from(logit))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(if params.top_k == 0 { row.len() } else { params.top_k });
    let max = ranked[0].1;
    let weight = |logit: f64| (logit - max).exp();
    let enough = f64::from(params.top_p) * ranked.iter().map(|c| weight(c.1)).sum::<f64>();
    let mut sum = 0.0;
    ranked.retain(|c| {
        let kept = sum < enough || params.top_p == 1.0;
        sum += weight(c.1);
        kept
    });
    ranked.retain(|c| weight(c.1) >= f64::from(params.min_p));
    let weights: Vec<_> =
        ranked.iter().map(|c| ((c.1 - max) / f64::from(params.temperature)).exp()).collect();
    let mut left = rng.next_f64() * weights.iter().sum::<f64>();
    for (candidate, weight) in ranked.iter().zip(weights) {
        if left < weight {
            return candidate.0;
        }
        left -= weight;
    }
    panic!("the weights are exhausted")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sorting_no_further_than_needed_changes_no_pick(
        // Quarters make ties frequent.
        row in prop::collection::vec((-24i32..24).prop_map(|l| l as f32 / 4.0), 1..1000),
        temperature in 0.1f32..3.0,
        top_k in prop_oneof![Just(0), 1..60usize, Just(usize::MAX)],
        top_p in prop_oneof![Just(1.0f32), 0.05f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..0.5],
        seed: u64,
    ) {
        let params = SamplingParams { temperature, top_k, top_p, min_p, seed, ..plain() };
        let mut rng = Rng::new(seed);
        let expected: Vec<_> = (0..4).map(|_| reference(&row, &params, &mut rng)).collect();
        prop_assert_eq!(picks(&row, &[], &params, 4), expected);
    }

    #[test]
    fn any_legal_parameters_pick_a_token_that_is_not_excluded(
        row in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL, 2..200),
        history in prop::collection::vec(0..2u32, 0..100),
        temperature in prop_oneof![Just(0.0), Just(f32::MIN_POSITIVE), Just(f32::MAX), 0.0f32..5.0],
        repeat_penalty in prop_oneof![Just(1e-40), Just(f32::MAX), 0.1f32..5.0],
        presence_penalty in prop::num::f32::NORMAL,
        frequency_penalty in prop::num::f32::NORMAL,
        bias in prop::num::f32::NORMAL,
        top_k in 0..300usize,
        min_p in 0.0f32..=1.0,
    ) {
        let params = SamplingParams {
            temperature, top_k, min_p, repeat_penalty, presence_penalty, frequency_penalty,
            logit_bias: [(0, f32::NEG_INFINITY), (1, bias)].into(),
            ..SamplingParams::default()
        };
        params.validate().unwrap();
        for token in picks(&row, &history, &params, 5) {
            prop_assert!((1..row.len() as u32).contains(&token));
        }
    }

    #[test]
    fn probabilities_of_all_tokens_add_up_to_one(row in prop::collection::vec(-50.0f32..50.0, 1..300)) {
        let mut sampler = Sampler::default();
        let sum: f64 = (0..row.len() as u32)
            .map(|token| sampler.score(&row, token, 0).unwrap().0.logprob.exp())
            .sum();
        prop_assert!((sum - 1.0).abs() < 1e-12, "sum {sum}");
    }
}
