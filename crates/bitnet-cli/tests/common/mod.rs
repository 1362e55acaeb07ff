//! Runs the binary.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(dead_code, clippy::allow_attributes, reason = "no test uses all of it")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

pub fn testdata(path: &str) -> String {
    format!("{}/../../testdata/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The binary, without a variable of the environment that it would read.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BITNET_") {
            command.env_remove(name);
        }
    }
    // What `bitnet tune` found on this machine is no matter of the tests.
    command.env("XDG_CONFIG_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-settings"));
    command.env_remove("RUST_LOG").args(args).stdin(Stdio::null());
    command
}

pub fn bitnet(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub fn with_env(env: &[(&str, &str)], args: &[&str]) -> Output {
    command(args).envs(env.iter().copied()).output().unwrap()
}

pub fn piped(args: &[&str], input: &str) -> Output {
    let mut child =
        command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn succeeds(args: &[&str]) -> String {
    let output = bitnet(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// Asserts that a command line is wrong usage, and gives the message.
pub fn wrong_usage(args: &[&str]) -> String {
    let output = bitnet(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
    stderr(&output)
}
