//! A step holds what it needs and little more.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Device, Tensor, ops};
use bitnet_model::{
    Config, Decoder,
    batch::{Batch, Logits},
    layers::Quantization,
};
use bitnet_training::{Error, RunConfig, data::Windows, parallel::Team};
use std::path::Path;

/// The small character-level configuration.
fn config() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/shakespeare-char.toml");
    RunConfig::read(&path, &[]).unwrap().shape(65).unwrap()
}

fn windows(count: usize) -> Windows {
    let (mut batch, mut targets) = (Batch::default(), Vec::new());
    for window in 0..count as u32 {
        let ids: Vec<u32> = (0..65).map(|i| (window * 31 + i * i * 7) % 65).collect();
        batch.push(&ids[..64], 0, Vec::new(), Logits::All);
        targets.extend(ids[1..].iter().map(|&id| i64::from(id)));
    }
    Windows { batch, targets }
}

/// Bytes that are live after a forward pass whose gradients are still to be found, without the weights.
fn saved(decoder: &Decoder, windows: &Windows) -> usize {
    let pool = decoder.device().pool().clone();
    let before = pool.stats().live;
    let mut model = decoder.clone();
    model
        .params(&mut |_, w| {
            *w = w.trainable()?;
            Ok::<(), Error>(())
        })
        .unwrap();
    let hidden = model.forward(&windows.batch, None).unwrap();
    let logits = model.logits(&windows.batch, &hidden).unwrap();
    let losses = ops::cross_entropy(&logits, &windows.targets).unwrap();
    drop((hidden, logits));
    let live = pool.stats().live - before;
    drop(losses);
    live
}

/// The most that is live while gradients are found, and what is needed for them: weights, gradients and what was saved.
fn peak(recompute: bool) -> [usize; 2] {
    let device = Device::open("cpu", Some(1)).unwrap();
    let mut decoder = Decoder::random(&config(), Quantization::BITNET, &device, 1).unwrap();
    decoder.recompute = recompute;
    let windows = windows(12);
    let weights = device.pool().stats().live;
    let saved = saved(&decoder, &windows);
    device.pool().reset_peak();
    let found = Team::new(1).unwrap().gradients(&decoder, None, &[windows], 1e-3).unwrap();
    let gradients: usize = found.gradients.iter().map(Tensor::bytes).sum();
    [device.pool().stats().peak, weights + gradients + saved]
}

#[test]
fn a_step_takes_weights_gradients_and_what_was_saved_and_at_most_a_fifth_more() {
    let [peak, needed] = peak(false);
    assert!(peak as f64 <= 1.2 * needed as f64, "{peak} bytes, {needed} needed");
}

#[test]
fn computing_layers_again_takes_half_the_memory() {
    let ([kept, _], [again, _]) = (peak(false), peak(true));
    assert!(again < kept / 2, "{again} bytes instead of {kept}");
}
