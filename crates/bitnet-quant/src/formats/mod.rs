//! One file a format: where every value lies, pack, unpack, and for ternary ones the meaning of a dot product.

pub mod base3;
pub mod dense;
pub mod float;
mod groups;
pub mod hf_packed;
pub mod i2s;
pub mod iq1_bn;
pub mod iq2_bn;
pub mod iq2_bn_r4;
pub mod ptq1;
pub mod q2_0;
pub mod q4_0;
pub mod q4_k;
pub mod q5_0;
pub mod q6_k;
pub mod q8_0;
pub mod tl;
pub mod tq1;
pub mod tq2;

use crate::{Error, Format, Result};

/// Whether any of the four 2-bit fields of a byte is 3.
#[inline]
fn has_three(byte: u8) -> bool {
    byte & (byte >> 1) & 0x55 != 0
}

/// Four codes of -1, 0 and 1 as fields of 0, 1 and 2, one in every byte of a word.
fn fields(codes: &[i8; 4]) -> u32 {
    let codes = u32::from_le_bytes(codes.map(i8::cast_unsigned));
    // No byte carries into the next: the highest bit of each is added apart.
    ((codes & 0x7f7f_7f7f) + 0x0101_0101) ^ (codes & 0x8080_8080)
}

/// The codes of four [fields], whose bytes may hold other bits above them.
fn codes_of(fields: u32) -> [i8; 4] {
    let codes = ((fields & 0x0303_0303 | 0x8080_8080) - 0x0101_0101) ^ 0x8080_8080;
    codes.to_le_bytes().map(u8::cast_signed)
}

/// Refuses bytes with a field of 3 by the first of them.
fn refuse_threes(format: Format, bytes: &[u8]) -> Result<()> {
    // Or-ing a chunk is many times faster than looking for a place that is nearly never there.
    let mut chunks = bytes.chunks(4096);
    if !chunks.any(|chunk| chunk.iter().fold(0, |any, byte| any | (byte & byte >> 1)) & 0x55 != 0) {
        return Ok(());
    }
    match bytes.iter().position(|&byte| has_three(byte)) {
        Some(byte) => Err(Error::Code { format, byte }),
        None => Ok(()),
    }
}

/// Refuses a scale that is not a finite number.
fn finite(format: Format, index: usize, value: f32) -> Result<f32> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Error::Scale { format, index, value, rule: "a finite number" })
    }
}
