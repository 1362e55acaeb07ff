//! Packed checkpoints of transformers (`integrations/bitnet.py`, `pack_weights`): two bits a value, four rows in a byte.
//!
//! ```text
//! byte r * cols + k  (r < rows/4)   codes + 1 of column k in the rows r, r + rows/4, r + rows/2, r + 3 rows/4,
//!                                   in bits 0-1, 2-3, 4-5, 6-7
//! ```
//!
//! The scale is another tensor. Unpacked matrices have scale 1 until it is put in.

use super::refuse_threes;
use crate::{
    Error, Format, Result, Scales, Ternary,
    format::{Codec, expect},
};

/// The format.
pub struct HfPacked;

const FORMAT: Format = Format::HfPacked;

impl Codec for HfPacked {
    fn name(&self) -> &'static str {
        "hf-packed"
    }

    fn is_ternary(&self) -> bool {
        true
    }

    fn block_len(&self) -> usize {
        4
    }

    fn block_bytes(&self) -> usize {
        1
    }

    fn tensor_bytes(&self, rows: usize, cols: usize) -> Result<usize> {
        let bytes = rows.is_multiple_of(4).then(|| (rows / 4).checked_mul(cols)).flatten();
        bytes.ok_or(Error::Shape { format: FORMAT, rows, cols, rule: "a multiple of 4 rows" })
    }

    fn unpack(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
        expect(FORMAT, "bytes", self.tensor_bytes(rows, cols)?, bytes.len())?;
        refuse_threes(FORMAT, bytes)?;
        let mut codes = vec![0; 4 * bytes.len()];
        for (quarter, codes) in codes.chunks_exact_mut(bytes.len().max(1)).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = (byte >> (2 * quarter) & 3) as i8 - 1;
            }
        }
        Ok(Ternary { rows, cols, codes, scales: Scales::Tensor(1.0) })
    }

    fn pack(&self, matrix: &Ternary) -> Result<Vec<u8>> {
        if !matches!(matrix.scales, Scales::Tensor(_)) {
            let (holds, has) = ("for the matrix", matrix.scales.granularity());
            return Err(Error::Scales { format: FORMAT, holds, has });
        }
        let len = self.tensor_bytes(matrix.rows, matrix.cols)?;
        let mut bytes = vec![0u8; len];
        for (quarter, codes) in matrix.codes.chunks_exact(len.max(1)).enumerate() {
            for (byte, code) in bytes.iter_mut().zip(codes) {
                *byte |= ((code + 1) as u8) << (2 * quarter);
            }
        }
        Ok(bytes)
    }

    fn dequantize_row(&self, _: &[u8], _: &mut [f32]) -> Result<()> {
        Err(Error::Undefined { format: FORMAT, what: "a row by itself (four rows share a byte)" })
    }

    fn quantize_row(&self, _: &[f32], _: &mut [u8]) -> Result<()> {
        Err(Error::Undefined { format: FORMAT, what: "rounding floats to it (ternarize first)" })
    }
}
