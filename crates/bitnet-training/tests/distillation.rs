//! Learning from a teacher, against PyTorch (`testdata/train/distillation`) and in runs.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;
mod small;

use bitnet_core::Device;
use bitnet_model::layers::AttentionStates;
use bitnet_training::{RunConfig, Trainer, checkpoint, distill::relation_loss};
use common::Goldens;
use small::{config, device, losses, model_bytes, refusal, run};
use tempfile::TempDir;

#[test]
fn relations_have_the_gradients_of_pytorch() {
    let golden = Goldens::read("distillation.safetensors");
    let tiers = Device::names().into_iter().filter(|name| name.starts_with("cpu/"));
    for device in tiers.map(|name| Device::open(&name, Some(2)).unwrap()) {
        let states = |who: &str| {
            let [q, k, v] =
                ["q", "k", "v"].map(|kind| golden.tensor(&device, &format!("relations.{who}.{kind}")));
            AttentionStates { q, k, v }
        };
        let mut student = states("student");
        for x in [&mut student.q, &mut student.k, &mut student.v] {
            *x = x.trainable().unwrap();
        }
        let loss = relation_loss(&student, &states("teacher"), &[5, 1, 0, 6], 4).unwrap();
        let gradients = loss.backward().unwrap();
        golden.expect("relations.loss.f64", &loss, 2e-6);
        for (name, x) in [("q", &student.q), ("k", &student.k), ("v", &student.v)] {
            golden.expect(&format!("relations.d{name}.f64"), gradients.of(x).unwrap(), 5e-6);
        }
    }
}

const FULL: [(&str, &str); 2] = [("quantization.weights", "off"), ("quantization.activations", "off")];

/// A run of floats, which others learn from.
fn teacher(dir: &TempDir) -> Trainer {
    let changes = [&FULL[..], &[("training.steps", "100"), ("training.eval_every", "0")]].concat();
    let mut trainer = Trainer::new(config(dir.path(), &changes), &device(), None).unwrap();
    run(&mut trainer, u64::MAX);
    trainer
}

/// A run in another folder that learns from it.
fn student(dir: &TempDir, teacher: &Trainer, changes: &[(&str, &str)]) -> RunConfig {
    let path = format!("{:?}", teacher.config().training.out);
    let all = [&[("distillation.teacher", path.as_str())], changes].concat();
    config(dir.path(), &all)
}

fn start(config: RunConfig, teacher: &Trainer) -> Trainer {
    let trainer = Trainer::new(config, &device(), None).unwrap();
    trainer.with_teacher(teacher.shipped().unwrap(), teacher.tokenizer()).unwrap()
}

#[test]
fn a_student_comes_nearer_to_its_teacher() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let teacher = teacher(&one);
    let keys = [("distillation.relations", "10"), ("distillation.layer", "1"), ("training.steps", "60")];
    let config = student(&other, &teacher, &keys);
    let mut trainer = start(config.clone(), &teacher);
    let (_, events) = run(&mut trainer, u64::MAX);
    let added: Vec<f64> = small::steps(&events).iter().map(|step| step.distillation.unwrap()).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&added[50..]) < 0.7 * mean(&added[..5]), "{added:?}");

    // Continued, or with several workers, it has the same bits.
    let broken = TempDir::new().unwrap();
    let config = student(&broken, &teacher, &[&keys[..], &[("training.workers", "2")]].concat());
    let (_, mut first) = run(&mut start(config.clone(), &teacher), 33);
    let resume = || Trainer::resume(config.clone(), &device()).unwrap();
    let mut second = resume().with_teacher(teacher.shipped().unwrap(), teacher.tokenizer()).unwrap();
    first.extend(run(&mut second, u64::MAX).1);
    assert_eq!(losses(&first), losses(&events));
    assert!(model_bytes(broken.path()) == model_bytes(other.path()));

    // Not with another teacher, nor without one.
    let error = refusal(resume().with_teacher(trainer.shipped().unwrap(), trainer.tokenizer()));
    assert!(error.contains("teacher"), "{error}");
    let error = start_without(config).step().unwrap_err().to_string();
    assert!(error.contains("distillation.teacher"), "{error}");
}

fn start_without(config: RunConfig) -> Trainer {
    std::fs::remove_dir_all(&config.training.out).unwrap();
    Trainer::new(config, &device(), None).unwrap()
}

#[test]
fn a_teacher_of_other_tokens_or_widths_is_refused() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let teacher = teacher(&one);
    let with = |changes: &[(&str, &str)]| {
        let trainer = Trainer::new(student(&other, &teacher, changes), &device(), None).unwrap();
        trainer.with_teacher(teacher.shipped().unwrap(), teacher.tokenizer())
    };
    for (key, value) in [("distillation.layer", "2"), ("distillation.relation_heads", "3")] {
        let error = refusal(with(&[("distillation.relations", "1"), (key, value)]));
        assert!(error.contains(key), "{error}");
    }
    assert!(with(&[]).is_ok());
    let mut config = student(&other, &teacher, &[]);
    std::fs::write(&config.data.train, "0123456789 ".repeat(300)).unwrap();
    config.data.valid_fraction = 0.0;
    let trainer = Trainer::new(config, &device(), None).unwrap();
    let error = refusal(trainer.with_teacher(teacher.shipped().unwrap(), teacher.tokenizer()));
    assert!(error.contains("tokens"), "{error}");
    assert!(checkpoint::is_started(&one.path().join("run")).unwrap());
}
