//! Sixteen floats in one register.

use crate::cpu::{
    avx2::{
        self,
        lanes::{largest_of_eight, sum_of_eight},
    },
    topology,
};
use crate::lanes::{Ahead, CODE_ROWS, CODES, Lanes, PAIRS};
use crate::math::{self, LANES};
use crate::ops::bit_matmul::of_len;
use crate::ops::screen::q6_k::{self, SplitCodes};
use std::arch::x86_64::*;

/// Exists only in code compiled for AVX-512.
#[derive(Clone, Copy)]
pub(super) struct F32x16(__m512);

impl Lanes for F32x16 {
    const ONE_REGISTER: bool = true;
    type Narrow = avx2::lanes::F32x16;

    const CODE_TOKENS: usize = 3;

    #[inline(always)]
    fn computes_in_halves() -> bool {
        topology::computes_in_halves()
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: this code is compiled for AVX-512.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: the array has the size of the load, which needs no alignment.
        Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
    }

    #[inline(always)]
    fn load_f32(bytes: &[u8; 64]) -> Self {
        // SAFETY: as in `load`; x86 is little-endian.
        Self(unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_f16(bytes: &[u8; 32]) -> Self {
        // SAFETY: the array has the size of the load, which needs no alignment.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) })
    }

    #[inline(always)]
    fn load_bf16(bytes: &[u8; 32]) -> Self {
        // SAFETY: the array has the size of the load, which needs no alignment.
        let words = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.as_ptr().cast())) };
        // SAFETY: this code is compiled for AVX-512.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)) })
    }

    #[inline(always)]
    fn load_i8(bytes: &[u8; 16]) -> Self {
        // SAFETY: the array has the size of the load, which needs no alignment.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast()))) })
    }

    #[inline(always)]
    fn f16(bits: u16) -> f32 {
        // SAFETY: this code is compiled for F16C.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
    }

    /// Of each block the upper bytes of its codes and the lower seven bits of all behind them.
    #[inline(always)]
    fn arrange_codes(codes: &[[i16; CODES]], to: &mut [[i16; CODES]]) -> i64 {
        for (codes, to) in codes.iter().zip(to) {
            let byte = |i: usize| if i < CODES { codes[i] >> 7 } else { codes[i - CODES] & 127 } as u8;
            *to = std::array::from_fn(|i| i16::from_le_bytes([byte(2 * i), byte(2 * i + 1)]));
        }
        // Codes of rows are multiplied as if they were 128 larger.
        -128 * codes.as_flattened().iter().map(|&code| i64::from(code)).sum::<i64>()
    }

    #[inline(always)]
    fn follows_streams() -> bool {
        topology::follows_streams()
    }

    #[inline(always)]
    fn dot_codes<const T: usize>(
        rows: &[[[i8; CODES]; CODE_ROWS]],
        tokens: [&[[i16; CODES]]; T],
        ahead: Ahead,
    ) -> [[i64; T]; CODE_ROWS] {
        let tokens = of_len(tokens, rows.len());
        // SAFETY: this code is compiled for AVX-512.
        let (zero, sign) = unsafe { (_mm512_setzero_si512(), _mm512_set1_epi8(i8::MIN)) };
        let (mut upper, mut lower) = ([[zero; CODE_ROWS]; T], [[zero; CODE_ROWS]; T]);
        for (b, rows) in rows.iter().enumerate() {
            ahead.ask::<Self>(b);
            // SAFETY: the array has the size of the load, which needs no alignment; this code is compiled for AVX-512.
            let load = |row: &[i8; CODES]| unsafe { _mm512_loadu_si512(row.as_ptr().cast()) };
            let mut codes = [zero; CODE_ROWS];
            for r in 0..CODE_ROWS {
                // SAFETY: as above.
                codes[r] = unsafe { _mm512_xor_si512(load(&rows[r]), sign) };
            }
            for t in 0..T {
                let [high, low] = tokens[t][b].as_chunks::<32>().0 else { unreachable!("64 codes") };
                // SAFETY: as above.
                let [high, low] = [high, low].map(|x| unsafe { _mm512_loadu_si512(x.as_ptr().cast()) });
                for r in 0..CODE_ROWS {
                    // SAFETY: this code is compiled for AVX-512.
                    unsafe {
                        upper[t][r] = _mm512_dpbusd_epi32(upper[t][r], codes[r], high);
                        lower[t][r] = _mm512_dpbusd_epi32(lower[t][r], codes[r], low);
                    }
                }
            }
        }
        let mut dots = [[0; T]; CODE_ROWS];
        for t in 0..T {
            let mut sums = [zero; CODE_ROWS];
            for r in 0..CODE_ROWS {
                // SAFETY: this code is compiled for AVX-512.
                sums[r] = unsafe { _mm512_add_epi32(_mm512_slli_epi32::<7>(upper[t][r]), lower[t][r]) };
            }
            for (dots, sum) in dots.iter_mut().zip(four_sums(sums)) {
                dots[t] = sum;
            }
        }
        dots
    }

    #[inline(always)]
    fn dot_pairs<const N: usize>(
        codes: &[[u8; 2 * LANES]],
        x: [&[[i16; 2]]; N],
        ahead: *const u8,
    ) -> [Self; N] {
        let x = of_len(x, codes.len());
        // SAFETY: this code is compiled for AVX-512.
        let mut sums = [unsafe { _mm512_setzero_si512() }; N];
        for (p, codes) in codes.iter().enumerate() {
            Self::prefetch(ahead.wrapping_add(2 * LANES * p));
            // SAFETY: the array has the size of the load, which needs no alignment; this code is compiled for AVX-512.
            let codes = unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(codes.as_ptr().cast())) };
            for n in 0..N {
                let [first, second] = x[n][p].map(|x| i32::from(x as u16));
                // SAFETY: this code is compiled for AVX-512.
                sums[n] =
                    unsafe { _mm512_dpwssd_epi32(sums[n], codes, _mm512_set1_epi32(first | second << 16)) };
            }
        }
        let mut dots = [Self::splat(0.0); N];
        for n in 0..N {
            // SAFETY: this code is compiled for AVX-512.
            dots[n] = Self(unsafe { _mm512_cvtepi32_ps(sums[n]) });
        }
        dots
    }

    #[inline(always)]
    fn to_pairs(low: Self, high: Self) -> [[i16; 2]; PAIRS] {
        let mut pairs = [[0; 2]; PAIRS];
        for (to, half) in pairs.as_chunks_mut::<8>().0.iter_mut().zip([low, high]) {
            // SAFETY: the array has the size of the store, which needs no alignment; this code is compiled for AVX-512.
            unsafe {
                let codes = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(half.0));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), codes);
            }
        }
        pairs
    }

    #[inline(always)]
    fn dot_q6_k<const T: usize>(block: &[u8; q6_k::BYTES], tokens: [&SplitCodes; T]) -> [Self; T] {
        let weights = six_bits(block);
        let scale = Self::splat(Self::f16(u16::from_le_bytes([block[208], block[209]])));
        // SAFETY: the block has sixteen bytes there; this code is compiled for AVX-512.
        let scales = unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(block[192..208].as_ptr().cast())) };
        let mut dots = [scale; T];
        for (dot, token) in dots.iter_mut().zip(tokens) {
            let bytes = |codes: &[i8; q6_k::BLOCK], k: usize| {
                // SAFETY: a quarter of the codes has the size of the load, which needs no alignment.
                unsafe { _mm512_loadu_si512(codes[64 * k..][..64].as_ptr().cast()) }
            };
            // SAFETY: this code is compiled for AVX-512.
            let mut sum = unsafe { _mm512_setzero_si512() };
            for (k, &weights) in weights.iter().enumerate() {
                let (high, low) = (bytes(&token.high, k), bytes(&token.low, k));
                let lane: [i32; LANES] = std::array::from_fn(|lane| (4 * k + lane / 4) as i32);
                // SAFETY: as above, of arrays of sixteen.
                sum = unsafe {
                    let offset = _mm512_loadu_si512(token.offsets[16 * k..][..16].as_ptr().cast());
                    let high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights, high);
                    let both = _mm512_add_epi32(_mm512_slli_epi32::<7>(high), offset);
                    let both = _mm512_dpbusd_epi32(both, weights, low);
                    let scale = _mm512_permutexvar_epi32(_mm512_loadu_si512(lane.as_ptr().cast()), scales);
                    _mm512_add_epi32(sum, _mm512_mullo_epi32(both, scale))
                };
            }
            // SAFETY: this code is compiled for AVX-512.
            *dot = scale.mul(Self(unsafe { _mm512_cvtepi32_ps(sum) }));
        }
        dots
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX-512.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX-512.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX-512. Where nothing is smaller the second operand is taken.
        Self(unsafe { _mm512_min_ps(other.0, self.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX-512. Where nothing is larger the second operand is taken.
        Self(unsafe { _mm512_max_ps(other.0, self.0) })
    }

    #[inline(always)]
    fn or_nan(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX-512.
        unsafe {
            let none = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(other.0, other.0);
            Self(_mm512_mask_mov_ps(self.0, none, other.0))
        }
    }

    #[inline(always)]
    fn powers_of_two(self) -> [Self; 2] {
        // SAFETY: this code is compiled for AVX-512.
        unsafe {
            let round = _mm512_set1_epi32(math::ROUND.to_bits() as i32);
            let n = _mm512_sub_epi32(_mm512_castps_si512(self.0), round);
            let first = _mm512_srai_epi32::<1>(n);
            let [bias, second] = [_mm512_set1_epi32(127), _mm512_sub_epi32(n, first)];
            let first = _mm512_slli_epi32::<23>(_mm512_add_epi32(first, bias));
            let second = _mm512_slli_epi32::<23>(_mm512_add_epi32(second, bias));
            [Self(_mm512_castsi512_ps(first)), Self(_mm512_castsi512_ps(second))]
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: this code is compiled for AVX-512.
        unsafe { largest_of_eight(_mm256_max_ps(upper(self.0), _mm512_castps512_ps256(self.0))) }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: this code is compiled for AVX-512.
        unsafe { sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(self.0), upper(self.0))) }
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        // SAFETY: the array has the size of the store, which needs no alignment.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) };
        values
    }

    #[inline(always)]
    fn to_f16(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // SAFETY: this code is compiled for AVX-512.
        let halves = unsafe { _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0) };
        // SAFETY: the array has the size of the store, which needs no alignment.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), halves) };
        bytes
    }
}

/// The upper eight lanes.
#[inline(always)]
fn upper(x: __m512) -> __m256 {
    // SAFETY: this code is compiled for AVX-512.
    unsafe { _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x))) }
}

/// Adds up each of four registers, of whose lanes any two fit into 32 bits together.
#[inline(always)]
fn four_sums([a, b, c, d]: [__m512i; 4]) -> [i64; 4] {
    let mut sums = [0; 4];
    // SAFETY: the array has the size of the store, which needs no alignment; this code is compiled for AVX-512.
    unsafe {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let wide = |x: __m512i| {
            let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x));
            _mm512_add_epi64(low, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(x)))
        };
        let all = _mm512_add_epi64(wide(_mm512_unpacklo_epi64(ab, cd)), wide(_mm512_unpackhi_epi64(ab, cd)));
        let all = _mm256_add_epi64(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        _mm256_storeu_si256(sums.as_mut_ptr().cast(), all);
    }
    sums
}

/// The weights of a block of Q6_K in order, plus 32.
#[inline(always)]
fn six_bits(block: &[u8; q6_k::BYTES]) -> [__m512i; 4] {
    let [low0, low1, ..] = block.as_chunks::<64>().0 else { unreachable!("210 bytes") };
    let [high0, high1, ..] = block[128..].as_chunks::<32>().0 else { unreachable!("82 bytes") };
    // SAFETY: the arrays have the sizes of the loads, which need no alignment; this code is compiled for AVX-512.
    unsafe {
        let (four, six) = (_mm512_set1_epi8(15), _mm512_set1_epi8(63));
        let left = _mm512_inserti64x4::<1>(_mm512_set1_epi16(4), _mm256_set1_epi16(2));
        let right = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(2));
        // Four bits of the first and the rest of the second.
        let joined = |low, high| _mm512_and_si512(_mm512_ternarylogic_epi32::<0xCA>(four, low, high), six);
        let half = |low: &[u8; 64], high: &[u8; 32]| {
            let low = _mm512_loadu_si512(low.as_ptr().cast());
            let high = _mm512_broadcast_i64x4(_mm256_loadu_si256(high.as_ptr().cast()));
            [
                joined(low, _mm512_sllv_epi16(high, left)),
                joined(_mm512_srli_epi16::<4>(low), _mm512_srlv_epi16(high, right)),
            ]
        };
        let ([a, b], [c, d]) = (half(low0, high0), half(low1, high1));
        [a, b, c, d]
    }
}
