//! A copy of the ternary weights in triples changes no bit of what a model says.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Device, PackedTensor, Tensor, ops::cache::CacheType};
use bitnet_inference::{Engine, EngineOptions, Event, Request, local::LocalModel, triples};
use bitnet_model::{Checkpoint, Decoder, checkpoint::Options, layers::Linear};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

fn open(model: &str, device: &Device) -> Decoder {
    let path = format!("{}/../../testdata/{model}", env!("CARGO_MANIFEST_DIR"));
    Checkpoint::open(path, Options::default()).unwrap().decoder(device, &|_| {}).unwrap()
}

/// Tokens that follow a prompt, with the bits of their scores.
fn text(decoder: Decoder) -> Vec<(u32, u64)> {
    let model = LocalModel::new(decoder, 64, CacheType::default()).unwrap();
    let mut engine = Engine::new(model, EngineOptions::default()).unwrap();
    let request =
        Request { tokens: vec![3, 5, 8], max_tokens: Some(24), logprobs: Some(2), ..Request::default() };
    engine.submit(request).unwrap();
    let mut said = Vec::new();
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            if let Event::Token { token, logprob, .. } = event {
                said.push((token, logprob.unwrap().to_bits()));
            }
        }
    }
    said
}

#[test]
fn a_code_of_three_is_refused_with_the_name_of_its_tensor() {
    let device = Device::open("cpu/scalar", Some(2)).unwrap();
    let mut decoder = open("bitnet-packed", &device);
    let Linear::Ternary(down) = &decoder.layers[1].mlp.down else { panic!("the model is ternary") };
    let mut bytes = down.data().to_vec::<u8>().unwrap();
    bytes[7] |= 3;
    let data = Tensor::from_slice(&device, [bytes.len()], &bytes).unwrap();
    let scales = down.scales().unwrap().clone();
    let damaged = PackedTensor::ternary(down.rows(), down.cols(), data, scales).unwrap();
    decoder.layers[1].mlp.down = Linear::Ternary(damaged);
    let error = triples::copy(&mut decoder, &|_, _| {}).unwrap_err().to_string();
    assert!(error.contains("model.layers.1.mlp.down_proj.weight"), "{error}");
    assert!(error.contains("byte 7 holds code 3"), "{error}");
}

#[test]
fn a_copy_changes_no_bit() {
    for model in ["bitnet-packed", "llama-packed"] {
        for name in ["auto", "cpu/scalar"] {
            let device = Device::open(name, Some(2)).unwrap();
            let plain = open(model, &device);
            let mut copied = plain.clone();
            let (needed, shown) = (copied.triples_bytes(), AtomicU64::new(0));
            let note = triples::copy(&mut copied, &|done, all| {
                assert_eq!(all, needed as u64);
                shown.fetch_max(done, Relaxed);
            });
            let note = note.unwrap();
            assert_eq!(copied.weight_bytes(), plain.weight_bytes());
            assert_eq!(copied.decode_bytes(2), plain.decode_bytes(2));
            if device.backend().takes_triples() {
                assert_eq!(shown.into_inner(), needed as u64);
                assert!(note.contains("reads a copy"), "{note}");
                assert_ne!(copied.decode_bytes(1), plain.decode_bytes(1));
            } else {
                assert!(note.contains("no copy for decoding"), "{note}");
                assert_eq!(copied.decode_bytes(1), plain.decode_bytes(1));
            }
            assert_eq!(text(copied), text(plain), "{model} on {name}");
        }
    }
}
