//! IQ2_BN of ik_llama.cpp: two bits a value and an f32 scale in front of every row.
//!
//! ```text
//! row: f32 scale, then for every 64 values 16 bytes; byte p holds codes + 1 of the values p, p + 16, p + 32, p + 48
//!      in bits 0-1, 2-3, 4-5, 6-7
//! ```

use super::{finite, refuse_threes};
use crate::{
    Error, Format, Result, Scales, Ternary,
    format::{Codec, expect, row_blocks},
};

/// The format.
pub struct Iq2Bn;

const FORMAT: Format = Format::Iq2Bn;

fn unpack_codes(bytes: &[u8], codes: &mut [i8]) {
    for (bytes, codes) in bytes.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<64>().0) {
        for (quarter, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = (byte >> (2 * quarter) & 3) as i8 - 1;
            }
        }
    }
}

fn pack_codes(codes: &[i8], bytes: &mut [u8]) {
    for (bytes, codes) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(codes.chunks_exact(64)) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|quarter| codes.as_chunks::<16>().0[quarter]);
        *bytes = std::array::from_fn(|p| {
            let field = |code: i8, quarter: usize| ((code + 1) as u8) << (2 * quarter);
            field(a[p], 0) | field(b[p], 1) | field(c[p], 2) | field(d[p], 3)
        });
    }
}

fn split(row: usize, bytes: &[u8]) -> Result<(f32, &[u8])> {
    let (scale, codes) = bytes.split_at(4);
    let scale = finite(FORMAT, row, f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]))?;
    Ok((scale, codes))
}

impl Codec for Iq2Bn {
    fn name(&self) -> &'static str {
        "iq2_bn"
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
        let row = row_blocks(FORMAT, 1, cols, 64, 16)?.checked_add(4);
        let rule = "a size that can be addressed";
        row.and_then(|row| row.checked_mul(rows)).ok_or(Error::Shape { format: FORMAT, rows, cols, rule })
    }

    fn unpack(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
        expect(FORMAT, "bytes", self.tensor_bytes(rows, cols)?, bytes.len())?;
        let mut codes = vec![0; rows * cols];
        let mut scales = Vec::with_capacity(rows);
        let lines = bytes.chunks_exact(4 + cols / 4).zip(codes.chunks_exact_mut(cols.max(1)));
        for (row, (bytes, codes)) in lines.enumerate() {
            let (scale, packed) = split(row, bytes)?;
            refuse_threes(FORMAT, packed)?;
            unpack_codes(packed, codes);
            scales.push(scale);
        }
        Ok(Ternary { rows, cols, codes, scales: Scales::Row(scales) })
    }

    fn pack(&self, matrix: &Ternary) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.tensor_bytes(matrix.rows, matrix.cols)?];
        let lines =
            bytes.chunks_exact_mut(4 + matrix.cols / 4).zip(matrix.codes.chunks_exact(matrix.cols.max(1)));
        for (row, (bytes, codes)) in lines.enumerate() {
            let (scale, packed) = bytes.split_at_mut(4);
            scale.copy_from_slice(&row_scale(FORMAT, matrix, row)?.to_le_bytes());
            pack_codes(codes, packed);
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

/// The one scale of a row, if there is one.
pub(super) fn row_scale(format: Format, matrix: &Ternary, row: usize) -> Result<f32> {
    match &matrix.scales {
        Scales::Group { .. } => {
            Err(Error::Scales { format, holds: "for each row", has: matrix.scales.granularity() })
        }
        scales => Ok(scales.at(row, 0, matrix.cols)),
    }
}
