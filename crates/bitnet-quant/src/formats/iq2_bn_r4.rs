//! IQ2_BN_R4 of ik_llama.cpp: [IQ2_BN](super::iq2_bn) with four rows interleaved.
//!
//! ```text
//! four rows: 4 x f32 scale, then for every 64 columns 64 bytes; byte 16 l + 4 k + i (l, k, i < 4) holds codes + 1 of
//!            row k, columns 16 l + i, + 4, + 8, + 12, in bits 0-1, 2-3, 4-5, 6-7
//! ```

use super::{codes_of, fields, finite, iq2_bn::row_scale, refuse_threes};
use crate::{
    Error, Format, Result, Scales, Ternary,
    format::{Codec, expect},
};

/// The format.
pub struct Iq2BnR4;

const FORMAT: Format = Format::Iq2BnR4;
const ROWS: usize = 4;

/// Row of the four, and first column in a block, of the fields in word `w`; the next fields of its bytes are four columns on.
fn place(w: usize) -> (usize, usize) {
    (w % 4, 16 * (w / 4))
}

impl Codec for Iq2BnR4 {
    fn name(&self) -> &'static str {
        "iq2_bn_r4"
    }

    fn is_ternary(&self) -> bool {
        true
    }

    fn block_len(&self) -> usize {
        64
    }

    fn block_bytes(&self) -> usize {
        16
    }

    fn tensor_bytes(&self, rows: usize, cols: usize) -> Result<usize> {
        let whole = rows.is_multiple_of(ROWS) && cols.is_multiple_of(64);
        let bytes = whole.then(|| (cols / 4 + 4).checked_mul(rows)).flatten();
        let rule = "a multiple of 4 rows and of 64 columns";
        bytes.ok_or(Error::Shape { format: FORMAT, rows, cols, rule })
    }

    fn unpack(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
        expect(FORMAT, "bytes", self.tensor_bytes(rows, cols)?, bytes.len())?;
        let mut codes = vec![0; rows * cols];
        let mut scales = Vec::with_capacity(rows);
        let fours = bytes.chunks_exact(16 + cols).zip(codes.chunks_exact_mut(ROWS * cols.max(1)));
        for (bytes, codes) in fours {
            let (head, packed) = bytes.split_at(16);
            for scale in head.as_chunks::<4>().0 {
                scales.push(finite(FORMAT, scales.len(), f32::from_le_bytes(*scale))?);
            }
            refuse_threes(FORMAT, packed)?;
            for (block, bytes) in packed.as_chunks::<64>().0.iter().enumerate() {
                for (w, &word) in bytes.as_chunks::<4>().0.iter().enumerate() {
                    let (row, col) = place(w);
                    let codes = &mut codes[row * cols + 64 * block + col..][..16];
                    for (j, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                        *codes = codes_of(u32::from_le_bytes(word) >> (2 * j));
                    }
                }
            }
        }
        Ok(Ternary { rows, cols, codes, scales: Scales::Row(scales) })
    }

    fn pack(&self, matrix: &Ternary) -> Result<Vec<u8>> {
        let cols = matrix.cols;
        let mut bytes = vec![0; self.tensor_bytes(matrix.rows, cols)?];
        let fours = bytes.chunks_exact_mut(16 + cols).zip(matrix.codes.chunks_exact(ROWS * cols.max(1)));
        for (four, (bytes, codes)) in fours.enumerate() {
            let (head, packed) = bytes.split_at_mut(16);
            for (k, scale) in head.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *scale = row_scale(FORMAT, matrix, ROWS * four + k)?.to_le_bytes();
            }
            for (block, bytes) in packed.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                for (w, word) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    let (row, col) = place(w);
                    let codes = codes[row * cols + 64 * block + col..][..16].as_chunks::<4>().0;
                    let shifted = codes.iter().enumerate().map(|(j, codes)| fields(codes) << (2 * j));
                    *word = shifted.fold(0, |all, fields| all | fields).to_le_bytes();
                }
            }
        }
        Ok(bytes)
    }

    fn dequantize_row(&self, _: &[u8], _: &mut [f32]) -> Result<()> {
        Err(Error::Undefined { format: FORMAT, what: "a row by itself (four rows are interleaved)" })
    }

    fn quantize_row(&self, _: &[f32], _: &mut [u8]) -> Result<()> {
        Err(Error::Undefined { format: FORMAT, what: "rounding floats to it (ternarize first)" })
    }
}
