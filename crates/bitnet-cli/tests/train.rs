//! From a text to a model that runs: train, evaluate, export, and everything that may come between.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::command;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const CONFIG: &str = r#"
[model]
hidden_size = 256
intermediate_size = 256
num_hidden_layers = 1
num_attention_heads = 4
num_key_value_heads = 2

[data]
train = "train.txt"
valid = "valid.txt"
tokenizer = "chars"
context = 32

[schedule]
kind = "cosine"
lr = 3e-3
warmup = 5

[training]
steps = 30
batch = 4
eval_every = 15
checkpoint_every = 10
out = "run"
"#;

/// Words in an order that a seed decides.
fn text(seed: u64, words: usize) -> String {
    let vocabulary = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog", "run"];
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        vocabulary[(state >> 33) as usize % vocabulary.len()]
    };
    (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
}

fn folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("run.toml"), CONFIG).unwrap();
    fs::write(dir.path().join("train.txt"), text(1, 3000)).unwrap();
    fs::write(dir.path().join("valid.txt"), text(2, 300)).unwrap();
    dir
}

/// `bitnet train` in a folder.
fn train(dir: &Path, args: &[&str]) -> Command {
    let mut train = command(&["train", "--config", "run.toml", "-t", "1"]);
    train.args(args).current_dir(dir);
    train
}

fn succeed(mut run: Command) -> String {
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(mut run: Command) -> String {
    let output = run.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn checkpoint(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("run/checkpoint-{step:08}"))
}

/// Weights and what the optimizer remembers.
fn bytes(dir: &Path, step: u64) -> Vec<u8> {
    let folder = checkpoint(dir, step);
    ["model.safetensors", "optimizer.safetensors"].map(|name| fs::read(folder.join(name)).unwrap()).concat()
}

fn json(dir: &Path, args: &[&str]) -> Value {
    let mut measure = command(args);
    measure.current_dir(dir);
    serde_json::from_str(&succeed(measure)).unwrap()
}

#[test]
fn what_is_exported_scores_what_the_trainer_said() {
    let dir = folder();
    let dir = dir.path();
    let out = succeed(train(dir, &["--keep", "1"]));
    assert_eq!(out, "run/checkpoint-00000030\n");
    assert!(!checkpoint(dir, 20).exists());
    let log = fs::read_to_string(dir.join("run/log.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["event"] == "step").count(), 30);
    let said = lines.iter().rfind(|line| line["event"] == "evaluation").unwrap();
    assert_eq!(said["step"], 30);
    let said = said["nats"].as_f64().unwrap();
    assert!(fs::read_to_string(dir.join("run/report.html")).unwrap().contains("Loss"));
    assert!(fs::read_dir(dir.join("run/tensorboard")).unwrap().count() == 1);

    let near = |what: &str, found: &Value| {
        let nats = found["nats"].as_f64().unwrap();
        assert!((nats - said).abs() <= 0.0005, "{what}: {nats}, the trainer said {said}");
    };
    for run in ["run", "run/checkpoint-00000030"] {
        near(run, &json(dir, &["eval", run, "-d", "valid.txt", "--json"]));
    }
    for format in ["i2_s", "tq1_0", "tq2_0", "hf-packed"] {
        let mut export = command(&["export", "run", format, "--to", format]);
        export.current_dir(dir);
        succeed(export);
        let args = ["perplexity", "-m", format, "-f", "valid.txt", "-c", "32", "--json"];
        near(format, &json(dir, &args));
        near(format, &json(dir, &["eval", format, "-d", "valid.txt", "-c", "32", "--json"]));
    }
    let mut run = command(&["run", "-m", "i2_s", "-p", "the cat", "-n", "8", "--temp", "0"]);
    run.current_dir(dir);
    assert!(succeed(run).len() > 8);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bytes() {
    let (whole, broken) = (folder(), folder());
    succeed(train(whole.path(), &["--workers", "1"]));
    let mut child = train(broken.path(), &[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        said.any(|line| line.unwrap().starts_with("step 15")),
        "there was an evaluation after a checkpoint"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(train(broken.path(), &["--resume"]));
    assert!(bytes(broken.path(), 30) == bytes(whole.path(), 30));
    assert_eq!(logged(broken.path()), logged(whole.path()));
}

/// Steps and losses that the log tells of.
fn logged(dir: &Path) -> Vec<(Value, Value)> {
    let log = fs::read_to_string(dir.join("run/log.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["step"].clone(), line["loss"].clone())).collect()
}

/// How many steps are in the log, which may be in the middle of being written.
fn steps_logged(dir: &Path) -> usize {
    let log = fs::read_to_string(dir.join("run/log.jsonl")).unwrap_or_default();
    log.matches(r#""event":"step""#).count()
}

/// Names in the output folder, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("run")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether `is_over` was true before `limit` was.
fn poll(limit: Duration, mut is_over: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !is_over() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Ends a run by SIGKILL when its log has a step more than `steps`, `delay` later or at the next step; false where the run was done before.
fn kill_after_a_step(dir: &Path, mut run: Child, steps: usize, delay: Duration) -> bool {
    let stepped = |by: usize| steps_logged(dir) >= steps + by;
    let mut ended = None;
    let moved = poll(Duration::from_secs(60), || {
        ended = run.try_wait().unwrap();
        stepped(1) || ended.is_some()
    });
    poll(delay, || stepped(2));
    run.kill().unwrap();
    assert!(moved, "no step in a minute");
    assert!(ended.is_none_or(|status| status.success()), "{ended:?}");
    !run.wait().unwrap().success()
}

/// A kill falls into the writing of a checkpoint, the removal of an old one, an evaluation or the step after, as the delay has it.
#[test]
fn a_run_that_is_killed_at_every_step_ends_with_the_same_bytes() {
    const STEPS: u64 = 12;
    let (whole, broken) = (folder(), folder());
    let steps = format!("training.steps={STEPS}");
    let set = ["--set", &steps, "--set", "training.checkpoint_every=1", "--set", "training.eval_every=5"];
    succeed(train(whole.path(), &set));
    let dir = broken.path();
    let delays = (0..).map(|i| Duration::from_millis(i * 8 % 21));
    let killed = delays.take_while(|&delay| {
        let steps = steps_logged(dir);
        // Killed before its first checkpoint, a run starts again.
        let resume = steps > 0 && names(dir).iter().any(|name| name.starts_with("checkpoint-"));
        let args = [&set[..], if resume { &["--resume"] } else { &[] }].concat();
        let run = train(dir, &args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        kill_after_a_step(dir, run, steps, delay)
    });
    assert!(killed.count() as u64 >= STEPS / 2);
    assert!(bytes(dir, STEPS) == bytes(whole.path(), STEPS));
    assert_eq!(logged(dir), logged(whole.path()));
    assert_eq!(names(dir), names(whole.path()));
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_checkpoint_before() {
    let dir = folder();
    succeed(train(dir.path(), &["--set", "training.steps=10", "--set", "schedule.kind=constant"]));
    let before = bytes(dir.path(), 10);
    // Files may not grow beyond 64 KiB: what the system says then is what it says of a full disk.
    let program = env!("CARGO_BIN_EXE_bitnet");
    let limited = format!(
        "trap '' XFSZ; ulimit -f 128; exec {program} train --config run.toml -t 1 --resume \
        --set training.steps=20 --set schedule.kind=constant"
    );
    let output = Command::new("bash").args(["-c", &limited]).current_dir(dir.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains("safetensors"), "{stderr}");
    assert!(bytes(dir.path(), 10) == before);
    let left: Vec<_> = fs::read_dir(dir.path().join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("checkpoint") || name.ends_with(".tmp"))
        .collect();
    assert_eq!(left, ["checkpoint-00000010"]);
}

#[test]
fn what_is_wrong_with_a_run_is_said_by_name() {
    let dir = folder();
    let dir = dir.path();
    let refused = |args: &[&str], named: &[&str]| {
        let error = refusal(train(dir, args));
        assert!(named.iter().all(|name| error.contains(name)), "{args:?}: {error}");
    };
    refused(&["--set", "training.stepz=3"], &["run.toml", "stepz"]);
    refused(&["--set", "training.batch=0"], &["training.batch"]);
    refused(&["--set", "steps=3"], &["section.key"]);
    refused(&["--set", "data.train=none.txt"], &["none.txt"]);
    refused(&["--set", "data.tokenizer=none.json"], &["none.json"]);
    refused(&["--resume"], &["no checkpoint"]);
    refused(&["--workers", "2", "-t", "2"], &["-t 1"]);
    succeed(train(dir, &["--set", "training.steps=5"]));
    refused(&[], &["--resume", "--out"]);
    refused(&["--resume", "--set", "schedule.lr=1e-4"], &["schedule.lr", "0.0001"]);
    let mut missing = command(&["train", "--config", "none.toml"]);
    missing.current_dir(dir);
    assert!(refusal(missing).contains("none.toml"));
}

#[test]
fn a_dashboard_is_refused_without_a_terminal() {
    let dir = folder();
    let dir = dir.path();
    tuning(dir);
    let told = |run: Command| {
        let error = refusal(run);
        assert!(["--dashboard", "stderr", "leave it out"].iter().all(|part| error.contains(part)), "{error}");
    };
    told(train(dir, &["--dashboard"]));
    told(finetune(dir, "run", &["--dashboard"]));
    let mut twin = train(dir, &[]);
    twin.env("BITNET_DASHBOARD", "yes");
    told(twin);
    assert!(!dir.join("run").exists());
}

#[test]
fn tokenizers_are_made_from_text_and_trained_with() {
    let dir = folder();
    let dir = dir.path();
    let make = |args: &[&str]| {
        let mut tokenizer = command(&[&["tokenizer", "train", "train.txt"], args].concat());
        tokenizer.current_dir(dir);
        tokenizer
    };
    succeed(make(&["--vocab-size", "262", "--out", "bpe"]));
    let steps = ["--set", "training.steps=5", "--set", "data.tokenizer=bpe", "--set", "data.context=16"];
    succeed(train(dir, &steps));
    let found = json(dir, &["eval", "run", "-d", "valid.txt", "--json"]);
    let (nats, bits) = (found["nats"].as_f64().unwrap(), found["bits_per_byte"].as_f64().unwrap());
    // A token stands for more than a byte.
    assert!(bits < nats / std::f64::consts::LN_2);
    assert!(refusal(make(&["--vocab-size", "100000", "--out", "large"])).contains("at most"));
    assert!(refusal(make(&["--chars", "--out", "bpe"])).contains("already there"));
    succeed(make(&["--chars", "--out", "chars"]));
}

/// The configuration without its shape and its tokenizer, which a base has.
fn tuning(dir: &Path) {
    let (_, rest) = CONFIG.split_once("[data]").unwrap();
    let text = format!("[data]{rest}").replace("tokenizer = \"chars\"\n", "");
    fs::write(dir.join("tune.toml"), text).unwrap();
}

fn finetune(dir: &Path, base: &str, args: &[&str]) -> Command {
    let mut tune = command(&["finetune", base, "--config", "tune.toml", "-t", "1", "--out", "tuned"]);
    tune.args(args).current_dir(dir);
    tune
}

/// Losses of the steps of a run.
fn losses(log: &Path) -> Vec<f64> {
    let log = fs::read_to_string(log).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

#[test]
fn a_model_of_floats_becomes_a_ternary_one() {
    let dir = folder();
    let dir = dir.path();
    let floats = [
        "model.sub_norms=false",
        "model.activation=silu",
        "quantization.weights=off",
        "quantization.activations=off",
    ];
    let set: Vec<&str> = floats.iter().flat_map(|key| ["--set", key]).collect();
    succeed(train(dir, &set));
    let mut zeros = command(&[
        "perplexity",
        "-m",
        "run/checkpoint-00000030",
        "-f",
        "valid.txt",
        "-c",
        "32",
        "--sparsity",
    ]);
    zeros.current_dir(dir);
    assert!(refusal(zeros).contains("take floats, not codes"));
    tuning(dir);
    let output = finetune(dir, "run", &["--set", "quantization.lambda_steps=15"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains("sub-norms"), "{stderr}");
    let config = fs::read_to_string(dir.join("tuned/checkpoint-00000030/config.json")).unwrap();
    assert!(config.contains("BitNetForCausalLM") && config.contains("autobitlinear"), "{config}");
    let after = losses(&dir.join("tuned/log.jsonl"));
    assert!(after[29] < after[0] + 0.05, "{after:?}");
    let mut export = command(&["export", "tuned", "tuned.gguf", "--to", "i2_s"]);
    export.current_dir(dir);
    succeed(export);
    let nats =
        |model: &str| json(dir, &["eval", model, "-d", "valid.txt", "--json"])["nats"].as_f64().unwrap();
    assert!((nats("tuned.gguf") - nats("tuned")).abs() <= 0.0005);
    // Goes on like any other run.
    let more = ["--resume", "--set", "quantization.lambda_steps=15"];
    succeed(finetune(dir, "run", &more));
}

#[test]
fn a_ternary_model_goes_on_where_it_was() {
    let dir = folder();
    let dir = dir.path();
    tuning(dir);
    let base = common::testdata("bitnet-online-bf16");
    let still = ["--set", "schedule.lr=0.0", "--set", "data.valid=train.txt", "--set", "training.steps=5"];
    succeed(finetune(dir, &base, &still));
    let tuned = json(dir, &["eval", "tuned", "-d", "valid.txt", "-c", "32", "--json"]);
    let before = json(dir, &["eval", &base, "-d", "valid.txt", "-c", "32", "--json"]);
    assert!(
        (tuned["nats"].as_f64().unwrap() - before["nats"].as_f64().unwrap()).abs() < 0.02,
        "{tuned}, {before}"
    );
    let error = refusal(finetune(dir, &base, &["--set", "model.hidden_size=64", "--out", "other"]));
    assert!(error.contains("shape"), "{error}");
    fs::write(dir.join("tune.toml"), CONFIG).unwrap();
    assert!(refusal(finetune(dir, &base, &["--out", "other"])).contains("section model"));
}

#[test]
fn what_the_model_writes_is_kept_with_the_step() {
    let dir = folder();
    let dir = dir.path();
    let written = |out: &str, prompt: &str| {
        let keys =
            ["training.sample_tokens=12", &format!("training.sample_prompt={prompt}"), "training.steps=16"];
        let set: Vec<&str> = keys.iter().flat_map(|key| ["--set", key]).collect();
        succeed(train(dir, &[&set[..], &["--out", out]].concat()));
        let log = fs::read_to_string(dir.join(out).join("log.jsonl")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let samples = lines.filter(|line| line["event"] == "sample");
        samples
            .map(|line| (line["step"].clone(), line["text"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let samples = written("run", "the c");
    assert_eq!(samples.iter().map(|(step, _)| step.as_u64().unwrap()).collect::<Vec<_>>(), [15, 16]);
    assert!(samples.iter().all(|(_, text)| text.starts_with("the c") && text.len() == 17), "{samples:?}");
    let page = fs::read_to_string(dir.join("run/report.html")).unwrap();
    assert!(page.contains("What it writes") && page.contains(&samples[1].1));
    assert_eq!(written("again", "the c"), samples, "a seed gives one text");
    // A prompt that has no tokens ends no run.
    assert_eq!(written("none", "''"), []);
}

#[test]
fn a_student_learns_from_a_run_by_its_folder() {
    let dir = folder();
    let dir = dir.path();
    let full = ["--set", "quantization.weights=off", "--set", "quantization.activations=off"];
    succeed(train(dir, &full));
    let learn = ["--set", "distillation.teacher=run", "--set", "distillation.relations=1"];
    let student = |args: &[&str]| train(dir, &[&learn[..], &["--out", "student"], args].concat());
    succeed(student(&["--set", "training.steps=20", "--set", "schedule.kind=constant"]));
    succeed(student(&["--resume", "--set", "schedule.kind=constant"]));
    let log = fs::read_to_string(dir.join("student/log.jsonl")).unwrap();
    let steps = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let added: Vec<f64> = steps.filter_map(|line| line["distillation"].as_f64()).collect();
    assert!(added.len() == 30 && added[29] < added[0], "{added:?}");

    let other = succeed(train(dir, &[&full[..], &["--out", "other", "--set", "training.seed=1"]].concat()));
    let keys = ["--set", "distillation.teacher=other", "--set", "distillation.relations=1"];
    let error = refusal(train(
        dir,
        &[
            &keys[..],
            &[
                "--out",
                "student",
                "--resume",
                "--set",
                "training.steps=40",
                "--set",
                "schedule.kind=constant",
            ],
        ]
        .concat(),
    ));
    assert!(other.contains("other") && error.contains("the teacher is one whose logits"), "{error}");
    let error = refusal(train(dir, &["--set", "distillation.teacher=nowhere", "--out", "new"]));
    assert!(error.contains("nowhere"), "{error}");

    // A model of floats that becomes ternary learns from what it was.
    tuning(dir);
    succeed(finetune(dir, "run", &learn));
    assert!(fs::read_to_string(dir.join("tuned/log.jsonl")).unwrap().contains("distillation"));
}
