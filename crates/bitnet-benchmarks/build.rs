//! Tells the programs which compiler they are built by.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").expect("cargo says which compiler it uses");
    let output = Command::new(rustc).arg("--version").output().expect("the compiler can be run");
    println!("cargo:rustc-env=BITNET_RUSTC={}", String::from_utf8_lossy(&output.stdout).trim());
}
