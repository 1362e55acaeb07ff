//! `bitnet tune`: what it measures, stores and forgets, and who uses it. Every test has a folder of settings of its own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{stderr, stdout, with_env, wrong_usage};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Output, sync::LazyLock};
use tempfile::TempDir;

struct Settings(TempDir);

impl Settings {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a file of this content.
    fn of(text: impl AsRef<[u8]>) -> Self {
        let settings = Self::new();
        fs::create_dir(settings.0.path().join("bitnet")).unwrap();
        fs::write(settings.file(), text).unwrap();
        settings
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("bitnet/tune.json")
    }

    fn run(&self, args: &[&str]) -> Output {
        with_env(&[("XDG_CONFIG_HOME", self.0.path().to_str().unwrap())], args)
    }

    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn doctor(&self) -> Value {
        serde_json::from_str(&self.succeeds(&["doctor", "--json"])).unwrap()
    }

    fn stored(&self) -> Value {
        serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap()
    }

    /// What a short run says of itself.
    fn said(&self, args: &[&str]) -> String {
        let output = self.run(&[&["demo", "A", "-n", "1", "-v"], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    }
}

const TUNE: [&str; 5] = ["tune", "--synthetic", "tiny", "--seconds", "1"];

/// A file for this machine.
fn file(threads: &Value, threads_batch: &Value) -> Value {
    static DOCTOR: LazyLock<Value> = LazyLock::new(|| Settings::new().doctor());
    let machine = json!({
        "cpu": DOCTOR["cpu"],
        "hardware_threads": DOCTOR["hardware_threads"],
        "physical_cores": DOCTOR["physical_cores"],
        "version": DOCTOR["version"],
    });
    json!({ "machines": [{ "machine": machine, "threads": threads, "threads_batch": threads_batch }] })
}

#[test]
fn what_was_found_is_stored_used_and_forgotten() {
    let settings = Settings::new();
    let table = settings.succeeds(&TUNE);
    assert!(table.lines().all(|line| line.matches('|').count() == 6), "{table}");
    assert_eq!(table.matches("taken").count(), 2, "{table}");
    let stored = settings.stored()["machines"][0].clone();
    let doctor = settings.doctor();
    assert_eq!((&doctor["tuned"], &doctor["threads_used"]), (&stored, &stored["threads"]));
    assert!(settings.succeeds(&["doctor"]).contains("as `bitnet tune` found"));
    assert!(settings.succeeds(&["devices"]).contains("as `bitnet tune` found"));
    assert!(settings.said(&[]).contains("threads as `bitnet tune` found"));
    settings.succeeds(&["tune", "--forget"]);
    assert!(!settings.file().exists());
    assert!(settings.doctor()["tuned"].is_null());
    assert!(stderr(&settings.run(&["tune", "--forget"])).contains("nothing to forget"));
}

#[test]
fn of_another_tier_than_runs_by_default_nothing_is_stored() {
    let settings = Settings::new();
    let output = settings.run(&[&TUNE[..], &["--device", "cpu/scalar"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("not stored, because without --device"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(settings.0.path()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_stores_nothing_and_reports_all_samples() {
    let settings = Settings::new();
    let report = settings.succeeds(&[&TUNE[..], &["--dry-run", "-o", "json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["stored"].is_null() && report["threads"].as_u64().unwrap() >= 1);
    for step in report["steps"].as_array().unwrap() {
        let default = step["candidates"].as_array().unwrap().iter().find(|c| c["threads"] == step["default"]);
        assert!(default.unwrap()["samples_seconds_per_token"].as_array().unwrap().len() >= 5, "{step}");
    }
    assert_eq!(fs::read_dir(settings.0.path()).unwrap().count(), 0);
}

#[test]
fn flags_and_variables_win_over_what_was_found() {
    let settings = Settings::of(file(&json!(1), &json!(1)).to_string());
    assert!(settings.said(&[]).contains(" with 1 thread\n"));
    assert!(settings.said(&["-t", "2"]).contains(" with 2 threads\n"));
    assert!(settings.said(&["-tb", "2"]).contains(" with 1 thread for a token, 2 threads for more\n"));
    assert!(
        settings.said(&["-t", "3", "-tb", "2"]).contains(" with 3 threads for a token, 2 threads for more\n")
    );
    let folder = settings.0.path().to_str().unwrap();
    let output =
        with_env(&[("XDG_CONFIG_HOME", folder), ("BITNET_THREADS", "2")], &["demo", "A", "-n", "1", "-v"]);
    assert!(stderr(&output).contains(" with 2 threads\n"), "{}", stderr(&output));
}

#[test]
fn what_was_found_elsewhere_or_by_another_version_does_not_count_and_is_kept_apart() {
    for (key, value) in
        [("cpu", json!("Another")), ("hardware_threads", json!(1000)), ("physical_cores", json!(999))]
    {
        let mut other = file(&json!(1), &json!(1));
        other["machines"][0]["machine"][key] = value;
        let settings = Settings::of(other.to_string());
        assert!(!settings.said(&[]).contains("bitnet tune"), "{key}: neither used nor wrong");
        settings.succeeds(&["tune", "--forget"]);
        assert_eq!(settings.stored(), other, "{key}");
    }
    let mut older = file(&json!(1), &json!(1));
    older["machines"][0]["machine"]["version"] = json!("0.0.1");
    let settings = Settings::of(older.to_string());
    assert!(!settings.said(&[]).contains("bitnet tune"));
    settings.succeeds(&TUNE);
    assert_eq!(settings.stored()["machines"].as_array().unwrap().len(), 1, "the new one replaces it");
}

#[test]
fn a_file_that_makes_no_sense_is_ignored_with_what_to_do() {
    let mut many = file(&json!(1), &json!(1));
    many["machines"] = vec![many["machines"][0].clone(); 65].into();
    let contents = [
        b"not JSON".to_vec(),
        b"".to_vec(),
        b"[1, 2]".to_vec(),
        vec![0xff, 0xfe, 0],
        vec![b'['; 1000],
        vec![b' '; (64 << 10) + 1],
        many.to_string().into_bytes(),
        file(&json!(0), &json!(1)).to_string().into_bytes(),
        file(&json!(1), &json!(1025)).to_string().into_bytes(),
        file(&json!(-1), &json!(1)).to_string().into_bytes(),
        file(&json!(1.5), &json!(1)).to_string().into_bytes(),
        file(&json!("\u{1b}[2J"), &json!(1)).to_string().into_bytes(),
    ];
    for content in contents {
        let settings = Settings::of(&content);
        let said = settings.said(&[]);
        let shown = String::from_utf8_lossy(&content[..content.len().min(60)]).into_owned();
        assert!(said.contains("is not used: ") && said.contains("`bitnet tune --forget`"), "{shown}: {said}");
        assert!(!said.contains('\u{1b}'), "{said}");
        assert_eq!(fs::read(settings.file()).unwrap(), content, "it is left as it is");
    }
    let settings = Settings::of("not JSON");
    assert!(settings.doctor()["tuned_note"].as_str().unwrap().contains("is not used: "));
    settings.succeeds(&["tune", "--forget"]);
    assert!(!settings.file().exists());
    let settings = Settings::of("not JSON");
    settings.succeeds(&TUNE);
    assert!(settings.stored()["machines"][0]["threads"].is_u64());
}

#[test]
fn a_folder_in_the_place_of_the_file_is_said_before_anything_is_measured() {
    let settings = Settings::new();
    fs::create_dir_all(settings.file()).unwrap();
    assert!(settings.said(&[]).contains("not a regular file"));
    let output = settings.run(&["tune", "--seconds", "3600"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--dry-run"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_the_file_does_not_make_the_program_wait() {
    let settings = Settings::new();
    fs::create_dir(settings.0.path().join("bitnet")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(settings.file()).status().unwrap();
    assert!(made.success());
    assert!(settings.said(&[]).contains("not a regular file"));
}

#[test]
fn forgetting_is_not_trying() {
    assert!(wrong_usage(&["tune", "--forget", "--dry-run"]).contains("--dry-run"));
}
