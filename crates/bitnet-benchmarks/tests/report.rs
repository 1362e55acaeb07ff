//! The program `report`: what it prints and how it exits.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{fs, str};

fn report(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_report")).args(args).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

/// A folder as criterion leaves it, with one benchmark of these times.
fn results(dir: &Path, times: [f64; 4]) -> PathBuf {
    let new = dir.join("criterion/memory_trim/all/new");
    fs::create_dir_all(&new).unwrap();
    let name = r#"{"group_id":"memory/trim","function_id":"all","value_str":null,"throughput":{"Bytes":64},
        "full_id":"memory/trim/all","directory_name":"memory_trim/all","title":"memory/trim/all"}"#;
    fs::write(new.join("benchmark.json"), name).unwrap();
    let samples = format!(r#"{{"sampling_mode":"Flat","iters":[1.0,1.0,1.0,1.0],"times":{times:?}}}"#);
    fs::write(new.join("sample.json"), samples).unwrap();
    let median = (times[1] + times[2]) / 2.0;
    fs::write(new.join("estimates.json"), format!(r#"{{"median":{{"point_estimate":{median}}}}}"#)).unwrap();
    dir.join("criterion")
}

/// A receipt of one benchmark of these times.
fn receipt(dir: &Path, name: &str, times: [f64; 4]) -> String {
    let (results, path) = (results(dir, times), dir.join(name));
    let path = path.to_str().unwrap().to_owned();
    let output = report(&["run", "--no-run", "--criterion", results.to_str().unwrap(), "-o", &path]);
    assert_eq!((status(&output), stdout(&output).trim()), (0, path.as_str()));
    path
}

#[test]
fn only_a_regression_exits_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let fast = receipt(dir.path(), "fast.json", [98.0, 100.0, 100.0, 102.0]);
    let slow = receipt(dir.path(), "slow.json", [298.0, 300.0, 300.0, 302.0]);
    assert_eq!(status(&report(&["regress", &fast, &fast])), 0);
    assert_eq!(status(&report(&["regress", &slow, &fast])), 0);
    assert_eq!(status(&report(&["regress", &fast, &slow])), 1);
    assert_eq!(status(&report(&["compare", &fast, &slow])), 0);
}

/// The receipt at `path` with another benchmark, which no run has measured since.
fn with_a_benchmark_of_before(path: &str) -> String {
    let mut receipt: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut other = receipt["benchmarks"][0].clone();
    other["id"] = "tensor/gone/all".into();
    receipt["benchmarks"].as_array_mut().unwrap().push(other);
    let path = path.replace(".json", "-before.json");
    fs::write(&path, receipt.to_string()).unwrap();
    path
}

#[test]
fn a_benchmark_that_is_gone_exits_with_one_unless_it_was_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let after = receipt(dir.path(), "a.json", [98.0, 100.0, 100.0, 102.0]);
    let before = with_a_benchmark_of_before(&after);
    let output = report(&["regress", &before, &after]);
    assert_eq!(status(&output), 1);
    assert!(str::from_utf8(&output.stderr).unwrap().contains("tensor/gone/all is gone"));
    assert_eq!(status(&report(&["regress", "--allow-missing", &before, &after])), 0);
    assert_eq!(status(&report(&["regress", &before, &after, "--bench", "memory"])), 0);
    assert_eq!(status(&report(&["regress", &before, &after, "--filter", "trim"])), 0);
    assert_eq!(status(&report(&["regress", &after, &before])), 0, "a new benchmark is no regression");
}

#[test]
fn wrong_usage_and_missing_files_exit_with_two() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.json");
    let missing = missing.to_str().unwrap();
    for args in
        [&["compare", missing][..], &["regress"], &["regress", missing, missing], &["html"], &["draw"]]
    {
        let output = report(args);
        assert_eq!((status(&output), stdout(&output)), (2, ""), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_table_is_all_that_the_standard_output_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = receipt(dir.path(), "a.json", [98.0, 100.0, 100.0, 102.0]);
    let output = report(&["compare", &path, &path]);
    assert!(stdout(&output).lines().all(|line| line.starts_with('|')), "{}", stdout(&output));
    assert!(stdout(&output).contains("| memory/trim/all | 100 ns | 100 ns | +0.0 % |"));
}

#[test]
fn a_receipt_says_why_a_sensor_was_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = receipt(dir.path(), "a.json", [1.0, 2.0, 3.0, 4.0]);
    let receipt: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(receipt["sensors"]["cpu_energy"]["unavailable"], "the results are of an earlier run");
    assert_eq!(receipt["benchmarks"][0]["samples_ns"], serde_json::json!([1.0, 2.0, 3.0, 4.0]));
    assert!(receipt["machine"]["read_bandwidth_gb_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_page_is_one_file_that_loads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = receipt(dir.path(), "a.json", [98.0, 100.0, 100.0, 102.0]);
    let page = dir.path().join("page.html");
    let output = report(&["html", &path, &path, "-o", page.to_str().unwrap()]);
    assert_eq!(status(&output), 0);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && !page.contains("http"));
}
