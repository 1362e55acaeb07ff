//! 128-bit vectors of 64-bit Arm with the integer dot product of Armv8.2.

pub(super) mod bit_matmul;
mod peak;

tier! {
    name: "neon-dotprod",
    features: "neon,dotprod",
    lanes: super::neon::lanes::F32x16,
    rows: 2,
    tokens: 2,
    heads: 2,
    bit_matmul: bit_matmul::multiply,
    triple_dots: None,
    integer_peak: peak::integer_peak,
    stream: ops::copy::rows,
    fence: ops::copy::fence,
    transpose: ops::transpose::reference,
}

/// What the processor lacks to run this tier.
pub(super) fn lacking() -> Vec<&'static str> {
    lacking!("dotprod")
}
