//! The text of tensors is that of NumPy (`testdata/display`), character by character.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Device, Tensor, interchange::npz};
use half::bf16;
use serde_json::{Map, Value};
use std::{fs, path::PathBuf};

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/display").join(name)
}

fn cpu() -> Device {
    Device::open("cpu/scalar", Some(1)).unwrap()
}

fn text(name: &str, x: &Tensor) -> String {
    match name.split_once('@') {
        Some((_, precision)) => format!("{x:.*}", precision.parse().unwrap()),
        None => x.to_string(),
    }
}

#[test]
fn tensors_are_printed_as_numpy_prints_them() {
    let texts: Map<String, Value> =
        serde_json::from_slice(&fs::read(testdata("texts.json")).unwrap()).unwrap();
    let arrays = npz::load(&cpu(), &testdata("arrays.npz"), 1 << 20).unwrap();
    assert_eq!(arrays.len(), texts.len());
    let pairs = arrays.iter().map(|(name, x)| (name, text(name, x), texts[name].as_str().unwrap()));
    let wrong: Vec<String> = pairs
        .filter(|(_, got, want)| got != want)
        .map(|(name, got, want)| format!("{name}:\n{got}\nexpected:\n{want}\n"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), texts.len(), wrong.join("\n"));
}

#[test]
fn brain_floats_are_printed_as_the_numbers_that_they_are() {
    let x = Tensor::from_slice(&cpu(), [2], &[bf16::from_f32(0.1), bf16::from_f32(-2.0)]).unwrap();
    assert_eq!(x.to_string(), "[ 0.10009766 -2.        ]");
}

#[test]
fn a_view_is_printed_in_its_own_order() {
    let x = Tensor::from_slice(&cpu(), [2, 3], &[1i32, 2, 3, 4, 5, 6]).unwrap();
    assert_eq!(x.permute(&[1, 0]).unwrap().to_string(), "[[1 4]\n [2 5]\n [3 6]]");
}
