//! 256-bit vectors with the integer dot product of AVX-VNNI.

mod bit_matmul;
mod peak;

tier! {
    name: "avxvnni",
    features: "avx2,f16c,avxvnni",
    lanes: super::avx2::lanes::F32x16,
    rows: 2,
    tokens: 2,
    heads: 2,
    bit_matmul: bit_matmul::multiply,
    integer_peak: peak::integer_peak,
    stream: crate::cpu::avx2::stream::stream,
}

/// Whether the processor runs this tier.
pub(super) fn is_present() -> bool {
    super::avx2::is_present() && is_x86_feature_detected!("avxvnni")
}
