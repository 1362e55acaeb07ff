//! Q4_K of llama.cpp (`block_q4_K`): 256 values in 144 bytes, only read.
//!
//! ```text
//! byte 0, 1     f16 scale of the scales
//! byte 2, 3     f16 scale of the minima
//! byte 4..16    6-bit scale s and minimum m of each of the 8 runs of 32 values
//!               run j < 4:  s = bits 0-5 of byte 4 + j, m = bits 0-5 of byte 8 + j
//!               run j >= 4: s = bits 0-3 of byte 8 + j and bits 6-7 of byte j,
//!                           m = bits 4-7 of byte 8 + j and bits 6-7 of byte 4 + j
//! byte 16..144  16 + 32 r + p (r < 4) holds the values 64 r + p and 64 r + 32 + p in bits 0-3 and 4-7
//! value = scale * s * code - minimum * m
//! ```

use super::dense::Dense;
use crate::Format;
use half::f16;

/// The format.
pub struct Q4K;

/// Scale and minimum of run `j`.
fn run(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        return (packed[j] & 63, packed[j + 4] & 63);
    }
    (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
}

impl Dense for Q4K {
    const FORMAT: Format = Format::Q4K;
    const NAME: &'static str = "q4_k";
    const LEN: usize = 256;
    const BYTES: usize = 144;

    fn read(block: &[u8], out: &mut [f32]) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let (scale, minimum) = (half(0), half(2));
        for (j, out) in out.chunks_exact_mut(32).enumerate() {
            let (s, m) = run(&block[4..16], j);
            let (s, m) = (scale * f32::from(s), minimum * f32::from(m));
            for (out, &byte) in out.iter_mut().zip(&block[16 + 32 * (j / 2)..]) {
                let code = if j % 2 == 0 { byte & 15 } else { byte >> 4 };
                *out = s * f32::from(code) - m;
            }
        }
    }

    fn write(_: &[f32], _: &mut [u8]) -> bool {
        false
    }
}
