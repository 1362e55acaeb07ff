//! Benchmarks of every library; run with `cargo bench --package bitnet-benchmarks`.
#![forbid(unsafe_code)]
