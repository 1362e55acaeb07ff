//! What the benchmarks share. Run them with `cargo bench --package bitnet-benchmarks`, once each with `-- --test`.
#![forbid(unsafe_code)]

use bitnet_core::Device;

/// The device that `bitnet` would choose.
pub fn device() -> Device {
    Device::open("auto", None).expect("every machine has the scalar tier")
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
