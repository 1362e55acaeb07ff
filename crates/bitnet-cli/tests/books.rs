//! The embedded model against the loss that transformers gives its original.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::Command;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/books-22m.gguf");
const IDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/books-22m/valid_ids.npy");
/// Nats a token of transformers in float32: 8 windows of 512, every position scored.
const ORIGINAL: f64 = 3.24627;

fn bitnet(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bitnet")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nats(model: &str, windows: usize) -> f64 {
    let chunks = windows.to_string();
    let args = [
        "perplexity",
        "-m",
        model,
        "--ids",
        IDS,
        "-c",
        "512",
        "--chunks",
        &chunks,
        "--protocol",
        "full",
        "--json",
    ];
    let value: serde_json::Value = serde_json::from_str(&bitnet(&args)).unwrap();
    assert_eq!(value["tokens"], windows * 512);
    value["nats"].as_f64().unwrap()
}

#[test]
fn the_embedded_model_loses_at_most_0_002_nats() {
    let embedded = nats(MODEL, 8);
    assert!((embedded - ORIGINAL).abs() <= 0.002, "{embedded}");
}

#[test]
fn a_conversion_to_other_scales_loses_at_most_0_0005_nats() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf").to_str().unwrap().to_owned();
    let embedded = nats(MODEL, 1);
    for format in ["i2_s", "tq2_0"] {
        bitnet(&["convert", MODEL, &out, "--to", format]);
        let converted = nats(&out, 1);
        assert!((converted - embedded).abs() <= 0.0005, "{format}: {converted}, embedded {embedded}");
    }
}
