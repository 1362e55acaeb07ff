//! Q8_0 of llama.cpp (`block_q8_0`): 32 values in 34 bytes.
//!
//! ```text
//! byte 0, 1   f16 scale
//! byte 2..34  i8 codes; value = code * scale
//! ```

use super::dense::Dense;
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

    fn write(values: &[f32], block: &mut [u8]) -> bool {
        let absmax = values.iter().fold(0f32, |max, x| max.max(x.abs()));
        let scale = absmax / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (code, x) in block[2..].iter_mut().zip(values) {
            *code = (x * inverse).round().clamp(-128.0, 127.0) as i8 as u8;
        }
        true
    }
}
