//! The decoder that is trained is the decoder that is shipped.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_core::{DType, Device, Tensor, ops, ops::cache::CacheType};
use bitnet_model::{
    Checkpoint, Decoder,
    batch::{Batch, Logits},
    checkpoint::Options,
    layers::{ActivationCodes, Quantization, WeightCodes},
};
use common::{Goldens, Sequence, devices, testdata};

const MASTERS: &str = "bitnet-online-bf16";

fn latent(path: &str, device: &Device) -> Decoder {
    Checkpoint::open(testdata(path), Options::default())
        .unwrap()
        .latent(Quantization::BITNET, device)
        .unwrap()
}

/// Logits of whole sequences, as training computes them.
fn logits(decoder: &Decoder, sequences: &[&[u32]]) -> Vec<f32> {
    let mut batch = Batch::default();
    sequences.iter().for_each(|tokens| batch.push(tokens, 0, Vec::new(), Logits::All));
    let hidden = decoder.forward(&batch, None).unwrap();
    decoder.logits(&batch, &hidden).unwrap().to_vec::<f32>().unwrap()
}

fn deviation(x: &[f32]) -> f32 {
    let mean = x.iter().sum::<f32>() / x.len() as f32;
    (x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / x.len() as f32).sqrt()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn masters_predict_what_transformers_predicts() {
    let goldens = Goldens::open(&format!("{MASTERS}/golden.safetensors"));
    for device in devices() {
        let decoder = latent(MASTERS, &device);
        for prompt in 0..5 {
            let tokens = goldens.ids(&format!("s{prompt}.input_ids"));
            let expected = goldens.floats(&format!("s{prompt}.logits"));
            let off = furthest(&logits(&decoder, &[&tokens]), &expected) / deviation(&expected);
            assert!(off <= 1e-5, "{device:?}, s{prompt}: {off:e} of the spread");
        }
    }
}

#[test]
fn frozen_weights_predict_what_they_did_in_training() {
    let goldens = Goldens::open(&format!("{MASTERS}/golden.safetensors"));
    for device in devices() {
        let trained = latent(MASTERS, &device);
        let frozen = trained.freeze().unwrap();
        let shipped = common::load(MASTERS, &device);
        for prompt in 0..5 {
            let tokens = goldens.ids(&format!("s{prompt}.input_ids"));
            let expected = logits(&trained, &[&tokens]);
            let got = Sequence::new(&frozen, CacheType::F32).forward(&tokens);
            assert!(furthest(&got, &expected) <= 1e-5 * deviation(&expected), "{device:?}, s{prompt}");
            let loaded = Sequence::new(&shipped, CacheType::F32).forward(&tokens);
            assert!(furthest(&got, &loaded) <= 1e-6 * deviation(&expected), "{device:?}, s{prompt}");
        }
    }
}

#[test]
fn sequences_of_a_batch_do_not_see_each_other() {
    let device = Device::open("cpu", Some(2)).unwrap();
    let decoder = latent(MASTERS, &device);
    let (a, b): (Vec<u32>, Vec<u32>) = ((10..17).collect(), (40..60).collect());
    let together = logits(&decoder, &[&a, &b, &a]);
    let alone = [logits(&decoder, &[&a]), logits(&decoder, &[&b]), logits(&decoder, &[&a])].concat();
    assert!(furthest(&together, &alone) <= 1e-5 * deviation(&alone));
}

/// The gradient that training needs reaches every weight.
#[test]
fn every_weight_has_a_gradient_and_a_name_of_transformers() {
    let device = Device::open("cpu", Some(1)).unwrap();
    let mut decoder = latent(MASTERS, &device);
    let mut leaves: Vec<(String, Tensor)> = Vec::new();
    decoder
        .params(&mut |name, w| {
            *w = w.trainable()?;
            leaves.push((name.to_owned(), w.clone()));
            Ok::<(), bitnet_core::Error>(())
        })
        .unwrap();
    let source = Checkpoint::open(testdata(MASTERS), Options::default()).unwrap();
    let bitnet_model::weights::Source::Folder(folder) = source.source() else { panic!("a folder") };
    let mut names: Vec<&str> = folder.names().filter(|name| *name != "lm_head.weight").collect();
    let mut ours: Vec<&str> = leaves.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, names);

    let mut batch = Batch::default();
    batch.push(&[5, 6, 7, 8], 0, Vec::new(), Logits::All);
    let hidden = decoder.forward(&batch, None).unwrap();
    let losses = ops::cross_entropy(&decoder.logits(&batch, &hidden).unwrap(), &[6, 7, 8, 9]).unwrap();
    let gradients = losses.sum((), false).unwrap().backward().unwrap();
    for (name, leaf) in &leaves {
        let gradient = gradients.of(leaf).unwrap();
        assert_eq!(gradient.dims(), leaf.dims(), "{name}");
        assert!(gradient.to_vec::<f32>().unwrap().iter().any(|x| *x != 0.0), "{name}");
    }
}

#[test]
fn lambda_goes_from_floats_to_codes() {
    let device = Device::open("cpu", Some(1)).unwrap();
    let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    let mut decoder = latent(MASTERS, &device);
    let rounded = logits(&decoder, &[&tokens]);
    decoder.set_lambda(0.0);
    let floats = logits(&decoder, &[&tokens]);
    let source = Checkpoint::open(testdata(MASTERS), Options::default()).unwrap();
    let plain = logits(&source.latent(Quantization::OFF, &device).unwrap(), &[&tokens]);
    assert!(furthest(&floats, &plain) <= 1e-4 * deviation(&plain));
    assert!(furthest(&floats, &rounded) > 0.01 * deviation(&plain));
    decoder.set_lambda(1.0);
    assert_eq!(logits(&decoder, &[&tokens]), rounded);
}

#[test]
fn what_has_no_packed_form_is_not_frozen() {
    let device = Device::open("cpu", Some(1)).unwrap();
    let source = Checkpoint::open(testdata(MASTERS), Options::default()).unwrap();
    for quantization in [
        Quantization { weights: WeightCodes::Group(128), ..Quantization::BITNET },
        Quantization { activations: ActivationCodes::Off, ..Quantization::BITNET },
    ] {
        let error = source.latent(quantization, &device).unwrap().freeze().unwrap_err();
        assert!(error.to_string().contains("packed form"), "{error}");
    }
}

#[test]
fn a_span_in_the_middle_needs_a_cache() {
    let device = Device::open("cpu", Some(1)).unwrap();
    let mut batch = Batch::default();
    batch.push(&[1], 3, Vec::new(), Logits::All);
    assert!(latent(MASTERS, &device).forward(&batch, None).unwrap_err().to_string().contains("cache"));
}

#[test]
fn random_weights_follow_their_seed() {
    let device = Device::open("cpu", Some(1)).unwrap();
    let source = Checkpoint::open(testdata(MASTERS), Options::default()).unwrap();
    let random = |seed| Decoder::random(source.config(), Quantization::OFF, &device, seed).unwrap();
    let tokens = [1, 2, 3];
    assert_eq!(logits(&random(1), &[&tokens]), logits(&random(1), &[&tokens]));
    assert_ne!(logits(&random(1), &[&tokens]), logits(&random(2), &[&tokens]));
    random(1)
        .params(&mut |name, w| {
            assert_eq!(w.dtype(), DType::F32, "{name}");
            Ok::<(), bitnet_core::Error>(())
        })
        .unwrap();
}
