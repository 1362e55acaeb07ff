//! What the benchmarks share, and [`report`], which makes receipts of them. Run them with
//! `cargo bench --package bitnet-benchmarks`, once each with `-- --test`.
#![cfg_attr(not(feature = "peers"), forbid(unsafe_code))]
#![cfg_attr(feature = "peers", deny(unsafe_code))]

pub mod instructions;
#[cfg(feature = "peers")]
#[path = "peers.rs"]
pub mod peers;
#[cfg(not(feature = "peers"))]
#[path = "no_peers.rs"]
pub mod peers;
pub mod replay;
pub mod report;
pub mod traces;

use bitnet_core::{Device, Tensor};
use criterion::{Criterion, Throughput};
use std::path::PathBuf;
use std::time::Duration;

/// Criterion with times so short that all groups together take a quarter of an hour on two cores.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .nresamples(5_000)
}

/// The work of one iteration, which places a benchmark on the roofline of a report: operations, of which a multiply-add is two,
/// and bytes that are read or written at least once.
pub fn work(operations: usize, bytes: usize) -> Throughput {
    Throughput::ElementsAndBytes { elements: operations as u64, bytes: bytes as u64 }
}

/// The device that `bitnet` would choose.
pub fn device() -> Device {
    Device::open("auto", None).expect("every machine has the scalar tier")
}

/// A tensor of [`floats`].
pub fn tensor<const N: usize>(device: &Device, shape: [usize; N]) -> Tensor {
    Tensor::from_slice(device, shape, &floats(shape.iter().product())).expect("memory")
}

/// A file or folder of the repository.
pub fn file(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", path].iter().collect()
}

/// Numbers that look random and are the same every time.
pub fn floats(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Ternary codes that look random, a third of each.
pub fn codes(len: usize) -> Vec<i8> {
    floats(len).into_iter().map(|x| ((x + 1.0) * 1.499) as i8 - 1).collect()
}
