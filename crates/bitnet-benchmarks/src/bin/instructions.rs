//! Instructions of the hot kernels, as a gate: `cargo run --release --package bitnet-benchmarks --bin instructions`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    bitnet_benchmarks::instructions::main()
}
