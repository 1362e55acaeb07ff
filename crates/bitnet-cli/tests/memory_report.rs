//! `--memory-report`: who held memory, when and how much.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{bitnet, stderr, testdata, with_env};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};
use tempfile::TempDir;

/// Runs a command that writes its report to `name`, and reads it.
fn report(dir: &TempDir, name: &str, args: &[&str]) -> String {
    let path = dir.path().join(name);
    let output = bitnet(&[args, &["--memory-report", path.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("weights "), "{}", stderr(&output));
    fs::read_to_string(path).unwrap()
}

/// Owners of the records in `list`, and the bytes of them all.
fn owners<'a>(report: &'a Value, list: &str) -> (BTreeSet<&'a str>, u64) {
    let records = report[list].as_array().unwrap();
    let owner = |record: &'a Value| record["owner"].as_str().unwrap();
    (
        records.iter().map(owner).collect(),
        records.iter().map(|record| record["capacity"].as_u64().unwrap()).sum(),
    )
}

#[test]
fn a_run_says_who_holds_and_held_memory() {
    let (dir, model) = (TempDir::new().unwrap(), testdata("bitnet-packed"));
    let run = ["run", "-m", &model, "-p", "I", "-n", "3", "--temp", "0", "-t", "1"];
    let numbers: Value = serde_json::from_str(&report(&dir, "run.json", &run)).unwrap();
    let (holding, live) = owners(&numbers, "live");
    assert!(holding.is_superset(&["kv cache", "weights"].into()), "{holding:?}");
    assert_eq!(live, numbers["stats"]["live"].as_u64().unwrap(), "every live byte is recorded");
    assert!(owners(&numbers, "finished").0.contains("activations"));
    assert_eq!((&numbers["tracking"], &numbers["forgotten"]), (&"records".into(), &0.into()));

    let timeline: Value = serde_json::from_str(&report(&dir, "run.trace.json", &run)).unwrap();
    let events = timeline["traceEvents"].as_array().unwrap();
    let named = |name: &str| events.iter().any(|event| event["args"]["name"] == name);
    assert!(named("weights") && named("kv cache") && named("activations"));
    assert!(events.iter().any(|event| event["ph"] == "C" && event["args"]["live"].as_u64().unwrap() > 0));

    let page = report(&dir, "run.html", &run);
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.contains("Findings"));
    assert!(page.contains("kv cache") && page.contains("activations"));
}

#[test]
fn a_benchmark_says_who_holds_memory_too() {
    let dir = TempDir::new().unwrap();
    let bench = ["bench", "--synthetic", "tiny", "-p", "16", "-n", "4", "-r", "1", "-t", "1,2"];
    let numbers: Value = serde_json::from_str(&report(&dir, "bench.json", &bench)).unwrap();
    assert_eq!(owners(&numbers, "live").0, ["kv cache", "weights"].into());
}

#[test]
fn training_says_who_held_memory() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("train.txt", &"the cat sat on the mat and saw the dog run ".repeat(50));
    let out = format!("training.out={:?}", dir.path().join("run"));
    write(
        "run.toml",
        "[model]\nhidden_size = 32\nintermediate_size = 64\nnum_hidden_layers = 1\nnum_attention_heads = 4\n\
         num_key_value_heads = 2\n[data]\ntrain = \"train.txt\"\ntokenizer = \"chars\"\ncontext = 16\n\
         [schedule]\nkind = \"cosine\"\nlr = 3e-3\nwarmup = 1\n[training]\nsteps = 3\nbatch = 2\n\
         eval_every = 3\ncheckpoint_every = 3\n",
    );
    let config = dir.path().join("run.toml");
    let numbers = report(
        &dir,
        "train.json",
        &["train", "--config", config.to_str().unwrap(), "--set", &out, "-t", "1"],
    );
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    let (holding, live) = owners(&numbers, "live");
    assert_eq!(holding, ["optimizer", "weights"].into());
    assert_eq!(live, numbers["stats"]["live"].as_u64().unwrap());
    let held = owners(&numbers, "finished").0;
    assert!(held.is_superset(&["activations", "gradients", "rounded weights"].into()), "{held:?}");
}

#[test]
fn the_variable_asks_for_a_report_and_without_either_there_is_none() {
    let (dir, model) = (TempDir::new().unwrap(), testdata("bitnet-packed"));
    let run = ["run", "-m", &model, "-p", "I", "-n", "1", "--temp", "0"];
    let files = |dir: &Path| fs::read_dir(dir).unwrap().count();
    let path = dir.path().join("run.html");
    assert!(!stderr(&with_env(&[], &run)).contains("weights "));
    assert_eq!(files(dir.path()), 0);
    assert!(with_env(&[("BITNET_MEMORY_REPORT", path.to_str().unwrap())], &run).status.success());
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn a_report_that_cannot_be_written_fails_by_name() {
    let model = testdata("bitnet-packed");
    let output = bitnet(&[
        "run",
        "-m",
        &model,
        "-p",
        "I",
        "-n",
        "1",
        "--memory-report",
        "/no/such/folder/report.json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/no/such/folder/report.json"), "{}", stderr(&output));
}
