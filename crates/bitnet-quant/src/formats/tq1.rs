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

/// Unpacks a run of `A` bytes and one of `B`, five digits each, and one of `C` bytes of four digits.
#[inline(always)]
pub(super) fn unpack_runs<const A: usize, const B: usize, const C: usize>(block: &[u8], codes: &mut [i8]) {
    let (first, rest) = codes.split_at_mut(5 * A);
    let (second, third) = rest.split_at_mut(5 * B);
    unpack_run::<A>(&block[..A], first);
    unpack_run::<B>(&block[A..A + B], second);
    unpack_run::<C>(&block[A + B..A + B + C], third);
}

/// Digit by digit, the bytes of each in vectors whose length the compiler knows.
#[inline(always)]
fn unpack_run<const W: usize>(bytes: &[u8], codes: &mut [i8]) {
    let bytes = bytes.first_chunk::<W>().expect("a block has all its runs");
    for (k, codes) in codes.as_chunks_mut::<W>().0.iter_mut().enumerate() {
        for i in 0..W {
            codes[i] = base3::code(bytes[i], k);
        }
    }
}

/// The reverse of [`unpack_runs`].
#[inline(always)]
pub(super) fn pack_runs<const A: usize, const B: usize, const C: usize>(codes: &[i8], block: &mut [u8]) {
    let (first, rest) = codes.split_at(5 * A);
    let (second, third) = rest.split_at(5 * B);
    pack_run::<A>(first, &mut block[..A]);
    pack_run::<B>(second, &mut block[A..A + B]);
    pack_run::<C>(third, &mut block[A + B..A + B + C]);
}

#[inline(always)]
fn pack_run<const W: usize>(codes: &[i8], bytes: &mut [u8]) {
    let (mut values, digits) = ([0; W], codes.as_chunks::<W>().0);
    for codes in digits {
        for i in 0..W {
            values[i] = base3::push(values[i], codes[i]);
        }
    }
    for _ in digits.len()..5 {
        values = values.map(|value| value * 3);
    }
    for (byte, value) in bytes.iter_mut().zip(values) {
        *byte = base3::byte(value);
    }
}

fn unpack(block: &[u8], codes: &mut [i8]) -> Result<(), usize> {
    unpack_runs::<32, 16, 4>(block, codes);
    Ok(())
}

fn pack(codes: &[i8], block: &mut [u8]) {
    pack_runs::<32, 16, 4>(codes, block);
}
