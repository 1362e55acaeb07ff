//! 256-bit vectors.

pub(super) mod bit_matmul;
pub(super) mod lanes;
mod peak;
pub(super) mod stream;
pub(super) mod transpose;

tier! {
    name: "avx2",
    features: "avx2,f16c",
    lanes: lanes::F32x16,
    rows: 2,
    tokens: 2,
    heads: 2,
    bit_matmul: bit_matmul::multiply,
    triple_dots: None,
    integer_peak: peak::integer_peak,
    stream: stream::stream,
    fence: stream::fence,
    transpose: transpose::transpose,
}

/// What the processor lacks to run this tier.
pub(super) fn lacking() -> Vec<&'static str> {
    lacking!("avx2", "f16c")
}
