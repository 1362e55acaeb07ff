//! Tiny models against the numbers of transformers, on every tier. Rules and their reasons: the fixtures' measured noise.
//!
//! *Stable* prompts have no activation near a rounding boundary, so every right f32 evaluation agrees to 2e-6 of the logits'
//! spread; 1e-5 is asked for. *Text* prompts may cross a boundary and get wide bounds that only gross mistakes break.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_core::ops::cache::CacheType;
use bitnet_model::{Decoder, checkpoint::Options};
use bitnet_quant::Format;
use common::{Goldens, Sequence, devices, load, load_with};

/// Of the standard deviation of the golden logits.
const STABLE: f32 = 1e-5;
const TEXT_RMS: f64 = 0.04;
const TEXT_MAX: f32 = 0.25;
const TEXT_KL: f64 = 0.06;

fn spread(x: &[f32]) -> f32 {
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / x.len() as f64;
    variance.sqrt() as f32
}

fn max_difference(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).fold(0f32, |max, (x, y)| max.max((x - y).abs()))
}

fn relative_rms(x: &[f32], golden: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let noise: f64 = x.iter().zip(golden).map(|(x, y)| square(x - y)).sum();
    (noise / golden.iter().map(|&y| square(y)).sum::<f64>()).sqrt()
}

fn probabilities(row: &[f32]) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = row.iter().map(|&x| f64::from(x - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|p| p / sum).collect()
}

/// Largest Kullback-Leibler divergence of a position.
fn divergence(x: &[f32], golden: &[f32], vocab: usize) -> f64 {
    let row = |(x, golden): (&[f32], &[f32])| -> f64 {
        let (p, q) = (probabilities(golden), probabilities(x));
        p.iter().zip(&q).map(|(p, q)| if *p > 0.0 { p * (p / q).ln() } else { 0.0 }).sum()
    };
    x.chunks(vocab).zip(golden.chunks(vocab)).map(row).fold(0.0, f64::max)
}

fn check(decoder: &Decoder, goldens: &Goldens, what: &str) {
    let logits = |ids: &[u32]| Sequence::new(decoder, CacheType::F32).forward(ids);
    for prompt in (0..5).map(|i| format!("s{i}")) {
        let golden = goldens.floats(&format!("{prompt}.logits"));
        let got = logits(&goldens.ids(&format!("{prompt}.input_ids")));
        let (difference, bound) = (max_difference(&got, &golden), STABLE * spread(&golden));
        assert!(difference <= bound, "{what}, {prompt}: {difference:e} is more than {bound:e}");
    }
    for prompt in (0..4).map(|i| format!("p{i}")) {
        let golden = goldens.floats(&format!("{prompt}.logits"));
        let ids = goldens.ids(&format!("{prompt}.input_ids"));
        let got = logits(&ids);
        let rms = relative_rms(&got, &golden);
        assert!(rms <= TEXT_RMS, "{what}, {prompt}: relative RMS {rms}");
        let difference = max_difference(&got, &golden) / spread(&golden);
        assert!(difference <= TEXT_MAX, "{what}, {prompt}: {difference} of the spread");
        let kl = divergence(&got, &golden, decoder.config.vocab_size);
        assert!(kl <= TEXT_KL, "{what}, {prompt}: KL {kl}");
        if goldens.has(&format!("{prompt}.greedy_ids")) {
            let greedy = Sequence::new(decoder, CacheType::F32).greedy(&ids, 32);
            assert_eq!(greedy, goldens.ids(&format!("{prompt}.greedy_ids")), "{what}, {prompt}");
        }
    }
}

fn check_on_every_tier(model: &str, goldens: &str) {
    let goldens = Goldens::open(goldens);
    for device in devices() {
        check(&load(model, &device), &goldens, &format!("{model} on {}", device.name()));
    }
}

#[test]
fn a_folder_of_masters_is_quantized_as_transformers_does_online() {
    check_on_every_tier("bitnet-online-bf16", "bitnet-online-bf16/golden.safetensors");
}

#[test]
fn a_packed_folder_whose_scale_multiplies() {
    check_on_every_tier("bitnet-packed", "bitnet-packed/golden.safetensors");
}

#[test]
fn a_packed_folder_whose_scale_divides() {
    check_on_every_tier("llama-packed", "llama-packed/golden.safetensors");
}

#[test]
fn i2_s_of_a_bitnet_holds_the_numbers_of_its_masters() {
    check_on_every_tier("gguf-bitnet/bitnet-i2_s.gguf", "bitnet-online-bf16/golden.safetensors");
}

#[test]
fn i2_s_of_a_llama_holds_the_numbers_of_its_folder() {
    check_on_every_tier("gguf-llama/llama-i2_s.gguf", "llama-packed/golden.safetensors");
}

#[test]
fn tq1_0_of_a_bitnet() {
    check_on_every_tier("gguf-bitnet/bitnet-tq1_0.gguf", "gguf-bitnet/expected_tq.safetensors");
}

#[test]
fn tq2_0_of_a_bitnet() {
    check_on_every_tier("gguf-bitnet/bitnet-tq2_0.gguf", "gguf-bitnet/expected_tq.safetensors");
}

#[test]
fn tq2_0_of_a_llama() {
    check_on_every_tier("gguf-llama/llama-tq2_0.gguf", "gguf-llama/expected_tq.safetensors");
}

#[test]
fn i2_s_in_the_arm_order_when_it_is_asked_for() {
    let goldens = Goldens::open("bitnet-online-bf16/golden.safetensors");
    let options = Options { i2s_layout: Some(Format::I2SArm), ..Options::default() };
    for device in devices() {
        check(&load_with("gguf-bitnet/bitnet-i2_s-arm.gguf", options, &device), &goldens, "arm");
    }
}
