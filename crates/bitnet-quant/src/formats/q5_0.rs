//! Q5_0 of llama.cpp (`block_q5_0`): 32 values in 22 bytes, only read.
//!
//! ```text
//! byte 0, 1   f16 scale
//! byte 2..6   bit 4 of every value, value i in bit i
//! byte 6..22  6 + p holds bits 0-3 of the values p and p + 16; value = (code - 16) * scale
//! ```

use super::dense::Dense;
use crate::Format;
use half::f16;

/// The format.
pub struct Q5_0;

impl Dense for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const NAME: &'static str = "q5_0";
    const LEN: usize = 32;
    const BYTES: usize = 22;

    fn read(block: &[u8], out: &mut [f32]) {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        let value = |low: u8, i: usize| f32::from((low | (((high >> i) & 1) as u8 * 16)) as i8 - 16) * scale;
        for (p, &byte) in block[6..].iter().enumerate() {
            out[p] = value(byte & 15, p);
            out[p + 16] = value(byte >> 4, p + 16);
        }
    }

    fn write(_: &[f32], _: &mut [u8]) -> bool {
        false
    }
}
