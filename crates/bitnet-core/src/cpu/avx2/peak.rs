//! The most that `maddubs` with 16-bit sums can do.

use std::arch::x86_64::*;
use std::hint::black_box;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn integer_peak(rounds: usize) -> u64 {
    let x = black_box(_mm256_set1_epi8(3));
    let mut sums = [_mm256_setzero_si256(); 12];
    for _ in 0..rounds {
        // Depends on the sum, or else the compiler would multiply only once.
        for sum in &mut sums {
            *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(*sum, x));
        }
    }
    black_box(sums);
    (rounds * sums.len() * 32) as u64
}
