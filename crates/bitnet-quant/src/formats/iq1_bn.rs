//! IQ1_BN of ik_llama.cpp: 1.625 bits a value and an f16 scale in front of every row.
//!
//! ```text
//! row: f16 scale, then for every 64 values 13 bytes; byte 3 i + k (i < 4, k < 3) holds the values 16 i + 5 k .. + 5,
//!      byte 12 holds the values 15, 31, 47, 63 and a digit 0
//! ```
//!
//! Digits are those of [`base3`] in the opposite order: the first value is the least significant one.

use super::{base3, finite, iq2_bn::row_scale};
use crate::{
    Error, Format, Result, Scales, Ternary,
    format::{Codec, expect, row_blocks},
};
use half::f16;

/// The format.
pub struct Iq1Bn;

const FORMAT: Format = Format::Iq1Bn;
const BLOCK: usize = 13;

fn unpack_block(bytes: &[u8], codes: &mut [i8]) {
    for (i, codes) in codes.chunks_exact_mut(16).enumerate() {
        for k in 0..3 {
            let digits = base3::CODES[usize::from(bytes[3 * i + k])];
            for (j, code) in codes[5 * k..5 * k + 5].iter_mut().enumerate() {
                *code = digits[4 - j];
            }
        }
        codes[15] = base3::CODES[usize::from(bytes[12])][4 - i];
    }
}

fn pack_block(codes: &[i8], bytes: &mut [u8]) {
    for (i, codes) in codes.chunks_exact(16).enumerate() {
        for k in 0..3 {
            bytes[3 * i + k] = base3::pack(codes[5 * k..5 * k + 5].iter().rev().copied());
        }
    }
    // The fifth digit is the most significant one and 0.
    bytes[12] = base3::pack([-1, codes[63], codes[47], codes[31], codes[15]]);
}

impl Codec for Iq1Bn {
    fn name(&self) -> &'static str {
        "iq1_bn"
    }

    fn is_ternary(&self) -> bool {
        true
    }

    fn block_len(&self) -> usize {
        64
    }

    fn block_bytes(&self) -> usize {
        BLOCK
    }

    fn tensor_bytes(&self, rows: usize, cols: usize) -> Result<usize> {
        let row = row_blocks(FORMAT, 1, cols, 64, BLOCK)?.checked_add(2);
        let rule = "a size that can be addressed";
        row.and_then(|row| row.checked_mul(rows)).ok_or(Error::Shape { format: FORMAT, rows, cols, rule })
    }

    fn unpack(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
        expect(FORMAT, "bytes", self.tensor_bytes(rows, cols)?, bytes.len())?;
        let mut codes = vec![0; rows * cols];
        let mut scales = Vec::with_capacity(rows);
        let lines = bytes.chunks_exact(2 + cols / 64 * BLOCK).zip(codes.chunks_exact_mut(cols.max(1)));
        for (row, (bytes, codes)) in lines.enumerate() {
            let (scale, packed) = bytes.split_at(2);
            scales.push(finite(FORMAT, row, f16::from_le_bytes([scale[0], scale[1]]).to_f32())?);
            for (bytes, codes) in packed.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(64)) {
                unpack_block(bytes, codes);
            }
        }
        Ok(Ternary { rows, cols, codes, scales: Scales::Row(scales) })
    }

    fn pack(&self, matrix: &Ternary) -> Result<Vec<u8>> {
        let cols = matrix.cols;
        let mut bytes = vec![0; self.tensor_bytes(matrix.rows, cols)?];
        let lines = bytes.chunks_exact_mut(2 + cols / 64 * BLOCK).zip(matrix.codes.chunks_exact(cols.max(1)));
        for (row, (bytes, codes)) in lines.enumerate() {
            let value = row_scale(FORMAT, matrix, row)?;
            let scale = finite(FORMAT, row, f16::from_f32(value).to_f32())?;
            let (head, packed) = bytes.split_at_mut(2);
            head.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            for (bytes, codes) in packed.chunks_exact_mut(BLOCK).zip(codes.chunks_exact(64)) {
                pack_block(codes, bytes);
            }
        }
        Ok(bytes)
    }

    fn dequantize_row(&self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        let row = self.unpack(bytes, 1, out.len())?;
        row.dequantize_row(0, out);
        Ok(())
    }

    fn quantize_row(&self, _: &[f32], _: &mut [u8]) -> Result<()> {
        Err(Error::Undefined { format: FORMAT, what: "rounding floats to it (ternarize first)" })
    }
}
