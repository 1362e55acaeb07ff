//! Q6_K of llama.cpp (`block_q6_K`): 256 values in 210 bytes.
//!
//! ```text
//! byte 0..128    bits 0-3 of the codes + 32; byte 64 h + 32 q + p (h, q < 2) holds the values 128 h + 32 q + p and + 64
//! byte 128..192  bits 4-5; byte 128 + 32 h + p holds the values 128 h + p, + 32, + 64, + 96 in bits 0-1, 2-3, 4-5, 6-7
//! byte 192..208  i8 scale of each run of 16 values
//! byte 208, 209  f16 scale of the scales; value = scale * s * code
//! ```

use super::dense::Dense;
use crate::Format;
use half::f16;

/// The format.
pub struct Q6K;

const RUN: usize = 16;

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

    fn write(values: &[f32], block: &mut [u8]) -> bool {
        block.fill(0);
        let scales: [f32; 16] = std::array::from_fn(|run| best_scale(&values[RUN * run..][..RUN]));
        let largest = scales.iter().copied().fold(0f32, |a, s| if s.abs() > a.abs() { s } else { a });
        let scale = f16::from_f32(largest / -128.0);
        block[208..].copy_from_slice(&scale.to_le_bytes());
        if scale == f16::ZERO {
            // Code 0 everywhere: any code times a zero scale is zero.
            return true;
        }
        for (run, s) in scales.into_iter().enumerate() {
            let s = (s / scale.to_f32()).round_ties_even().clamp(-128.0, 127.0);
            block[192 + run] = s as i8 as u8;
            let step = scale.to_f32() * s;
            for (i, &x) in values.iter().enumerate().skip(RUN * run).take(RUN) {
                let code = if step == 0.0 { 0.0 } else { (x / step).round_ties_even().clamp(-32.0, 31.0) };
                put(block, i, (code as i8 + 32) as u8);
            }
        }
        true
    }
}

fn put(block: &mut [u8], i: usize, code: u8) {
    let (h, q, p) = (i / 128, i % 128 / 32, i % 32);
    block[64 * h + 32 * (q % 2) + p] |= (code & 15) << (4 * (q / 2));
    block[128 + 32 * h + p] |= (code >> 4) << (2 * q);
}

/// The step with the least squared error, weighted by the squares of the values, among some around `-max / 32`, each
/// improved by least squares.
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
        // What least squares takes off the error.
        let gain = with_codes * with_codes / codes;
        if codes > 0.0 && gain > best.0 {
            best = (gain, with_codes / codes);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use crate::Format;

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
