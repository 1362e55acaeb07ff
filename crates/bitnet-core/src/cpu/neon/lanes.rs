//! Sixteen floats in four registers.

use crate::lanes::Lanes;
use crate::math::{self, LANES};
use crate::ops::bit_matmul::of_len;
use std::arch::aarch64::*;
use std::arch::asm;

/// Exists only in code compiled for NEON, which every 64-bit Arm has.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct F32x16([float32x4_t; 4]);

/// `f` of every quarter of an array.
#[inline(always)]
fn quarters<T, const N: usize>(all: &[T], f: impl Fn(&[T; N]) -> float32x4_t) -> F32x16 {
    let [a, b, c, d] = all.as_chunks().0 else { unreachable!("four quarters") };
    F32x16([f(a), f(b), f(c), f(d)])
}

/// `f` of every pair of registers.
#[inline(always)]
fn zip(a: F32x16, b: F32x16, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> F32x16 {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.0, b.0);
    F32x16([f(a0, b0), f(a1, b1), f(a2, b2), f(a3, b3)])
}

/// The larger one of each pair of lanes, see [`Lanes::max`].
#[inline(always)]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: every 64-bit Arm has NEON.
    unsafe { vbslq_f32(vcgtq_f32(b, a), b, a) }
}

/// A quarter of [`Lanes::powers_of_two`].
#[inline(always)]
fn powers_of_two(shifted: float32x4_t) -> [float32x4_t; 2] {
    // SAFETY: every 64-bit Arm has NEON.
    unsafe {
        let n = vsubq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(math::ROUND.to_bits() as i32));
        let first = vshrq_n_s32::<1>(n);
        let [bias, second] = [vdupq_n_s32(127), vsubq_s32(n, first)];
        let first = vshlq_n_s32::<23>(vaddq_s32(first, bias));
        let second = vshlq_n_s32::<23>(vaddq_s32(second, bias));
        [vreinterpretq_f32_s32(first), vreinterpretq_f32_s32(second)]
    }
}

impl Lanes for F32x16 {
    type Narrow = Self;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: every 64-bit Arm has NEON.
        Self([unsafe { vdupq_n_f32(value) }; 4])
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: the array has the size of the load, which needs no alignment.
        quarters::<f32, 4>(values, |values| unsafe { vld1q_f32(values.as_ptr()) })
    }

    #[inline(always)]
    fn load_f32(bytes: &[u8; 64]) -> Self {
        // SAFETY: as in `load`, with bytes in the order of the target.
        quarters::<u8, 16>(bytes, |bytes| unsafe { vreinterpretq_f32_u8(vld1q_u8(bytes.as_ptr())) })
    }

    #[inline(always)]
    fn load_f16(bytes: &[u8; 32]) -> Self {
        quarters::<u8, 8>(bytes, |bytes| {
            // SAFETY: the array has the size of the load, which needs no alignment.
            let halves = unsafe { vld1_u8(bytes.as_ptr()) };
            let floats: float32x4_t;
            // SAFETY: one instruction of NEON on registers; Rust has no stable intrinsic for it.
            unsafe {
                asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) floats, in(vreg) halves, options(pure, nomem, nostack))
            };
            floats
        })
    }

    #[inline(always)]
    fn load_bf16(bytes: &[u8; 32]) -> Self {
        quarters::<u8, 8>(bytes, |bytes| {
            // SAFETY: the array has the size of the load, which needs no alignment.
            let halves = unsafe { vreinterpret_u16_u8(vld1_u8(bytes.as_ptr())) };
            // SAFETY: every 64-bit Arm has NEON.
            unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(halves)) }
        })
    }

    #[inline(always)]
    fn load_i8(bytes: &[u8; 16]) -> Self {
        // SAFETY: the array has the size of the load, which needs no alignment.
        let bytes = unsafe { vreinterpretq_s8_u8(vld1q_u8(bytes.as_ptr())) };
        // SAFETY: every 64-bit Arm has NEON.
        let (low, high) = unsafe { (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)) };
        // SAFETY: as above.
        let words = unsafe {
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]
        };
        let [a, b, c, d] = words;
        // SAFETY: as above.
        Self(unsafe { [vcvtq_f32_s32(a), vcvtq_f32_s32(b), vcvtq_f32_s32(c), vcvtq_f32_s32(d)] })
    }

    #[inline(always)]
    fn f16(bits: u16) -> f32 {
        math::f16_to_f32(bits)
    }

    #[inline(always)]
    fn dot_pairs<const N: usize>(
        codes: &[[u8; 2 * LANES]],
        x: [&[[i16; 2]]; N],
        ahead: *const u8,
    ) -> [Self; N] {
        let x = of_len(x, codes.len());
        // SAFETY: every 64-bit Arm has NEON.
        let mut sums = [[unsafe { vdupq_n_s32(0) }; 4]; N];
        for (p, codes) in codes.iter().enumerate() {
            Self::prefetch(ahead.wrapping_add(2 * LANES * p));
            // SAFETY: the array has the size of the load, which needs no alignment.
            let int8x16x2_t(first, second) = unsafe { vld2q_s8(codes.as_ptr().cast()) };
            // SAFETY: every 64-bit Arm has NEON.
            let codes = unsafe {
                [
                    [vmovl_s8(vget_low_s8(first)), vmovl_high_s8(first)],
                    [vmovl_s8(vget_low_s8(second)), vmovl_high_s8(second)],
                ]
            };
            for n in 0..N {
                for (codes, x) in codes.iter().zip(x[n][p]) {
                    for half in 0..2 {
                        let sums = &mut sums[n][2 * half..][..2];
                        // SAFETY: every 64-bit Arm has NEON.
                        unsafe {
                            sums[0] = vmlal_n_s16(sums[0], vget_low_s16(codes[half]), x);
                            sums[1] = vmlal_high_n_s16(sums[1], codes[half], x);
                        }
                    }
                }
            }
        }
        let mut dots = [Self::splat(0.0); N];
        for n in 0..N {
            let [a, b, c, d] = sums[n];
            // SAFETY: every 64-bit Arm has NEON.
            dots[n] =
                Self(unsafe { [vcvtq_f32_s32(a), vcvtq_f32_s32(b), vcvtq_f32_s32(c), vcvtq_f32_s32(d)] });
        }
        dots
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: every 64-bit Arm has NEON.
        zip(self, other, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: every 64-bit Arm has NEON.
        zip(self, other, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    fn or_nan(self, other: Self) -> Self {
        // SAFETY: every 64-bit Arm has NEON.
        zip(self, other, |a, b| unsafe { vbslq_f32(vceqq_f32(b, b), a, b) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: every 64-bit Arm has NEON.
        zip(self, other, |a, b| unsafe { vbslq_f32(vcltq_f32(b, a), b, a) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        zip(self, other, larger)
    }

    #[inline(always)]
    fn powers_of_two(self) -> [Self; 2] {
        let [a, b, c, d] = self.0;
        let [a, b, c, d] = [powers_of_two(a), powers_of_two(b), powers_of_two(c), powers_of_two(d)];
        [Self([a[0], b[0], c[0], d[0]]), Self([a[1], b[1], c[1], d[1]])]
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let [a, b, c, d] = self.0;
        let x = larger(larger(a, c), larger(b, d));
        // SAFETY: every 64-bit Arm has NEON.
        unsafe {
            let x = larger(x, vextq_f32::<2>(x, x));
            math::max(vgetq_lane_f32::<0>(x), vgetq_lane_f32::<1>(x))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: every 64-bit Arm has NEON.
        unsafe {
            let x = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            let x = vaddq_f32(x, vextq_f32::<2>(x, x));
            vgetq_lane_f32::<0>(x) + vgetq_lane_f32::<1>(x)
        }
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        for (quarter, values) in self.0.into_iter().zip(values.as_chunks_mut::<4>().0) {
            // SAFETY: the array has the size of the store, which needs no alignment.
            unsafe { vst1q_f32(values.as_mut_ptr(), quarter) };
        }
        values
    }
}
