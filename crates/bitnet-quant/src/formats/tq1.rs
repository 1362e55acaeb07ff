//! TQ1_0 of llama.cpp (`ggml-common.h`, `block_tq1_0`): 256 values in 54 bytes, 1.6875 bits a value.
//!
//! ```text
//! byte 0..32   p holds the values p, p + 32, p + 64, p + 96, p + 128
//! byte 32..48  32 + p holds the values 160 + p, + 16, + 32, + 48, + 64
//! byte 48..52  48 + p holds the values 240 + p, + 4, + 8, + 12 and a digit 0
//! byte 52, 53  f16 scale
//! ```
//!
//! Digits in a byte: [`base3`].

use super::{base3, groups::Blocks};
use crate::Format;

/// The format.
pub static TQ1: Blocks =
    Blocks { format: Format::Tq1, name: "tq1_0", len: 256, bytes: 54, scale_at: 52, unpack, pack };

/// First byte, first value, bytes and digits of each run.
pub(super) type Run = (usize, usize, usize, usize);

const RUNS: [Run; 3] = [(0, 0, 32, 5), (32, 160, 16, 5), (48, 240, 4, 4)];

pub(super) fn unpack_runs(runs: &[Run], block: &[u8], codes: &mut [i8]) {
    for &(first_byte, first, width, digits) in runs {
        let bytes = &block[first_byte..first_byte + width];
        let codes = codes[first..first + width * digits].chunks_exact_mut(width);
        for (k, codes) in codes.enumerate() {
            for (code, &byte) in codes.iter_mut().zip(bytes) {
                *code = base3::code(byte, k);
            }
        }
    }
}

pub(super) fn pack_runs(runs: &[Run], codes: &[i8], block: &mut [u8]) {
    for &(first_byte, first, width, digits) in runs {
        let mut values = [0; 32];
        let values = &mut values[..width];
        for codes in codes[first..first + width * digits].chunks_exact(width) {
            values.iter_mut().zip(codes).for_each(|(value, &code)| *value = base3::push(*value, code));
        }
        (digits..5).for_each(|_| values.iter_mut().for_each(|value| *value *= 3));
        let bytes = &mut block[first_byte..first_byte + width];
        bytes.iter_mut().zip(values).for_each(|(byte, value)| *byte = base3::byte(*value));
    }
}

fn unpack(block: &[u8], codes: &mut [i8]) -> Result<(), usize> {
    unpack_runs(&RUNS, block, codes);
    Ok(())
}

fn pack(codes: &[i8], block: &mut [u8]) {
    pack_runs(&RUNS, codes, block);
}
