//! Optimizers and schedules against PyTorch and transformers (`testdata/train`).

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_core::{Device, Tensor};
use bitnet_training::{
    optim::{Adam, Muon, Rule, Sgd, Update},
    parallel::norm,
    schedule::{Schedule, Shape},
};
use common::{Goldens, testdata};
use serde_json::Value;

/// Five steps on two weights, compared after each.
fn check(name: &str, rule: &Rule, (lr, weight_decay): (f64, f64)) {
    let golden = Goldens::read("optim.safetensors");
    for device in ["cpu/scalar", "cpu"].map(|name| Device::open(name, Some(2)).unwrap()) {
        for weight in ["p0", "p1"] {
            let mut w = golden.tensor(&device, &format!("{weight}.init"));
            let mut state = rule.state(&w, false).unwrap();
            for step in 0..5 {
                let g = golden.tensor(&device, &format!("{weight}.grad{step}"));
                let update = Update { step: step + 1, lr, weight_decay, gradient_scale: 1.0 };
                rule.update(&mut w, &g, &mut state, update, false).unwrap();
                golden.expect(&format!("{name}.{weight}.step{step}.f64"), &w, 2e-6);
            }
            for (part, x) in &state.0 {
                golden.expect(&format!("{name}.{weight}.state.{part}.f64"), x, 2e-6);
            }
        }
    }
}

/// The settings that the goldens were made with.
fn settings(name: &str) -> Value {
    let text = std::fs::read_to_string(testdata("optim.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].clone()
}

fn number(settings: &Value, key: &str) -> f64 {
    settings[key].as_f64().unwrap_or(0.0)
}

#[test]
fn adam_and_adamw_are_those_of_pytorch() {
    for name in ["adamw", "adamw_no_decay", "adam", "adam_l2"] {
        let s = settings(name);
        let adam = Adam {
            beta1: s["betas"][0].as_f64().unwrap(),
            beta2: s["betas"][1].as_f64().unwrap(),
            eps: number(&s, "eps"),
        };
        let rule = if s["class"] == "AdamW" { Rule::AdamW(adam) } else { Rule::Adam(adam) };
        check(name, &rule, (number(&s, "lr"), number(&s, "weight_decay")));
    }
}

#[test]
fn gradient_descent_is_that_of_pytorch() {
    for name in ["sgd", "sgd_momentum", "sgd_dampening", "sgd_nesterov"] {
        let s = settings(name);
        let sgd = Sgd {
            momentum: number(&s, "momentum"),
            dampening: number(&s, "dampening"),
            nesterov: s["nesterov"].as_bool().unwrap_or(false),
        };
        check(name, &Rule::Sgd(sgd), (number(&s, "lr"), number(&s, "weight_decay")));
    }
}

#[test]
fn muon_is_its_definition_in_float64() {
    let golden = Goldens::read("muon.safetensors");
    let device = Device::open("cpu", Some(2)).unwrap();
    for shape in ["wide", "tall", "square"] {
        let rule = Rule::Muon(Muon::default());
        let mut w = golden.tensor(&device, &format!("{shape}.init"));
        let mut state = rule.state(&w, true).unwrap();
        for step in 0..5 {
            let g = golden.tensor(&device, &format!("{shape}.grad{step}"));
            let update = Update { step: step + 1, lr: 0.02, weight_decay: 0.1, gradient_scale: 1.0 };
            rule.update(&mut w, &g, &mut state, update, true).unwrap();
            golden.expect(&format!("{shape}.step{step}"), &w, 1e-5);
        }
    }
}

#[test]
fn gradients_are_clipped_by_their_norm_as_in_pytorch() {
    let golden = Goldens::read("ops.safetensors");
    let device = Device::open("cpu", Some(1)).unwrap();
    let gradients: Vec<Tensor> = ["clip.grad0", "clip.grad1"].map(|name| golden.tensor(&device, name)).into();
    let norm = norm(&gradients).unwrap();
    let expected = golden.values("clip.norm.f64").1[0];
    assert!((norm / expected - 1.0).abs() < 1e-6, "{norm}, not {expected}");
    let scale = (1.0 / (norm + 1e-6)).min(1.0);
    for (i, g) in gradients.iter().enumerate() {
        golden.expect(&format!("clip.out{i}.f64"), &g.mul_scalar(scale).unwrap(), 2e-6);
    }
}

fn check_schedule(name: &str, schedule: &Schedule, total: u64) {
    let (_, expected) = Goldens::read("schedules.safetensors").values(name);
    for (step, expected) in expected.iter().enumerate() {
        let rates = schedule.at(step as u64, total);
        let got = if name.ends_with("weight_decay") { rates.weight_decay } else { rates.lr };
        assert!((got - expected).abs() <= 1e-12, "{name}, step {step}: {got}, not {expected}");
    }
}

#[test]
fn schedules_are_those_of_transformers() {
    let text = std::fs::read_to_string(testdata("schedules.json")).unwrap();
    let s: Value = serde_json::from_str(&text).unwrap();
    let (lr, warmup) = (number(&s, "lr"), s["warmup"].as_u64().unwrap());
    let (total, min_lr) = (s["total"].as_u64().unwrap(), lr * number(&s, "min_ratio"));
    let weight_decay = 0.1;
    check_schedule("cosine", &Schedule::Cosine { lr, min_lr: 0.0, warmup, weight_decay }, total);
    check_schedule("cosine_min_lr", &Schedule::Cosine { lr, min_lr, warmup, weight_decay }, total);
    let decay = s["decay"].as_u64().unwrap();
    for (name, shape) in
        [("linear", Shape::Linear), ("cosine", Shape::Cosine), ("1-sqrt", Shape::InverseRoot)]
    {
        let schedule = Schedule::Wsd { lr, min_lr, warmup, decay, shape, weight_decay };
        check_schedule(&format!("wsd.{name}"), &schedule, total);
    }
    let two = &s["two_stage"];
    let schedule = Schedule::TwoStage {
        warmup: two["warmup"].as_u64().unwrap(),
        peak1: number(two, "peak1"),
        end1: number(two, "end1"),
        peak2: number(two, "peak2"),
        end2: number(two, "end2"),
        switch: two["switch"].as_u64(),
        weight_decay1: number(two, "wd1"),
        weight_decay2: number(two, "wd2"),
    };
    check_schedule("two_stage.lr", &schedule, two["total"].as_u64().unwrap());
    check_schedule("two_stage.weight_decay", &schedule, two["total"].as_u64().unwrap());
}
