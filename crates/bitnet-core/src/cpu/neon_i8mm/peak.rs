//! The most that the integer matrix product can do.

use super::bit_matmul::products;
use std::arch::aarch64::*;
use std::hint::black_box;

#[target_feature(enable = "neon,i8mm")]
pub(super) fn integer_peak(rounds: usize) -> u64 {
    let (codes, x) = (black_box(vdupq_n_s8(1)), black_box(vdupq_n_s8(3)));
    let mut sums = [vdupq_n_s32(0); 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = products(*sum, codes, x);
        }
        // Kept by the compiler, but in registers.
        sums[0] = veorq_s32(sums[0], sums[1]);
    }
    black_box(sums);
    (rounds * sums.len() * 32) as u64
}
