//! TQ2_0 of llama.cpp (`ggml-common.h`, `block_tq2_0`): 256 values in 66 bytes, 2.0625 bits a value.
//!
//! ```text
//! byte 0..64   codes + 1; byte 32h + p holds the values 128h + p, + 32, + 64, + 96 in bits 0-1, 2-3, 4-5, 6-7
//! byte 64, 65  f16 scale
//! ```

use super::{groups::Blocks, has_three};
use crate::Format;

/// The format.
pub static TQ2: Blocks =
    Blocks { format: Format::Tq2, name: "tq2_0", len: 256, bytes: 66, scale_at: 64, unpack, pack };

fn unpack(block: &[u8], codes: &mut [i8]) -> Result<(), usize> {
    for (half, codes) in codes.chunks_exact_mut(128).enumerate() {
        for p in 0..32 {
            let byte = block[half * 32 + p];
            if has_three(byte) {
                return Err(half * 32 + p);
            }
            for quarter in 0..4 {
                codes[32 * quarter + p] = (byte >> (2 * quarter) & 3) as i8 - 1;
            }
        }
    }
    Ok(())
}

fn pack(codes: &[i8], block: &mut [u8]) {
    for (half, codes) in codes.chunks_exact(128).enumerate() {
        for p in 0..32 {
            let field = |quarter: usize| ((codes[32 * quarter + p] + 1) as u8) << (2 * quarter);
            block[half * 32 + p] = field(0) | field(1) | field(2) | field(3);
        }
    }
}
