//! Q8_0 of llama.cpp (`block_q8_0`): 32 values in 34 bytes.
//!
//! ```text
//! byte 0, 1   f16 scale
//! byte 2..34  i8 codes; value = code * scale
//! ```

use super::dense::{Dense, byte, round};
use crate::Format;
use half::f16;

/// The format.
pub struct Q8_0;

impl Dense for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const NAME: &'static str = "q8_0";
    const LEN: usize = 32;
    const BYTES: usize = 34;

    fn read(block: &[u8], out: &mut [f32]) {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (out, &code) in out.iter_mut().zip(&block[2..]) {
            *out = f32::from(code as i8) * scale;
        }
    }

    #[inline(always)]
    fn write(values: &[f32], block: &mut [u8]) -> bool {
        let mut largest = [0f32; 16];
        for values in values.chunks(16) {
            for (largest, x) in largest.iter_mut().zip(values) {
                *largest = if x.abs() > *largest { x.abs() } else { *largest };
            }
        }
        let absmax = largest.into_iter().fold(0f32, f32::max);
        let scale = absmax / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (code, x) in block[2..].iter_mut().zip(values) {
            *code = byte(round(x * inverse).clamp(-128.0, 127.0));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_rounded_half_away_from_zero() {
        let values: [f32; 32] = std::array::from_fn(|i| match i {
            0 => -127.0,
            1 => 0.0,
            _ => (i as f32 - 16.0) * 0.5,
        });
        let mut block = [0u8; 34];
        Q8_0::write(&values, &mut block);
        let codes: Vec<i8> = block[2..].iter().map(|&code| code as i8).collect();
        let expected: Vec<i8> = values.iter().map(|x| x.round() as i8).collect();
        assert_eq!(codes, expected);
    }

    #[test]
    fn numbers_too_small_for_a_scale_have_codes_all_the_same() {
        let mut values = [0f32; 32];
        values[3] = 1e-44;
        let mut block = [7u8; 34];
        Q8_0::write(&values, &mut block);
        assert_eq!((block[..2].to_vec(), block[2], block[4]), (vec![0, 0], 0, 0));
    }
}
