//! Sixteen floats in one register.

use crate::lanes::Lanes;
use crate::math::LANES;
use std::arch::x86_64::*;

/// Exists only in code compiled for AVX-512.
#[derive(Clone, Copy)]
pub(super) struct F32x16(__m512);

impl Lanes for F32x16 {
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

    #[inline(always)]
    fn dot_codes(codes: &[[i8; 32]], x: &[[i16; 32]]) -> i32 {
        // SAFETY: this code is compiled for AVX-512.
        let mut sum = unsafe { _mm512_setzero_si512() };
        for (codes, x) in codes.iter().zip(x) {
            // SAFETY: the arrays have the sizes of the loads, which need no alignment.
            sum = unsafe {
                let codes = _mm512_cvtepi8_epi16(_mm256_loadu_si256(codes.as_ptr().cast()));
                let x = _mm512_loadu_si512(x.as_ptr().cast());
                _mm512_add_epi32(sum, _mm512_madd_epi16(codes, x))
            };
        }
        // SAFETY: this code is compiled for AVX-512.
        unsafe { _mm512_reduce_add_epi32(sum) }
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
