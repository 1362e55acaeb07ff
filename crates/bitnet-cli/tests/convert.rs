//! Conversions as people ask for them.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;
use std::process::{Command, Output};

fn testdata(path: &str) -> String {
    format!("{}/../../testdata/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn bitnet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bitnet")).args(args).output().unwrap()
}

fn succeeds(args: &[&str]) {
    let output = bitnet(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn logits(model: &str, out: &Path) -> Vec<u8> {
    succeeds(&["logits", "-m", model, "--ids", "504,40,379,273,407", "-o", out.to_str().unwrap()]);
    std::fs::read(out).unwrap()
}

#[test]
fn a_layout_that_only_a_text_tells_apart_is_converted_as_it_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let (npy, arm) = (folder.path().join("x.npy"), testdata("gguf-bitnet/bitnet-i2_s-arm.gguf"));
    let expected = logits(&testdata("gguf-bitnet/bitnet-i2_s.gguf"), &npy);
    assert_eq!(logits(&arm, &npy), expected);
    for (to, name) in [("i2_s", "a.gguf"), ("hf-packed", "a")] {
        let out = folder.path().join(name).to_str().unwrap().to_owned();
        succeeds(&["convert", &arm, &out, "--to", to]);
        assert_eq!(logits(&out, &npy), expected, "{to}");
    }
}

#[test]
fn an_output_that_cannot_be_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (testdata("bitnet-packed"), folder.path().to_str().unwrap());
    for (args, named) in [
        (["convert", &model, "-", "--to", "i2_s"].as_slice(), "stdout"),
        (&["convert", &model, path, "--to", "i2_s"], "folder"),
        (&["convert", &model, "/dev/null", "--to", "i2_s"], "not a regular file"),
        (
            &["convert", &model, &format!("{path}/a"), "--to", "hf-packed", "--embedding", "q6_k"],
            "--embedding",
        ),
    ] {
        let output = bitnet(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(named), "{args:?}: {message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
