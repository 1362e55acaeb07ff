//! Sixteen f32 lanes: the vector in which the heavy float kernels are written once for all tiers.

use crate::math::{self, LANES};
use crate::ops::screen::q6_k::{self, SplitCodes};

/// Codes of a block.
pub(crate) const CODES: usize = 64;
/// Blocks of codes whose products fit into 32 bits in each of sixteen lanes.
pub(crate) const CODE_BLOCKS: usize = 64;

/// Pairs of codes that come from two vectors of lanes.
pub(crate) const PAIRS: usize = LANES;

/// Rows of codes whose blocks lie beside each other: a block of each, then the next.
pub(crate) const CODE_ROWS: usize = 4;

/// The product of a pair of codes with another one.
#[inline(always)]
pub(crate) fn pair_product(codes: [u8; 2], x: [i16; 2]) -> i32 {
    i32::from(x[0]) * i32::from(codes[0] as i8) + i32::from(x[1]) * i32::from(codes[1] as i8)
}

/// Memory that is asked for while something else is computed.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// Where it begins.
    pub(crate) from: *const u8,
    /// Lines of 64 bytes that are asked for with every block.
    pub(crate) lines: usize,
    /// Bytes from a line to the next.
    pub(crate) stride: usize,
}

impl Ahead {
    /// What goes with blocks from `block` on.
    #[inline(always)]
    pub(crate) fn skip(self, block: usize) -> Self {
        Self { from: self.from.wrapping_add(self.stride * self.lines * block), ..self }
    }

    /// Asks for what goes with a block.
    #[inline(always)]
    pub(crate) fn ask<L: Lanes>(self, block: usize) {
        let from = self.skip(block).from;
        for line in 0..self.lines {
            L::prefetch(from.wrapping_add(self.stride * line));
        }
    }
}

/// Sixteen floats with lane-wise arithmetic. Every implementation gives the same bits.
pub(crate) trait Lanes: Copy {
    /// Whether all lanes are in one register.
    const ONE_REGISTER: bool = false;

    /// Lanes in registers of half the width, or the same.
    type Narrow: Lanes;

    /// Whether this processor computes on a register in two halves, so that narrow lanes wait less for conversions.
    #[inline(always)]
    fn computes_in_halves() -> bool {
        false
    }

    /// Tokens whose sums with [`CODE_ROWS`] rows fit in the registers, at most three.
    const CODE_TOKENS: usize = 2;

    /// The same value in all lanes.
    fn splat(value: f32) -> Self;
    /// Sixteen floats.
    fn load(values: &[f32; LANES]) -> Self;
    /// Sixteen little-endian f32.
    fn load_f32(bytes: &[u8; 64]) -> Self;
    /// Sixteen little-endian f16.
    fn load_f16(bytes: &[u8; 32]) -> Self;
    /// Sixteen little-endian bf16.
    fn load_bf16(bytes: &[u8; 32]) -> Self;
    /// Sixteen i8.
    fn load_i8(bytes: &[u8; 16]) -> Self;
    /// Value of half-precision bits.
    fn f16(bits: u16) -> f32;
    /// Asks for the cache line at an address, which need not be valid.
    fn prefetch(address: *const u8);
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self * other`.
    fn mul(self, other: Self) -> Self;
    /// The lanes in order.
    fn to_array(self) -> [f32; LANES];

    /// Blocks of the codes of a token, below 2^14, as [`Lanes::dot_codes`] wants them. Returns what its sums lack for the products with any row.
    #[inline(always)]
    fn arrange_codes(codes: &[[i16; CODES]], to: &mut [[i16; CODES]]) -> i64 {
        to.copy_from_slice(codes);
        0
    }

    /// Sums of at most [`CODE_BLOCKS`] blocks of codes of each row, of magnitudes up to 2^7, with as many of each token, below 2^14 and arranged.
    /// Asks for as much of what is ahead with every block.
    #[inline(always)]
    fn dot_codes<const T: usize>(
        rows: &[[[i8; CODES]; CODE_ROWS]],
        tokens: [&[[i16; CODES]]; T],
        ahead: Ahead,
    ) -> [[i64; T]; CODE_ROWS] {
        let mut dots = [[0; T]; CODE_ROWS];
        for (b, rows) in rows.iter().enumerate() {
            ahead.ask::<Self>(b);
            for (row, dots) in rows.iter().zip(&mut dots) {
                for (dot, token) in dots.iter_mut().zip(tokens) {
                    let products = row.iter().zip(&token[b]);
                    *dot +=
                        i64::from(products.map(|(&code, &x)| i32::from(code) * i32::from(x)).sum::<i32>());
                }
            }
        }
        dots
    }

    /// `Σ x[p] · codes[p]` of the pairs in each lane, which fits into 32 bits. Asks for as many bytes ahead.
    #[inline(always)]
    fn dot_pairs<const N: usize>(
        codes: &[[u8; 2 * LANES]],
        x: [&[[i16; 2]]; N],
        ahead: *const u8,
    ) -> [Self; N] {
        let mut sums = [[0i32; LANES]; N];
        for (p, codes) in codes.iter().enumerate() {
            Self::prefetch(ahead.wrapping_add(2 * LANES * p));
            for n in 0..N {
                for (sum, codes) in sums[n].iter_mut().zip(codes.as_chunks().0) {
                    *sum += pair_product(*codes, x[n][p]);
                }
            }
        }
        sums.map(|sums| Self::load(&sums.map(|sum| sum as f32)))
    }

    /// The lanes of two vectors, each rounded to an i16 if it is one, half to even.
    #[inline(always)]
    fn to_pairs(low: Self, high: Self) -> [[i16; 2]; PAIRS] {
        let mut pairs = [[0; 2]; PAIRS];
        let lanes = [low.to_array(), high.to_array()];
        for (code, lane) in pairs.as_flattened_mut().iter_mut().zip(lanes.as_flattened()) {
            *code = math::round(*lane).1 as i16;
        }
        pairs
    }

    /// Products of a block of Q6_K with as many codes of each token, see [`q6_k::dot_block`].
    #[inline(always)]
    fn dot_q6_k<const T: usize>(block: &[u8; q6_k::BYTES], tokens: [&SplitCodes; T]) -> [Self; T] {
        tokens.map(|token| q6_k::dot_block(block, token))
    }

    /// Whether asking for every other line of a single stream is enough.
    #[inline(always)]
    fn follows_streams() -> bool {
        false
    }

    /// The nearest little-endian f16.
    #[inline(always)]
    fn to_f16(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (y, x) in bytes.as_chunks_mut().0.iter_mut().zip(self.to_array()) {
            *y = math::f32_to_f16(x).to_le_bytes();
        }
        bytes
    }

    /// The smaller one of each pair of lanes; that of `self` where they compare equal or one is NaN.
    fn min(self, other: Self) -> Self;
    /// The larger one of each pair of lanes; that of `self` where they compare equal or one is NaN.
    fn max(self, other: Self) -> Self;
    /// `other` in the lanes where it is NaN.
    fn or_nan(self, other: Self) -> Self;
    /// Two powers of two for each lane, the product of which is `2^n`: `n` is in the lowest bits of a float that [`math::ROUND`] was added to.
    fn powers_of_two(self) -> [Self; 2];
    /// The largest lane: lane `i` takes `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn largest(self) -> f32;
    /// The sum of the lanes, as [`math::tree_sum`].
    fn sum(self) -> f32;

    /// As [`math::exp`].
    #[inline(always)]
    fn exp(self) -> Self {
        let [least, most] = math::EXP_ENDS;
        let x = self.max(Self::splat(least)).min(Self::splat(most));
        let shifted = x.mul(Self::splat(std::f32::consts::LOG2_E)).add(Self::splat(math::ROUND));
        let n = shifted.add(Self::splat(-math::ROUND));
        let r = x.add(n.mul(Self::splat(-math::LN_2[0]))).add(n.mul(Self::splat(-math::LN_2[1])));
        let mut p = Self::splat(math::EXP_COEFFICIENTS[0]);
        for c in &math::EXP_COEFFICIENTS[1..] {
            p = p.mul(r).add(Self::splat(*c));
        }
        let y = p.mul(r.mul(r)).add(r).add(Self::splat(1.0));
        let [first, second] = shifted.powers_of_two();
        y.mul(first).mul(second)
    }

    /// `self + a * b` in two roundings.
    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        self.add(a.mul(b))
    }
}

impl Lanes for [f32; LANES] {
    type Narrow = Self;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; LANES]
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        *values
    }

    #[inline(always)]
    fn load_f32(bytes: &[u8; 64]) -> Self {
        let words = bytes.as_chunks::<4>().0;
        std::array::from_fn(|i| f32::from_le_bytes(words[i]))
    }

    #[inline(always)]
    fn load_f16(bytes: &[u8; 32]) -> Self {
        let halves = bytes.as_chunks::<2>().0;
        std::array::from_fn(|i| math::f16_to_f32(u16::from_le_bytes(halves[i])))
    }

    #[inline(always)]
    fn load_bf16(bytes: &[u8; 32]) -> Self {
        let halves = bytes.as_chunks::<2>().0;
        std::array::from_fn(|i| math::bf16_to_f32(u16::from_le_bytes(halves[i])))
    }

    #[inline(always)]
    fn load_i8(bytes: &[u8; 16]) -> Self {
        std::array::from_fn(|i| f32::from(bytes[i] as i8))
    }

    #[inline(always)]
    fn f16(bits: u16) -> f32 {
        math::f16_to_f32(bits)
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if other[i] < self[i] { other[i] } else { self[i] })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| math::max(self[i], other[i]))
    }

    #[inline(always)]
    fn or_nan(self, other: Self) -> Self {
        std::array::from_fn(|i| if other[i].is_nan() { other[i] } else { self[i] })
    }

    #[inline(always)]
    fn powers_of_two(self) -> [Self; 2] {
        let powers = self.map(|shifted| math::powers_of_two(math::shifted_integer(shifted)));
        [powers.map(|[first, _]| first), powers.map(|[_, second]| second)]
    }

    #[inline(always)]
    fn largest(mut self) -> f32 {
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                self[i] = math::max(self[i], self[i + width]);
            }
        }
        self[0]
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        math::tree_sum(&self)
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        self
    }
}

/// A storage type in which sixteen consecutive numbers are `BYTES` consecutive bytes.
pub(crate) trait Number<const BYTES: usize> {
    /// Sixteen numbers.
    fn load<L: Lanes>(bytes: &[u8; BYTES]) -> L;
    /// One number, `BYTES / 16` bytes.
    fn value(bytes: &[u8]) -> f32;
}

/// Stored f32.
pub(crate) struct F32;

/// Stored f16.
pub(crate) struct F16;

/// Stored bf16.
pub(crate) struct Bf16;

impl Number<64> for F32 {
    #[inline(always)]
    fn load<L: Lanes>(bytes: &[u8; 64]) -> L {
        L::load_f32(bytes)
    }

    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Number<32> for F16 {
    #[inline(always)]
    fn load<L: Lanes>(bytes: &[u8; 32]) -> L {
        L::load_f16(bytes)
    }

    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        math::f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

impl Number<32> for Bf16 {
    #[inline(always)]
    fn load<L: Lanes>(bytes: &[u8; 32]) -> L {
        L::load_bf16(bytes)
    }

    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        math::bf16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the tiers are compared with the scalar ones by the parity tests of attention.
    #[test]
    fn exponentials_of_lanes_are_those_of_numbers() {
        let specials = [
            f32::NEG_INFINITY,
            f32::INFINITY,
            f32::NAN,
            0.0,
            -0.0,
            -105.0,
            -104.9,
            88.8,
            89.0,
            f32::MAX,
            f32::MIN,
        ];
        let range = (-220..220).map(|i| i as f32 * 0.497);
        let x: Vec<f32> = specials.into_iter().chain(range).collect();
        for x in x.chunks(LANES) {
            let mut lanes = [1.0; LANES];
            lanes[..x.len()].copy_from_slice(x);
            let y = Lanes::exp(lanes);
            for (x, y) in lanes.into_iter().zip(y) {
                let expected = math::exp(x);
                assert!(
                    y.to_bits() == expected.to_bits() || y.is_nan() && expected.is_nan(),
                    "{x}: {y}, {expected}"
                );
            }
        }
    }
}
