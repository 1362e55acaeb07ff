//! Whole runs: they learn, they can be continued to the bit, and they do not depend on who computes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod small;

use bitnet_core::{Device, Tensor};
use bitnet_model::{
    Checkpoint, Decoder,
    checkpoint::Options,
    layers::{Linear, Quantization},
};
use bitnet_training::{Error, Trainer, checkpoint, progress::Event, trainer::End};
use small::{config, device, losses, model_bytes, refusal, run, steps, text};
use std::{fs, ops::ControlFlow, path::Path};
use tempfile::TempDir;

/// Names in the output folder, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("run")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_learns_and_its_checkpoint_is_a_model() {
    let dir = TempDir::new().unwrap();
    let mut trainer =
        Trainer::new(config(dir.path(), &[("training.steps", "120")]), &device(), None).unwrap();
    let before = trainer.evaluate().unwrap();
    let (end, events) = run(&mut trainer, u64::MAX);
    let after = trainer.evaluate().unwrap();
    assert_eq!(end, End::Done);
    assert!(before.nats > 2.5 && after.nats < 1.8, "{} to {}", before.nats, after.nats);
    // A character is a byte.
    assert!((after.bits_per_byte - after.nats / std::f64::consts::LN_2).abs() < 1e-9);
    let logged: Vec<_> = steps(&events).into_iter().filter(|step| !step.layers.is_empty()).collect();
    assert_eq!(logged.len(), 24);
    assert!(logged.iter().flat_map(|s| &s.layers).all(|l| l.density > 0.3 && l.density < 0.95));
    assert!(logged.iter().flat_map(|s| &s.layers).any(|l| l.flips > 0.0));

    // What other commands read from the folder is what was trained.
    let path = checkpoint::last(&dir.path().join("run")).unwrap();
    let read = Checkpoint::open(&path, Options::default()).unwrap();
    assert!(bitnet_model::Tokenizer::from_folder(&path).is_ok());
    let mut read = read.latent(Quantization::BITNET, &device()).unwrap();
    let mut trained: Vec<Vec<f32>> = Vec::new();
    let mut ours = trainer.decoder().clone();
    let mut collect = |_: &str, w: &mut Tensor| {
        trained.push(w.to_vec::<f32>()?);
        Ok::<(), bitnet_core::Error>(())
    };
    ours.params(&mut collect).unwrap();
    let mut rest = trained.into_iter();
    read.params(&mut |name, w| {
        assert!(w.to_vec::<f32>()? == rest.next().unwrap(), "{name}");
        Ok::<(), bitnet_core::Error>(())
    })
    .unwrap();
}

#[test]
fn a_run_that_was_continued_has_the_bits_of_one_without_a_break() {
    let (whole, broken) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut trainer = Trainer::new(config(whole.path(), &[]), &device(), None).unwrap();
    let (_, expected) = run(&mut trainer, u64::MAX);

    let mut first = Trainer::new(config(broken.path(), &[]), &device(), None).unwrap();
    let (end, mut events) = run(&mut first, 23);
    assert_eq!(end, End::Stopped);
    drop(first);
    let mut second = Trainer::resume(config(broken.path(), &[]), &device()).unwrap();
    assert_eq!(second.step_count(), 23);
    events.extend(run(&mut second, u64::MAX).1);
    assert_eq!(losses(&events), losses(&expected));
    assert!(model_bytes(broken.path()) == model_bytes(whole.path()));
}

/// A process that is killed leaves what it was writing under a name of its own.
#[test]
fn what_was_half_written_is_removed_and_the_checkpoint_before_is_continued() {
    let (whole, broken) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    run(&mut Trainer::new(config(whole.path(), &[]), &device(), None).unwrap(), u64::MAX);
    let mut trainer = Trainer::new(config(broken.path(), &[]), &device(), None).unwrap();
    run(&mut trainer, 30);
    let half = broken.path().join("run/.x.tmp");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("model.safetensors"), "half").unwrap();
    fs::write(broken.path().join("run/.y.tmp"), "half").unwrap();
    let mut second = Trainer::resume(config(broken.path(), &[]), &device()).unwrap();
    assert_eq!(second.step_count(), 30);
    assert_eq!(names(broken.path()), ["checkpoint-00000020", "checkpoint-00000030"]);
    run(&mut second, u64::MAX);
    assert!(model_bytes(broken.path()) == model_bytes(whole.path()));
}

/// A process that is killed after its last checkpoint leaves older ones, of which it may have removed a part.
#[test]
fn what_was_half_removed_is_removed() {
    let dir = TempDir::new().unwrap();
    run(&mut Trainer::new(config(dir.path(), &[]), &device(), None).unwrap(), u64::MAX);
    let kept = names(dir.path());
    let half = dir.path().join("run/checkpoint-00000010");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("config.json"), "{}").unwrap();
    let trainer = Trainer::resume(config(dir.path(), &[]), &device()).unwrap();
    assert_eq!((trainer.step_count(), names(dir.path())), (40, kept));
}

#[test]
fn workers_threads_and_recomputing_change_no_bit() {
    let outcome = |changes: &[(&str, &str)], threads| {
        let dir = TempDir::new().unwrap();
        let device = Device::open("cpu", Some(threads)).unwrap();
        let changes = [changes, &[("training.steps", "8"), ("training.accumulation", "3")]].concat();
        let mut trainer = Trainer::new(config(dir.path(), &changes), &device, None).unwrap();
        let (_, events) = run(&mut trainer, u64::MAX);
        (losses(&events), model_bytes(dir.path()), trainer.evaluate().unwrap().nats.to_bits())
    };
    let alone = outcome(&[], 1);
    assert!(outcome(&[("training.workers", "2")], 1) == alone);
    assert!(outcome(&[("training.workers", "5")], 1) == alone);
    assert!(outcome(&[], 3) == alone);
    assert!(outcome(&[("training.recompute", "true")], 1) == alone);
}

#[test]
fn old_checkpoints_are_removed_but_not_the_best() {
    let dir = TempDir::new().unwrap();
    let changes = [("training.checkpoint_every", "5"), ("training.eval_every", "5"), ("schedule.lr", "0.0")];
    let mut trainer = Trainer::new(config(dir.path(), &changes), &device(), None).unwrap();
    run(&mut trainer, u64::MAX);
    // Without a learning rate the first evaluation stays the best.
    assert_eq!(names(dir.path()), ["checkpoint-00000005", "checkpoint-00000035", "checkpoint-00000040"]);
}

#[test]
fn a_run_without_progress_loses_its_patience() {
    let dir = TempDir::new().unwrap();
    let changes = [("training.patience", "2"), ("training.eval_every", "5"), ("schedule.lr", "0.0")];
    let mut trainer = Trainer::new(config(dir.path(), &changes), &device(), None).unwrap();
    assert_eq!(run(&mut trainer, u64::MAX).0, End::Patience);
    assert_eq!(trainer.step_count(), 15);
}

#[test]
fn a_loss_that_is_no_number_leaves_the_weights_and_ends_the_run() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), &[]);
    let mut trainer = Trainer::new(config.clone(), &device(), None).unwrap();
    run(&mut trainer, 10);
    let good = model_bytes(dir.path());
    let mut broken = trainer.decoder().clone();
    broken.norm.weight = broken.norm.weight.mul_scalar(f64::NAN).unwrap();
    let mut config = config;
    config.training.checkpoint_every = 0;
    let mut trainer = Trainer::new(config, &device(), Some(broken)).unwrap();
    let mut skipped = 0;
    let error = trainer
        .run(&mut |_, event| {
            skipped += u32::from(matches!(event, Event::Skipped { what: "loss", .. }));
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert!(matches!(error, Error::Diverged { what: "loss", .. }), "{error}");
    assert!(skipped > 10);
    assert!(model_bytes(dir.path()) == good, "the last good checkpoint is there");
    let same = trainer.decoder().embed_tokens.rows(&[0]).unwrap().to_vec::<f32>().unwrap();
    assert!(same.iter().all(|x| x.is_finite()), "the other weights did not move");
}

#[test]
fn another_configuration_or_other_data_is_not_continued() {
    let dir = TempDir::new().unwrap();
    run(&mut Trainer::new(config(dir.path(), &[]), &device(), None).unwrap(), 10);
    for (key, value, named) in [
        ("schedule.lr", "1e-3", "schedule.lr"),
        ("training.batch", "5", "training.batch"),
        ("model.hidden_size", "64", "model.hidden_size"),
        ("quantization.activations", "off", "quantization.activations"),
        ("training.seed", "4", "training.seed"),
    ] {
        let error = refusal(Trainer::resume(config(dir.path(), &[(key, value)]), &device()));
        assert!(error.contains(named), "{error}");
    }
    // A schedule whose rates depend on all steps was another one so far.
    let error = refusal(Trainer::resume(config(dir.path(), &[("training.steps", "50")]), &device()));
    assert!(error.contains("training.steps"), "{error}");
    let other = config(dir.path(), &[]);
    fs::write(&other.data.train, text(2, 2000)).unwrap();
    let error = refusal(Trainer::resume(other, &device()));
    assert!(error.contains("training data"), "{error}");
    // What does not change what is computed may change.
    let changes = [("training.workers", "2"), ("training.keep", "5"), ("training.log_every", "1")];
    assert!(Trainer::resume(config(dir.path(), &changes), &device()).is_ok());
}

#[test]
fn a_run_whose_rates_stay_can_be_made_longer() {
    let (whole, longer) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let constant = |steps| [("schedule.kind", "constant"), ("training.steps", steps)];
    run(&mut Trainer::new(config(whole.path(), &constant("40")), &device(), None).unwrap(), u64::MAX);
    run(&mut Trainer::new(config(longer.path(), &constant("20")), &device(), None).unwrap(), u64::MAX);
    run(&mut Trainer::resume(config(longer.path(), &constant("40")), &device()).unwrap(), u64::MAX);
    assert!(model_bytes(longer.path()) == model_bytes(whole.path()));
}

#[test]
fn damaged_checkpoints_are_refused_by_file() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), &[]);
    run(&mut Trainer::new(config.clone(), &device(), None).unwrap(), 10);
    let last = checkpoint::last(&config.training.out).unwrap();
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let path = last.join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, bad).unwrap();
        let error = refusal(Trainer::resume(config.clone(), &device()));
        assert!(error.contains(name) && error.contains("SHA-256"), "{error}");
        fs::write(&path, &good[..good.len() - 10]).unwrap();
        assert!(refusal(Trainer::resume(config.clone(), &device())).contains(name));
        fs::write(&path, good).unwrap();
    }
    fs::write(last.join("trainer.json"), "{").unwrap();
    assert!(refusal(Trainer::resume(config.clone(), &device())).contains("trainer.json"));
    fs::remove_dir_all(&config.training.out).unwrap();
    assert!(refusal(Trainer::resume(config, &device())).contains("no checkpoint"));
}

#[test]
fn data_that_cannot_be_learnt_is_refused_by_file() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), &[]);
    let refused = |bytes: &[u8]| {
        fs::write(&config.data.train, bytes).unwrap();
        let error = refusal(Trainer::new(config.clone(), &device(), None));
        assert!(error.contains("train.txt"), "{error}");
        error
    };
    assert!(refused(b"").contains("empty"));
    assert!(refused(b"short").contains("data.context"));
    assert!(refused(&[b'a', 0xff, b'b']).contains("UTF-8"));
}

#[test]
fn ids_beyond_the_vocabulary_are_refused_by_place() {
    let dir = TempDir::new().unwrap();
    let tokenizer = dir.path().join("tokenizer.json");
    fs::write(&tokenizer, bitnet_training::data::characters("abc")).unwrap();
    let mut config = config(dir.path(), &[]);
    config.data.tokenizer = tokenizer.to_string_lossy().into_owned();
    config.data.train = dir.path().join("ids.npy");
    let write = |ids: &[u16]| {
        let header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({},), }}", ids.len());
        let mut bytes = [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes()].concat();
        bytes.extend(header.as_bytes());
        bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        fs::write(&config.data.train, bytes).unwrap();
    };
    let mut ids: Vec<u16> = (0..400).map(|i| i % 3).collect();
    write(&ids);
    assert!(Trainer::new(config.clone(), &device(), None).unwrap().step().is_ok());
    ids[7] = 3;
    write(&ids);
    let error = refusal(Trainer::new(config.clone(), &device(), None));
    assert!(error.contains("token 7 is 3"), "{error}");
}

/// A code cannot say NaN; the scale has to.
#[test]
fn a_ternary_weight_that_is_no_number_reaches_the_loss() {
    let dir = TempDir::new().unwrap();
    let trainer = Trainer::new(config(dir.path(), &[]), &device(), None).unwrap();
    let mut broken = trainer.decoder().clone();
    let gate = &mut broken.layers[0].mlp.gate;
    let Linear::Latent(latent) = gate else { panic!("{gate:?}") };
    let mut values = latent.weight.to_vec::<f32>().unwrap();
    values[7] = f32::NAN;
    latent.weight = Tensor::from_slice(&device(), latent.weight.shape(), &values).unwrap();
    let mut trainer = Trainer::new(config(dir.path(), &[]), &device(), Some(broken)).unwrap();
    assert!(matches!(trainer.step().unwrap(), Event::Skipped { what: "loss", .. }));
}

/// A weight by its name.
type Weight = (String, Vec<f32>);

fn weights(decoder: &Decoder) -> Vec<Weight> {
    let (mut decoder, mut all) = (decoder.clone(), Vec::new());
    let mut collect = |name: &str, w: &mut Tensor| {
        all.push((name.to_owned(), w.to_vec::<f32>()?));
        Ok::<(), bitnet_core::Error>(())
    };
    decoder.params(&mut collect).unwrap();
    all
}

#[test]
fn a_group_follows_at_its_own_rate_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let moved = |groups: &str| {
        let changes = [("groups", groups), ("training.steps", "1"), ("schedule.warmup", "0")];
        let mut trainer = Trainer::new(config(dir.path(), &changes), &device(), None).unwrap();
        let before = weights(trainer.decoder());
        trainer.step().unwrap();
        let after = weights(trainer.decoder());
        let far = |(before, after): (&Weight, &Weight)| {
            let off = before.1.iter().zip(&after.1).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
            (before.0.clone(), off / before.1.len() as f64)
        };
        before.iter().zip(&after).map(far).collect::<Vec<_>>()
    };
    let plain = moved("[]");
    let scaled = moved(
        "[{ params = '*.norm.weight', lr_scale = 0 }, { params = '*_proj.weight', lr_scale = 0.1, weight_decay_scale = 0 }]",
    );
    for ((name, plain), (_, scaled)) in plain.iter().zip(&scaled) {
        // The first step of Adam is one learning rate for every weight, and the pull towards zero is small beside it.
        let expected = match name {
            _ if name == "model.norm.weight" => 0.0,
            _ if name.ends_with("_proj.weight") => 0.1,
            _ => 1.0,
        };
        assert!((scaled / plain - expected).abs() < 0.01, "{name}: {scaled} instead of {plain}");
    }
    let error =
        refusal(Trainer::new(config(dir.path(), &[("groups", "[{ params = 'x*' }]")]), &device(), None));
    assert!(error.contains("groups.params is x*"), "{error}");
}

#[test]
fn an_average_is_what_is_shipped_and_can_be_continued_to_the_bit() {
    let (whole, broken) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let keys = [("training.ema", "0.5"), ("training.steps", "20")];
    let mut trainer = Trainer::new(config(whole.path(), &keys), &device(), None).unwrap();
    let mut expected = weights(trainer.decoder());
    for _ in 0..20 {
        trainer.step().unwrap();
        for ((_, average), (_, w)) in expected.iter_mut().zip(weights(trainer.decoder())) {
            average.iter_mut().zip(w).for_each(|(average, w)| *average += (w - *average) * 0.5);
        }
    }
    let path = trainer.save().unwrap();
    let shipped = Checkpoint::open(&path, Options::default()).unwrap();
    let shipped = weights(&shipped.latent(Quantization::BITNET, &device()).unwrap());
    assert_eq!(shipped, expected);
    assert_ne!(shipped, weights(trainer.decoder()));

    run(&mut Trainer::new(config(broken.path(), &keys), &device(), None).unwrap(), 13);
    run(&mut Trainer::resume(config(broken.path(), &keys), &device()).unwrap(), u64::MAX);
    assert!(model_bytes(broken.path()) == model_bytes(whole.path()));
}

#[test]
fn arms_of_16_bits_learn_like_floats() {
    let dir = TempDir::new().unwrap();
    let after = |how: &str| {
        let keys = [
            ("quantization.weights", how),
            ("quantization.activations", how),
            ("training.steps", "60"),
            ("training.eval_every", "0"),
            ("training.checkpoint_every", "0"),
        ];
        let mut trainer = Trainer::new(config(dir.path(), &keys), &device(), None).unwrap();
        (0..60).for_each(|_| drop(trainer.step().unwrap()));
        trainer.evaluate().unwrap().nats
    };
    let [full, f16, bf16] = ["off", "f16", "bf16"].map(after);
    assert!(full != f16 && f16 != bf16 && full < 1.9, "{full} {f16} {bf16}");
    assert!((f16 - full).abs() < 0.01 && (bf16 - full).abs() < 0.05, "{full} {f16} {bf16}");
}
