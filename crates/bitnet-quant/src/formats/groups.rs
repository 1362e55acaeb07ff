//! What all ternary formats share whose rows are blocks with an f16 scale inside.

use crate::{
    Error, Format, Result, Scales, Ternary,
    format::{Codec, expect, row_blocks},
    formats::finite,
};
use half::f16;

/// Where the codes and the scale of a block lie.
pub struct Blocks {
    pub(super) format: Format,
    pub(super) name: &'static str,
    pub(super) len: usize,
    pub(super) bytes: usize,
    /// First byte of the f16 scale.
    pub(super) scale_at: usize,
    /// Codes of a block; `Err` is the byte that holds code 3.
    pub(super) unpack: fn(block: &[u8], codes: &mut [i8]) -> Result<(), usize>,
    pub(super) pack: fn(codes: &[i8], block: &mut [u8]),
}

impl Blocks {
    fn scale(&self, index: usize, block: &[u8]) -> Result<f32> {
        let scale = f16::from_le_bytes([block[self.scale_at], block[self.scale_at + 1]]).to_f32();
        finite(self.format, index, scale)
    }

    fn codes(&self, index: usize, block: &[u8], codes: &mut [i8]) -> Result<()> {
        let at = |byte| Error::Code { format: self.format, byte: index * self.bytes + byte };
        (self.unpack)(block, codes).map_err(at)
    }

    /// The f16 that stands for the scale of a group; a group of zeros has none.
    fn stored_scale(&self, matrix: &Ternary, index: usize, codes: &[i8]) -> Result<f16> {
        let groups = matrix.cols / self.len;
        let (row, col) = (index / groups, index % groups * self.len);
        let format = self.format;
        if codes.iter().all(|&code| code == 0) {
            return Ok(f16::ZERO);
        }
        let value = self.group_scale(matrix, row, col)?;
        let scale = f16::from_f32(value);
        let rule = "a number that an f16 can hold";
        let fits = scale.is_finite() && (scale != f16::ZERO || value == 0.0);
        if fits { Ok(scale) } else { Err(Error::Scale { format, index, value, rule }) }
    }

    fn group_scale(&self, matrix: &Ternary, row: usize, col: usize) -> Result<f32> {
        if let Scales::Group { len, values } = &matrix.scales {
            let groups = matrix.cols.div_ceil(*len);
            let covered = &values[row * groups + col / len..=row * groups + (col + self.len - 1) / len];
            if covered.iter().any(|scale| scale != &covered[0]) {
                let (holds, has) = ("for each group of more columns", "for each group of fewer columns");
                return Err(Error::Scales { format: self.format, holds, has });
            }
        }
        Ok(matrix.scales.at(row, col, matrix.cols))
    }
}

impl Codec for Blocks {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_ternary(&self) -> bool {
        true
    }

    fn block_len(&self) -> usize {
        self.len
    }

    fn block_bytes(&self) -> usize {
        self.bytes
    }

    fn tensor_bytes(&self, rows: usize, cols: usize) -> Result<usize> {
        row_blocks(self.format, rows, cols, self.len, self.bytes)
    }

    fn unpack(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
        expect(self.format, "bytes", self.tensor_bytes(rows, cols)?, bytes.len())?;
        let mut codes = vec![0; rows * cols];
        let mut values = Vec::with_capacity(rows * cols / self.len);
        let blocks = bytes.chunks_exact(self.bytes).zip(codes.chunks_exact_mut(self.len));
        for (index, (block, codes)) in blocks.enumerate() {
            self.codes(index, block, codes)?;
            values.push(self.scale(index, block)?);
        }
        Ok(Ternary { rows, cols, codes, scales: Scales::Group { len: self.len, values } })
    }

    fn pack(&self, matrix: &Ternary) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.tensor_bytes(matrix.rows, matrix.cols)?];
        let blocks = bytes.chunks_exact_mut(self.bytes).zip(matrix.codes.chunks_exact(self.len));
        for (index, (block, codes)) in blocks.enumerate() {
            let scale = self.stored_scale(matrix, index, codes)?;
            (self.pack)(codes, block);
            block[self.scale_at..self.scale_at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        Ok(bytes)
    }

    fn dequantize_row(&self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        expect(self.format, "bytes", self.tensor_bytes(1, out.len())?, bytes.len())?;
        let mut codes = [0i8; 256];
        let blocks = bytes.chunks_exact(self.bytes).zip(out.chunks_exact_mut(self.len));
        for (index, (block, out)) in blocks.enumerate() {
            let codes = &mut codes[..self.len];
            self.codes(index, block, codes)?;
            let scale = self.scale(index, block)?;
            for (out, &code) in out.iter_mut().zip(codes.iter()) {
                *out = f32::from(code) * scale;
            }
        }
        Ok(())
    }

    fn quantize_row(&self, _: &[f32], _: &mut [u8]) -> Result<()> {
        Err(Error::Undefined { format: self.format, what: "rounding floats to it (ternarize first)" })
    }
}
