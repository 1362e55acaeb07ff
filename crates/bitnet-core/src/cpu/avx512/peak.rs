//! The most that the integer dot product can do.

use std::arch::x86_64::*;
use std::hint::black_box;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn integer_peak(rounds: usize) -> u64 {
    let (codes, x) = (black_box(_mm512_set1_epi8(1)), black_box(_mm512_set1_epi8(3)));
    let mut sums = [_mm512_setzero_si512(); 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, codes, x);
        }
        // Kept by the compiler, but in registers.
        sums[0] = _mm512_xor_si512(sums[0], sums[1]);
    }
    black_box(sums);
    (rounds * sums.len() * 64) as u64
}
