//! `bitnet devices`, and what other commands say of the device.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{bitnet, stderr, succeeds, testdata, with_env, wrong_usage};
use serde_json::Value;

fn report(args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(&[&["devices", "--json"], args].concat())).unwrap()
}

#[test]
fn devices_names_the_one_that_is_taken_and_why_not_the_others() {
    let value = report(&[]);
    let devices = value["devices"].as_array().unwrap();
    let taken: Vec<_> = devices.iter().filter(|device| device["verdict"] == "taken").collect();
    assert_eq!((taken.len(), &taken[0]["name"]), (1, &value["taken"]));
    assert_eq!(taken[0]["reason"], value["reason"]);
    assert!(devices.iter().all(|device| !device["reason"].as_str().unwrap().is_empty()));
    assert!(devices.iter().any(|device| device["name"] == "cuda" && device["reason"] == "not in this build"));
}

#[test]
fn devices_chooses_for_the_work_that_is_given() {
    let model = testdata("bitnet-packed");
    let value = report(&["-m", &model, "-b", "7", "--training"]);
    assert!(value["work"]["weight_bytes"].as_u64().unwrap() > 0);
    assert_eq!((&value["work"]["tokens"], &value["work"]["task"]), (&7.into(), &"training".into()));
}

#[test]
fn devices_writes_tables_with_a_cell_for_every_column() {
    let text = succeeds(&["devices"]);
    let tables = text.split("\n\n").filter(|part| part.starts_with('|'));
    for table in tables {
        let width = table.lines().next().unwrap().matches('|').count();
        assert!(table.lines().all(|line| line.matches('|').count() == width), "{table}");
    }
    assert!(text.contains("For inference, auto takes cpu/"), "{text}");
}

#[test]
fn the_document_lists_what_the_devices_compute() {
    let text = succeeds(&["devices"]);
    let table = &text[text.find("| op |").unwrap()..];
    let document = include_str!("../../../docs/devices.md");
    assert!(document.ends_with(table), "docs/devices.md should end with\n\n{table}");
    for device in report(&[])["devices"].as_array().unwrap() {
        let name = device["name"].as_str().unwrap();
        assert!(document.contains(&format!("`{name}`")), "docs/devices.md does not name {name}");
    }
}

#[test]
fn a_device_that_exists_elsewhere_is_wrong_usage_with_what_it_needs() {
    let message = wrong_usage(&["demo", "--device", "cuda"]);
    assert!(message.contains("not in this build; expected one of auto, cpu"), "{message}");
}

#[test]
fn doctor_and_a_verbose_run_say_why_the_device_was_taken() {
    let doctor: Value = serde_json::from_str(&succeeds(&["doctor", "--json"])).unwrap();
    let value = report(&[]);
    assert_eq!((&doctor["device"], &doctor["device_reason"]), (&value["taken"], &value["reason"]));
    let run = bitnet(&["demo", "A", "-n", "1", "-v"]);
    let expected = format!("auto takes {}: ", value["taken"].as_str().unwrap());
    assert!(stderr(&run).contains(&expected), "{}", stderr(&run));
}

#[test]
fn timings_say_how_scarce_memory_is() {
    let model = testdata("bitnet-packed");
    let run = with_env(&[("BITNET_SHOW_TIMINGS", "1")], &["run", "-m", &model, "-p", "A", "-n", "1"]);
    assert!(stderr(&run).contains("memory pressure "), "{}", stderr(&run));
    assert!(stderr(&run).contains("first token after "), "{}", stderr(&run));
}
