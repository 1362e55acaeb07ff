//! 128-bit vectors of 64-bit Arm.

pub(super) mod bit_matmul;
pub(super) mod lanes;
mod peak;

tier! {
    name: "neon",
    features: "neon",
    lanes: lanes::F32x16,
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
