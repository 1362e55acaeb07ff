//! Sixteen floats in two registers.

use crate::cpu::topology;
use crate::lanes::{Ahead, CODE_ROWS, CODES, Lanes, PAIRS};
use crate::math::{self, LANES};
use crate::ops::bit_matmul::of_len;
use crate::ops::screen::q6_k::{self, SplitCodes};
use std::arch::x86_64::*;

/// Exists only in code compiled for AVX2 and F16C.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct F32x16([__m256; 2]);

/// `f` of both halves of an array.
#[inline(always)]
fn halves<T, const N: usize>(all: &[T], f: impl Fn(&[T; N]) -> __m256) -> F32x16 {
    let [low, high] = all.as_chunks().0 else { unreachable!("two halves") };
    F32x16([f(low), f(high)])
}

impl Lanes for F32x16 {
    type Narrow = Self;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: this code is compiled for AVX2.
        Self([unsafe { _mm256_set1_ps(value) }; 2])
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        halves::<f32, 8>(values, |half| {
            // SAFETY: the array has the size of the load, which needs no alignment.
            unsafe { _mm256_loadu_ps(half.as_ptr()) }
        })
    }

    #[inline(always)]
    fn load_f32(bytes: &[u8; 64]) -> Self {
        halves::<u8, 32>(bytes, |half| {
            // SAFETY: as in `load`; x86 is little-endian.
            unsafe { _mm256_loadu_ps(half.as_ptr().cast()) }
        })
    }

    #[inline(always)]
    fn load_f16(bytes: &[u8; 32]) -> Self {
        halves::<u8, 16>(bytes, |half| {
            // SAFETY: the array has the size of the load, which needs no alignment.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(half.as_ptr().cast())) }
        })
    }

    #[inline(always)]
    fn load_bf16(bytes: &[u8; 32]) -> Self {
        halves::<u8, 16>(bytes, |half| {
            // SAFETY: the array has the size of the load, which needs no alignment.
            let words = unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(half.as_ptr().cast())) };
            // SAFETY: this code is compiled for AVX2.
            unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)) }
        })
    }

    #[inline(always)]
    fn load_i8(bytes: &[u8; 16]) -> Self {
        halves::<u8, 8>(bytes, |half| {
            // SAFETY: the array has the size of the load, which needs no alignment.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(half.as_ptr().cast()))) }
        })
    }

    #[inline(always)]
    fn f16(bits: u16) -> f32 {
        // SAFETY: this code is compiled for F16C.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
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
        // SAFETY: this code is compiled for AVX2.
        let zero = unsafe { _mm256_setzero_si256() };
        let mut sums = [[zero; T]; CODE_ROWS];
        for (b, rows) in rows.iter().enumerate() {
            ahead.ask::<Self>(b);
            for quarter in 0..4 {
                let mut codes = [zero; CODE_ROWS];
                for r in 0..CODE_ROWS {
                    let row = &rows[r].as_chunks::<16>().0[quarter];
                    // SAFETY: the array has the size of the load, which needs no alignment.
                    codes[r] = unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(row.as_ptr().cast())) };
                }
                for t in 0..T {
                    let token = &tokens[t][b].as_chunks::<16>().0[quarter];
                    // SAFETY: as above.
                    let x = unsafe { _mm256_loadu_si256(token.as_ptr().cast()) };
                    for r in 0..CODE_ROWS {
                        // SAFETY: this code is compiled for AVX2.
                        sums[r][t] = unsafe { _mm256_add_epi32(sums[r][t], _mm256_madd_epi16(codes[r], x)) };
                    }
                }
            }
        }
        let mut dots = [[0; T]; CODE_ROWS];
        for (dot, sum) in dots.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            let mut lanes = [0i32; 8];
            // SAFETY: the array has the size of the store, which needs no alignment.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), *sum) };
            *dot = lanes.into_iter().map(i64::from).sum();
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
        // SAFETY: this code is compiled for AVX2.
        let mut sums = [[unsafe { _mm256_setzero_si256() }; 2]; N];
        for (p, codes) in codes.iter().enumerate() {
            Self::prefetch(ahead.wrapping_add(2 * LANES * p));
            let [low, high] = codes.as_chunks::<16>().0 else { unreachable!("32 codes") };
            // SAFETY: the arrays have the size of the loads, which need no alignment; this code is compiled for AVX2.
            let codes = unsafe {
                [
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(low.as_ptr().cast())),
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(high.as_ptr().cast())),
                ]
            };
            for n in 0..N {
                let [first, second] = x[n][p].map(|x| i32::from(x as u16));
                // SAFETY: this code is compiled for AVX2.
                unsafe {
                    let x = _mm256_set1_epi32(first | second << 16);
                    sums[n][0] = _mm256_add_epi32(sums[n][0], _mm256_madd_epi16(codes[0], x));
                    sums[n][1] = _mm256_add_epi32(sums[n][1], _mm256_madd_epi16(codes[1], x));
                }
            }
        }
        let mut dots = [Self::splat(0.0); N];
        for n in 0..N {
            // SAFETY: this code is compiled for AVX2.
            dots[n] = Self(unsafe { [_mm256_cvtepi32_ps(sums[n][0]), _mm256_cvtepi32_ps(sums[n][1])] });
        }
        dots
    }

    #[inline(always)]
    fn to_pairs(low: Self, high: Self) -> [[i16; 2]; PAIRS] {
        let mut pairs = [[0; 2]; PAIRS];
        for (to, Self([a, b])) in pairs.as_chunks_mut::<8>().0.iter_mut().zip([low, high]) {
            // SAFETY: the array has the size of the store, which needs no alignment; this code is compiled for AVX2.
            unsafe {
                // The upper half of each operand comes behind the lower ones of both.
                let codes = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
                let codes = _mm256_permute4x64_epi64::<0b11_01_10_00>(codes);
                _mm256_storeu_si256(to.as_mut_ptr().cast(), codes);
            }
        }
        pairs
    }

    #[inline(always)]
    fn dot_q6_k<const T: usize>(block: &[u8; q6_k::BYTES], tokens: [&SplitCodes; T]) -> [Self; T] {
        let scale = Self::splat(Self::f16(u16::from_le_bytes([block[208], block[209]])));
        // SAFETY: this code is compiled for AVX2.
        let mut sums = [[unsafe { _mm256_setzero_si256() }; 2]; T];
        for eighth in 0..8 {
            let weights = six_bits(block, eighth);
            let scales = &block[192 + 2 * eighth..][..2];
            // SAFETY: this code is compiled for AVX2.
            let scales = unsafe {
                let of = |scale: u8| _mm_set1_epi32(i32::from(scale as i8));
                _mm256_set_m128i(of(scales[1]), of(scales[0]))
            };
            for (sums, token) in sums.iter_mut().zip(tokens) {
                let (high, low) = (&token.high[32 * eighth..][..32], &token.low[32 * eighth..][..32]);
                let offsets = &token.offsets[8 * eighth..][..8];
                // SAFETY: the slices have the size of the loads, which need no alignment; this code is compiled for AVX2.
                sums[eighth % 2] = unsafe {
                    let high = _mm256_maddubs_epi16(weights, _mm256_loadu_si256(high.as_ptr().cast()));
                    let low = _mm256_maddubs_epi16(weights, _mm256_loadu_si256(low.as_ptr().cast()));
                    let both = _mm256_add_epi32(
                        _mm256_madd_epi16(high, _mm256_set1_epi16(128)),
                        _mm256_madd_epi16(low, _mm256_set1_epi16(1)),
                    );
                    let both = _mm256_add_epi32(both, _mm256_loadu_si256(offsets.as_ptr().cast()));
                    _mm256_add_epi32(sums[eighth % 2], _mm256_mullo_epi32(both, scales))
                };
            }
        }
        sums.map(|sums| {
            // SAFETY: this code is compiled for AVX2.
            let sums = sums.map(|sum| unsafe { _mm256_cvtepi32_ps(sum) });
            scale.mul(Self(sums))
        })
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX2.
        Self(unsafe { [_mm256_add_ps(self.0[0], other.0[0]), _mm256_add_ps(self.0[1], other.0[1])] })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX2.
        Self(unsafe { [_mm256_mul_ps(self.0[0], other.0[0]), _mm256_mul_ps(self.0[1], other.0[1])] })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX2. Where nothing is smaller the second operand is taken.
        Self(unsafe { [_mm256_min_ps(other.0[0], self.0[0]), _mm256_min_ps(other.0[1], self.0[1])] })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: this code is compiled for AVX2. Where nothing is larger the second operand is taken.
        Self(unsafe { [_mm256_max_ps(other.0[0], self.0[0]), _mm256_max_ps(other.0[1], self.0[1])] })
    }

    #[inline(always)]
    fn or_nan(self, other: Self) -> Self {
        let mut lanes = self;
        for half in 0..2 {
            // SAFETY: this code is compiled for AVX2.
            lanes.0[half] = unsafe {
                let none = _mm256_cmp_ps::<_CMP_UNORD_Q>(other.0[half], other.0[half]);
                _mm256_blendv_ps(self.0[half], other.0[half], none)
            };
        }
        lanes
    }

    #[inline(always)]
    fn powers_of_two(self) -> [Self; 2] {
        let [low, high] = [powers_of_two(self.0[0]), powers_of_two(self.0[1])];
        [Self([low[0], high[0]]), Self([low[1], high[1]])]
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: this code is compiled for AVX2.
        largest_of_eight(unsafe { _mm256_max_ps(self.0[1], self.0[0]) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: this code is compiled for AVX2.
        sum_of_eight(unsafe { _mm256_add_ps(self.0[0], self.0[1]) })
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        for (half, values) in self.0.into_iter().zip(values.as_chunks_mut::<8>().0) {
            // SAFETY: the array has the size of the store, which needs no alignment.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr(), half) };
        }
        values
    }

    #[inline(always)]
    fn to_f16(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (half, bytes) in self.0.into_iter().zip(bytes.as_chunks_mut::<16>().0) {
            // SAFETY: this code is compiled for F16C.
            let halves = unsafe { _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(half) };
            // SAFETY: the array has the size of the store, which needs no alignment.
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), halves) };
        }
        bytes
    }
}

/// Half of [`Lanes::powers_of_two`].
#[inline(always)]
fn powers_of_two(shifted: __m256) -> [__m256; 2] {
    // SAFETY: this code is compiled for AVX2.
    unsafe {
        let n =
            _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(math::ROUND.to_bits() as i32));
        let first = _mm256_srai_epi32::<1>(n);
        let [bias, second] = [_mm256_set1_epi32(127), _mm256_sub_epi32(n, first)];
        let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(first, bias));
        let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(second, bias));
        [_mm256_castsi256_ps(first), _mm256_castsi256_ps(second)]
    }
}

/// The largest of eight lanes, in the order of [`Lanes::largest`].
#[inline(always)]
pub(in crate::cpu) fn largest_of_eight(x: __m256) -> f32 {
    // SAFETY: this is compiled for AVX at least.
    unsafe {
        let x = _mm_max_ps(_mm256_extractf128_ps::<1>(x), _mm256_castps256_ps128(x));
        let x = _mm_max_ps(_mm_movehl_ps(x, x), x);
        _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(x), x))
    }
}

/// The sum of eight lanes, in the order of [`math::tree_sum`].
#[inline(always)]
pub(in crate::cpu) fn sum_of_eight(x: __m256) -> f32 {
    // SAFETY: this is compiled for AVX at least.
    unsafe {
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }
}

/// 32 weights of a block of Q6_K, plus 32.
#[inline(always)]
fn six_bits(block: &[u8; q6_k::BYTES], eighth: usize) -> __m256i {
    let (half, quarter) = (eighth / 4, eighth % 4);
    let (low, high) = (&block[64 * half + quarter % 2 * 32..][..32], &block[128 + 32 * half..][..32]);
    // SAFETY: the slices have the size of the loads, which need no alignment; this code is compiled for AVX2.
    unsafe {
        let (low, high) = (_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast()));
        let (low, high) = match quarter {
            0 => (low, _mm256_slli_epi16::<4>(high)),
            1 => (low, _mm256_slli_epi16::<2>(high)),
            2 => (_mm256_srli_epi16::<4>(low), high),
            _ => (_mm256_srli_epi16::<4>(low), _mm256_srli_epi16::<2>(high)),
        };
        let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
        _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(48)))
    }
}
