//! Receipts of benchmark runs: make them, compare them, draw them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    bitnet_benchmarks::report::cli::main()
}
