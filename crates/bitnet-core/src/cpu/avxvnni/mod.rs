//! 256-bit vectors with the integer dot product of AVX-VNNI.

mod bit_matmul;
mod panel;
mod peak;

tier! {
    name: "avxvnni",
    features: "avx2,f16c,avxvnni",
    lanes: super::avx2::lanes::F32x16,
    rows: 2,
    tokens: 2,
    heads: 2,
    bit_matmul: bit_matmul::multiply,
    triple_dots: None,
    integer_peak: peak::integer_peak,
    stream: crate::cpu::avx2::stream::stream,
    fence: crate::cpu::avx2::stream::fence,
    transpose: crate::cpu::avx2::transpose::transpose,
}

/// What the processor lacks to run this tier.
pub(super) fn lacking() -> Vec<&'static str> {
    lacking!("avx2", "f16c", "avxvnni")
}
