//! Five steps of AdamW on transformers' BitNetForCausalLM with online quantization (`testdata/train/bitnet_train_steps`).

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_core::{Device, Tensor, ops::cross_entropy::IGNORED};
use bitnet_model::{
    Decoder,
    arch::hf::HfConfig,
    batch::{Batch, Logits},
    layers::Quantization,
};
use bitnet_training::{
    Error,
    data::Windows,
    optim::{Adam, Rule, State, Update},
    parallel::{Team, norm},
};
use common::{Goldens, testdata};

/// The decoder of the goldens with their initial weights.
fn decoder(golden: &Goldens, device: &Device) -> Decoder {
    let text = std::fs::read_to_string(testdata("bitnet_train_steps.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let config = HfConfig::parse(&all["config"].to_string()).unwrap().config;
    let mut decoder = Decoder::random(&config, Quantization::BITNET, device, 0).unwrap();
    decoder
        .params(&mut |name, w| {
            *w = golden.tensor(device, &format!("init.{name}"));
            Ok::<(), Error>(())
        })
        .unwrap();
    decoder
}

/// The sequences of a step. A position predicts the token after it, the last one nothing.
fn windows(golden: &Goldens, step: usize) -> Windows {
    let (shape, ids) = golden.values("input_ids");
    let (_, labels) = golden.values("labels");
    let (batch_len, len) = (shape[1], shape[2]);
    let (mut batch, mut targets) = (Batch::default(), Vec::new());
    for row in 0..batch_len {
        let first = (step * batch_len + row) * len;
        let tokens: Vec<u32> = ids[first..first + len].iter().map(|&id| id as u32).collect();
        batch.push(&tokens, 0, Vec::new(), Logits::All);
        targets.extend(labels[first + 1..first + len].iter().map(|&id| id as i64).chain([IGNORED]));
    }
    Windows { batch, targets }
}

fn run(device: &Device, team: &Team, recompute: bool) -> Vec<(String, Tensor)> {
    let golden = Goldens::read("bitnet_train_steps.safetensors");
    let (losses, norms) = (golden.values("loss.f64").1, golden.values("grad_norm.f64").1);
    let rule = Rule::AdamW(Adam { beta1: 0.9, beta2: 0.95, eps: 1e-8 });
    let mut decoder = decoder(&golden, device);
    decoder.recompute = recompute;
    let mut states: Vec<State> = Vec::new();
    let mut names = Vec::new();
    decoder
        .params(&mut |name, w| {
            names.push(name.to_owned());
            states.push(rule.state(w, false)?);
            Ok::<(), Error>(())
        })
        .unwrap();
    for step in 0..losses.len() {
        let windows = windows(&golden, step);
        let counted = windows.counted() as f64;
        let found = team.gradients(&decoder, None, &[windows], 1.0 / counted).unwrap();
        let (loss, total) = (found.loss / counted, norm(&found.gradients).unwrap());
        assert!((loss / losses[step] - 1.0).abs() < 1e-5, "step {step}: loss {loss}, not {}", losses[step]);
        assert!((total / norms[step] - 1.0).abs() < 1e-5, "step {step}: norm {total}, not {}", norms[step]);
        if step == 0 {
            for (name, gradient) in names.iter().zip(&found.gradients) {
                let off = golden.distance(&format!("grad0.{name}"), gradient);
                assert!(off <= 1e-5, "gradient of {name}: {off:e}");
            }
        }
        let scale = (1.0 / (total + 1e-6)).min(1.0) as f32;
        let mut rest = states.iter_mut().zip(&found.gradients);
        decoder
            .params(&mut |_, w| {
                let (state, gradient) = rest.next().unwrap();
                let weight_decay = if w.shape().rank() > 1 { 0.1 } else { 0.0 };
                let update = Update { step: step as u32 + 1, lr: 1e-3, weight_decay, gradient_scale: scale };
                rule.update(w, gradient, state, update, false)
            })
            .unwrap();
    }
    let mut last = Vec::new();
    decoder
        .params(&mut |name, w| {
            let off = golden.distance(&format!("final.{name}"), w);
            assert!(off <= 1e-5, "{name} after all steps: {off:e}");
            last.push((name.to_owned(), w.clone()));
            Ok::<(), Error>(())
        })
        .unwrap();
    last
}

#[test]
fn losses_gradients_and_weights_are_those_of_transformers() {
    let tiers = Device::names().into_iter().filter(|name| name.starts_with("cpu/"));
    for name in tiers {
        run(&Device::open(&name, Some(2)).unwrap(), &Team::new(1).unwrap(), false);
    }
}

#[test]
fn computing_layers_again_changes_no_bit() {
    let bits = |recompute| {
        let device = Device::open("cpu", Some(1)).unwrap();
        let last = run(&device, &Team::new(1).unwrap(), recompute);
        last.into_iter().map(|(_, w)| w.to_vec::<f32>().unwrap()).collect::<Vec<_>>()
    };
    assert!(bits(true) == bits(false));
}
