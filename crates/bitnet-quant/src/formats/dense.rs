//! What all dense formats share: rows of blocks of floats.

use crate::{
    Error, Format, Result, Ternary,
    format::{Codec, expect, row_blocks},
};

/// A block of floats of one format.
pub trait Dense: Sync {
    /// The format.
    const FORMAT: Format;
    /// Its name.
    const NAME: &'static str;
    /// Values of a block.
    const LEN: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Bytes to floats.
    fn read(block: &[u8], out: &mut [f32]);

    /// Floats to bytes; `false` where the format is only read.
    fn write(values: &[f32], block: &mut [u8]) -> bool;
}

/// A sum with a number below 2^22 is the nearest integer, half to even, in the low bits of the mantissa. Unlike a cast, which saturates, it
/// is a vector everywhere.
pub(super) const SHIFT: f32 = 12_582_912.0;

/// As [`f32::round`], half away from zero, of a number below 2^22; a vector everywhere too.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    // The largest number below a half: with a half itself, the one before 0.5 would become 1.
    let raised = x.abs() + 0.499_999_97;
    let nearest = (raised + SHIFT) - SHIFT;
    let below = if nearest > raised { nearest - 1.0 } else { nearest };
    below.copysign(x)
}

/// The byte of an integer between -128 and 127; of what is not a number, 0.
#[inline(always)]
pub(super) fn byte(x: f32) -> u8 {
    (x + SHIFT).to_bits() as u8
}

impl<D: Dense> Codec for D {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn is_ternary(&self) -> bool {
        false
    }

    fn block_len(&self) -> usize {
        D::LEN
    }

    fn block_bytes(&self) -> usize {
        D::BYTES
    }

    fn tensor_bytes(&self, rows: usize, cols: usize) -> Result<usize> {
        row_blocks(D::FORMAT, rows, cols, D::LEN, D::BYTES)
    }

    fn unpack(&self, _: &[u8], _: usize, _: usize) -> Result<Ternary> {
        Err(Error::Undefined { format: D::FORMAT, what: "unpacking to ternary codes" })
    }

    fn pack(&self, _: &Ternary) -> Result<Vec<u8>> {
        Err(Error::Undefined { format: D::FORMAT, what: "packing ternary codes" })
    }

    fn dequantize_row(&self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        expect(D::FORMAT, "bytes", self.tensor_bytes(1, out.len())?, bytes.len())?;
        for (block, out) in bytes.chunks_exact(D::BYTES).zip(out.chunks_exact_mut(D::LEN)) {
            D::read(block, out);
        }
        Ok(())
    }

    fn quantize_row(&self, row: &[f32], out: &mut [u8]) -> Result<()> {
        quantize_row::<D>(row, out)
    }
}

/// As [`Codec::quantize_row`], to be compiled for the instruction set of the caller.
///
/// # Errors
/// As there.
#[inline(always)]
pub fn quantize_row<D: Dense>(row: &[f32], out: &mut [u8]) -> Result<()> {
    expect(D::FORMAT, "bytes", row_blocks(D::FORMAT, 1, row.len(), D::LEN, D::BYTES)?, out.len())?;
    // Looking at all of them is many times faster than looking for a place that is nearly never there.
    if !row.iter().fold(true, |all, x| all & x.is_finite()) {
        let index = row.iter().position(|x| !x.is_finite()).unwrap_or_default();
        let (format, value) = (D::FORMAT, row[index]);
        return Err(Error::Scale { format, index, value, rule: "a finite number" });
    }
    for (values, block) in row.chunks_exact(D::LEN).zip(out.chunks_exact_mut(D::BYTES)) {
        if !D::write(values, block) {
            return Err(Error::Undefined { format: D::FORMAT, what: "rounding floats to it" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_away_from_zero() {
        let halves = (0..1000u16).map(|i| 0.5 * f32::from(i));
        let near = halves.flat_map(|half| [half.next_down(), half, half.next_up()]);
        let others = (0..500f32.to_bits()).step_by(10_007).map(f32::from_bits);
        for x in near.chain(others).flat_map(|x| [x, -x]) {
            assert_eq!(round(x).to_bits(), x.round().to_bits(), "{x:e}");
        }
        assert!(round(f32::NAN).is_nan());
    }
}
