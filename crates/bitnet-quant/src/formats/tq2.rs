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
    let halves = block[..64].as_chunks::<32>().0;
    for (bytes, codes) in halves.iter().zip(codes.chunks_exact_mut(128)) {
        for (quarter, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = (byte >> (2 * quarter) & 3) as i8 - 1;
            }
        }
    }
    let any = block[..64].iter().fold(0, |any, byte| any | (byte & byte >> 1)) & 0x55;
    if any == 0 { Ok(()) } else { Err(block.iter().position(|&byte| has_three(byte)).unwrap_or_default()) }
}

fn pack(codes: &[i8], block: &mut [u8]) {
    let halves = block[..64].as_chunks_mut::<32>().0;
    for (bytes, codes) in halves.iter_mut().zip(codes.chunks_exact(128)) {
        *bytes = [0; 32];
        for (quarter, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
            bytes
                .iter_mut()
                .zip(codes)
                .for_each(|(byte, &code)| *byte |= ((code + 1) as u8) << (2 * quarter));
        }
    }
}
