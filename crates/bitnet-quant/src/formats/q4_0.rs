//! Q4_0 of llama.cpp (`block_q4_0`): 32 values in 18 bytes, only read.
//!
//! ```text
//! byte 0, 1   f16 scale
//! byte 2..18  2 + p holds the values p and p + 16 in bits 0-3 and 4-7; value = (code - 8) * scale
//! ```

use super::dense::Dense;
use crate::Format;
use half::f16;

/// The format.
pub struct Q4_0;

impl Dense for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const NAME: &'static str = "q4_0";
    const LEN: usize = 32;
    const BYTES: usize = 18;

    fn read(block: &[u8], out: &mut [f32]) {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (p, &byte) in block[2..].iter().enumerate() {
            out[p] = f32::from((byte & 15) as i8 - 8) * scale;
            out[p + 16] = f32::from((byte >> 4) as i8 - 8) * scale;
        }
    }

    fn write(_: &[f32], _: &mut [u8]) -> bool {
        false
    }
}
