//! Q6_K of llama.cpp (`block_q6_K`): 256 values in 210 bytes.
//!
//! ```text
//! byte 0..128    bits 0-3 of the codes + 32; byte 64 h + 32 q + p (h, q < 2) holds the values 128 h + 32 q + p and + 64
//! byte 128..192  bits 4-5; byte 128 + 32 h + p holds the values 128 h + p, + 32, + 64, + 96 in bits 0-1, 2-3, 4-5, 6-7
//! byte 192..208  i8 scale of each run of 16 values
//! byte 208, 209  f16 scale of the scales; value = scale * s * code
//! ```

use super::dense::{Dense, SHIFT, byte};
use crate::Format;
use half::f16;

/// The format.
pub struct Q6K;

/// Values of a run.
const RUN: usize = 16;
/// Runs of a block.
const RUNS: usize = 16;

impl Dense for Q6K {
    const FORMAT: Format = Format::Q6K;
    const NAME: &'static str = "q6_k";
    const LEN: usize = 256;
    const BYTES: usize = 210;

    fn read(block: &[u8], out: &mut [f32]) {
        let scale = f16::from_le_bytes([block[208], block[209]]).to_f32();
        for (i, out) in out.iter_mut().enumerate() {
            let (h, q, p) = (i / 128, i % 128 / 32, i % 32);
            let low = block[64 * h + 32 * (q % 2) + p] >> (4 * (q / 2)) & 15;
            let high = block[128 + 32 * h + p] >> (2 * q) & 3;
            *out = scale * f32::from(block[192 + i / RUN] as i8) * f32::from((low | high << 4) as i8 - 32);
        }
    }

    #[inline(always)]
    fn write(values: &[f32], block: &mut [u8]) -> bool {
        let scales = best_scales(values);
        let largest = scales.iter().copied().fold(0f32, |a, s| if s.abs() > a.abs() { s } else { a });
        let scale = f16::from_f32(largest / -128.0);
        block.fill(0);
        block[208..].copy_from_slice(&scale.to_le_bytes());
        if scale == f16::ZERO {
            // Code 0 everywhere: any code times a zero scale is zero.
            return true;
        }
        let scale = scale.to_f32();
        let mut codes = [0u8; 256];
        for (run, (values, codes)) in values.chunks_exact(RUN).zip(codes.chunks_exact_mut(RUN)).enumerate() {
            let s = round(scales[run] / scale).clamp(-128.0, 127.0);
            block[192 + run] = s as i8 as u8;
            let step = scale * s;
            if step == 0.0 {
                codes.fill(32);
                continue;
            }
            for (code, x) in codes.iter_mut().zip(values) {
                *code = byte(round(x / step).clamp(-32.0, 31.0)).wrapping_add(32);
            }
        }
        put(&codes, block);
        true
    }
}

/// The nearest integer, half to even, of a number below 2^22; what lies beyond stays beyond 2^21.
#[inline(always)]
fn round(x: f32) -> f32 {
    (x + SHIFT) - SHIFT
}

/// Writes the bits of the codes.
#[inline(always)]
fn put(codes: &[u8; 256], block: &mut [u8]) {
    let (low, high) = block[..192].split_at_mut(128);
    for (codes, (low, high)) in
        codes.chunks_exact(128).zip(low.chunks_exact_mut(64).zip(high.chunks_exact_mut(32)))
    {
        let (first, second) = codes.split_at(64);
        for ((low, a), b) in low.iter_mut().zip(first).zip(second) {
            *low = a & 15 | b << 4;
        }
        for (p, high) in high.iter_mut().enumerate() {
            *high =
                codes[p] >> 4 | codes[32 + p] >> 4 << 2 | codes[64 + p] >> 4 << 4 | codes[96 + p] >> 4 << 6;
        }
    }
}

/// For each run, the step with the least squared error, weighted by the squares of the values, among some around `-max / 32`, each
/// improved by least squares. The runs are computed side by side.
#[inline(always)]
fn best_scales(values: &[f32]) -> [f32; RUNS] {
    let x: [[f32; RUNS]; RUN] = std::array::from_fn(|i| std::array::from_fn(|run| values[RUN * run + i]));
    let mut max = [0f32; RUNS];
    for x in &x {
        for (max, &x) in max.iter_mut().zip(x) {
            *max = if x.abs() > max.abs() { x } else { *max };
        }
    }
    let (mut gains, mut best) = ([0f32; RUNS], [0f32; RUNS]);
    for shift in -9..=9i8 {
        // Infinite for a run of zeros, whose sums are then no numbers and lose.
        let inverse = max.map(|max| -(32.0 + 0.1 * f32::from(shift)) / max);
        let (mut with_codes, mut codes) = ([0f32; RUNS], [0f32; RUNS]);
        for x in &x {
            for run in 0..RUNS {
                let code = round(x[run] * inverse[run]).clamp(-32.0, 31.0);
                let weight = x[run] * x[run];
                with_codes[run] += weight * x[run] * code;
                codes[run] += weight * code * code;
            }
        }
        for run in 0..RUNS {
            // What least squares takes off the error.
            let gain = with_codes[run] * with_codes[run] / codes[run];
            let better = codes[run] > 0.0 && gain > gains[run];
            gains[run] = if better { gain } else { gains[run] };
            best[run] = if better { with_codes[run] / codes[run] } else { best[run] };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// [`best_scales`] of one run.
    fn best_scale(x: &[f32]) -> f32 {
        let max = x.iter().copied().fold(0f32, |a, x| if x.abs() > a.abs() { x } else { a });
        if max == 0.0 {
            return 0.0;
        }
        let mut best = (0.0, 0.0);
        for shift in -9..=9i8 {
            let inverse = -(32.0 + 0.1 * f32::from(shift)) / max;
            let (mut with_codes, mut codes) = (0f32, 0f32);
            for &x in x {
                let code = (x * inverse).round_ties_even().clamp(-32.0, 31.0);
                let weight = x * x;
                with_codes += weight * x * code;
                codes += weight * code * code;
            }
            let gain = with_codes * with_codes / codes;
            if codes > 0.0 && gain > best.0 {
                best = (gain, with_codes / codes);
            }
        }
        best.1
    }

    proptest! {
        #[test]
        fn runs_side_by_side_have_the_scales_of_each_alone(
            values in prop::collection::vec((-1f32..1.0, -44i32..20), 256),
            (zeros, alike) in (0usize..17, 0usize..17),
        ) {
            let mut values: Vec<f32> = values.iter().map(|&(x, size)| x * (size as f32).exp2()).collect();
            values[..16 * zeros].fill(0.0);
            values[256 - 16 * alike..].fill(0.25);
            let each: Vec<u32> = values.chunks(16).map(|run| best_scale(run).to_bits()).collect();
            prop_assert_eq!(best_scales(&values).map(f32::to_bits).to_vec(), each);
        }

        #[test]
        fn codes_come_back_from_their_bits(codes in prop::collection::vec(0u8..64, 256)) {
            let mut block = [0u8; 210];
            put(codes.as_slice().try_into().unwrap(), &mut block);
            block[192..208].fill(1);
            block[208..].copy_from_slice(&f16::ONE.to_le_bytes());
            let mut values = [0f32; 256];
            Q6K::read(&block, &mut values);
            prop_assert!(codes.iter().zip(values).all(|(&code, value)| f32::from(code) - 32.0 == value));
        }
    }

    #[test]
    fn noise_is_below_half_a_percent_of_the_signal() {
        let x: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin() * (1.0 + i as f32 / 100.0)).collect();
        let mut bytes = vec![0; 420];
        Format::Q6K.quantize_row(&x, &mut bytes).unwrap();
        let mut y = vec![0.0; 512];
        Format::Q6K.dequantize_row(&bytes, &mut y).unwrap();
        assert!(crate::metrics::sqnr(&x, &y) > 35.0, "{} dB", crate::metrics::sqnr(&x, &y));
    }

    #[test]
    fn zeros_stay_zero() {
        let mut bytes = vec![1; 210];
        Format::Q6K.quantize_row(&[0.0; 256], &mut bytes).unwrap();
        let mut y = vec![1.0; 256];
        Format::Q6K.dequantize_row(&bytes, &mut y).unwrap();
        assert!(y.iter().all(|&y| y == 0.0));
    }
}
