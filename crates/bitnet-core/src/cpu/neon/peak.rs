//! The most that `smlal` can do.

use std::arch::aarch64::*;
use std::hint::black_box;

#[target_feature(enable = "neon")]
pub(super) fn integer_peak(rounds: usize) -> u64 {
    let (codes, x) = (black_box(vdup_n_s8(1)), black_box(vdup_n_s8(3)));
    let mut sums = [vdupq_n_s16(0); 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = vmlal_s8(*sum, codes, x);
        }
        // Kept by the compiler, but in registers.
        sums[0] = veorq_s16(sums[0], sums[1]);
    }
    black_box(sums);
    (rounds * sums.len() * 8) as u64
}
