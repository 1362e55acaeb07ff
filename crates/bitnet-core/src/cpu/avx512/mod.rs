//! 512-bit vectors with the integer dot product of AVX-512 VNNI.

pub(super) mod bit_matmul;
mod lanes;
mod peak;
mod triples;

tier! {
    name: "avx512",
    features: "avx512f,avx512bw,avx512vl,avx512vnni",
    lanes: lanes::F32x16,
    rows: 4,
    tokens: 4,
    heads: 4,
    bit_matmul: bit_matmul::multiply,
    triple_dots: Some(triples::dots),
    integer_peak: peak::integer_peak,
    stream: crate::cpu::avx2::stream::stream,
    fence: crate::cpu::avx2::stream::fence,
    transpose: crate::cpu::avx2::transpose::transpose,
}

/// What the processor lacks to run this tier. To the compiler `avx512f` includes AVX2, F16C and FMA, which a hypervisor may mask.
pub(super) fn lacking() -> Vec<&'static str> {
    lacking!("avx2", "f16c", "fma", "avx512f", "avx512bw", "avx512vl", "avx512vnni")
}
