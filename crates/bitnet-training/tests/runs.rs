//! Whole runs: they learn, they can be continued to the bit, and they do not depend on who computes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Device, Tensor};
use bitnet_model::{Checkpoint, checkpoint::Options, layers::Quantization};
use bitnet_training::{Error, RunConfig, Trainer, checkpoint, progress::Event, trainer::End};
use std::{fs, ops::ControlFlow, path::Path};
use tempfile::TempDir;

/// A text with something to learn: words of a few letters in a fixed order.
fn text(seed: u64, words: usize) -> String {
    let vocabulary = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog", "run"];
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        vocabulary[(state >> 33) as usize % vocabulary.len()]
    };
    (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
}

const CONFIG: &str = r#"
    [model]
    hidden_size = 32
    intermediate_size = 64
    num_hidden_layers = 2
    num_attention_heads = 4
    num_key_value_heads = 2
    [data]
    train = "train.txt"
    tokenizer = "chars"
    context = 16
    [schedule]
    kind = "cosine"
    lr = 5e-3
    warmup = 5
    [training]
    steps = 40
    batch = 4
    accumulation = 2
    seed = 3
    eval_every = 20
    checkpoint_every = 10
    log_every = 5
    keep = 2
    out = "run"
"#;

/// A configuration with a text beside it, in a folder of its own.
fn config(dir: &Path, changes: &[(&str, &str)]) -> RunConfig {
    fs::write(dir.join("train.txt"), text(1, 2000)).unwrap();
    fs::write(dir.join("run.toml"), CONFIG).unwrap();
    let out = format!("{:?}", dir.join("run"));
    let mut all = vec![("training.out".to_owned(), out)];
    all.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    RunConfig::read(&dir.join("run.toml"), &all).unwrap()
}

fn device() -> Device {
    Device::open("cpu", Some(1)).unwrap()
}

/// Runs to the end, or until `stop` steps were made; the events.
fn run(trainer: &mut Trainer, stop: u64) -> (End, Vec<Event>) {
    let mut events = Vec::new();
    let end = trainer
        .run(&mut |event| {
            events.push(event.clone());
            let over = matches!(event, Event::Step(step) if step.step >= stop);
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    (end, events)
}

/// Losses and norms by step, without the time they took.
fn losses(events: &[Event]) -> Vec<(u64, u64, u64)> {
    let of = |event: &Event| match event {
        Event::Step(step) => Some((step.step, step.loss.to_bits(), step.gradient_norm.to_bits())),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn model_bytes(dir: &Path) -> Vec<u8> {
    let last = checkpoint::last(&dir.join("run")).unwrap();
    ["model.safetensors", "optimizer.safetensors"].map(|name| fs::read(last.join(name)).unwrap()).concat()
}

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
    let logged = events.iter().filter_map(|e| if let Event::Step(s) = e { Some(s) } else { None });
    let logged: Vec<_> = logged.filter(|step| !step.layers.is_empty()).collect();
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
        .run(&mut |event| {
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

fn refusal(result: Result<Trainer, Error>) -> String {
    match result {
        Ok(_) => panic!("refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn another_configuration_or_other_data_is_not_continued() {
    let dir = TempDir::new().unwrap();
    run(&mut Trainer::new(config(dir.path(), &[]), &device(), None).unwrap(), 10);
    for (key, value, named) in [
        ("schedule.lr", "1e-3", "schedule.lr"),
        ("training.batch", "5", "training.batch"),
        ("model.hidden_size", "64", "model.hidden_size"),
        ("quantization.activations", "false", "quantization.activations"),
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
    let steps = |steps| [("schedule.kind", "constant"), ("training.steps", steps)];
    run(&mut Trainer::new(config(whole.path(), &steps("40")), &device(), None).unwrap(), u64::MAX);
    run(&mut Trainer::new(config(longer.path(), &steps("20")), &device(), None).unwrap(), u64::MAX);
    run(&mut Trainer::resume(config(longer.path(), &steps("40")), &device()).unwrap(), u64::MAX);
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
