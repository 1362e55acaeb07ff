//! Sixteen f32 lanes: the vector in which the heavy float kernels are written once for all tiers.

use crate::math::{self, LANES};
use crate::ops::screen::q6_k::{self, SplitCodes};

/// Codes of a block.
pub(crate) const CODES: usize = 64;
/// Blocks of codes whose products fit into 32 bits in each of sixteen lanes.
pub(crate) const CODE_BLOCKS: usize = 64;

/// Sixteen floats with lane-wise arithmetic. Every implementation gives the same bits.
pub(crate) trait Lanes: Copy {
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

    /// Blocks of the codes of a token, below 2^14, as [`Lanes::dot_codes`] wants them.
    #[inline(always)]
    fn arrange_codes(codes: &[[i16; CODES]], to: &mut [[i16; CODES]]) {
        to.copy_from_slice(codes);
    }

    /// Sums of the products of at most [`CODE_BLOCKS`] blocks of codes of each row, of magnitudes up to 2^7, with as many of each token, below
    /// 2^14 and arranged. Asks for what lies `ahead` bytes behind the codes.
    #[inline(always)]
    fn dot_codes<const R: usize, const T: usize>(
        rows: [&[[i8; CODES]]; R],
        tokens: [&[[i16; CODES]]; T],
        ahead: usize,
    ) -> [[i64; T]; R] {
        // So many that their sum fits into 32 bits.
        const BLOCKS: usize = 8;
        let mut dots = [[0; T]; R];
        for (row, dots) in rows.into_iter().zip(&mut dots) {
            for (i, codes) in row.chunks(BLOCKS).enumerate() {
                for line in codes {
                    Self::prefetch(line.as_ptr().cast::<u8>().wrapping_add(ahead));
                }
                for (dot, token) in dots.iter_mut().zip(tokens) {
                    let x = token[i * BLOCKS..][..codes.len()].as_flattened();
                    let products = codes.as_flattened().iter().zip(x);
                    *dot +=
                        i64::from(products.map(|(&code, &x)| i32::from(code) * i32::from(x)).sum::<i32>());
                }
            }
        }
        dots
    }

    /// Products of a block of Q6_K with as many codes of each token, see [`q6_k::dot_block`].
    #[inline(always)]
    fn dot_q6_k<const T: usize>(block: &[u8; q6_k::BYTES], tokens: [&SplitCodes; T]) -> [Self; T] {
        tokens.map(|token| q6_k::dot_block(block, token))
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

    /// `self + a * b` in two roundings.
    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        self.add(a.mul(b))
    }
}

impl Lanes for [f32; LANES] {
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
