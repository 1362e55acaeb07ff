//! The most that the integer dot product can do.

use std::arch::x86_64::*;
use std::hint::black_box;

#[target_feature(enable = "avx2,f16c,avxvnni")]
pub(super) fn integer_peak(rounds: usize) -> u64 {
    let (codes, x) = (black_box(_mm256_set1_epi8(1)), black_box(_mm256_set1_epi8(3)));
    let mut sums = [_mm256_setzero_si256(); 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, codes, x);
        }
        // Kept by the compiler, but in registers.
        sums[0] = _mm256_xor_si256(sums[0], sums[1]);
    }
    black_box(sums);
    (rounds * sums.len() * 32) as u64
}
