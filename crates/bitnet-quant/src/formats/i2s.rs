//! I2_S of Microsoft's BitNet: two bits a value, one f32 scale for the matrix behind the codes.
//!
//! ```text
//! byte 0..n/4       codes + 1, over the flattened matrix of n values
//! byte n/4..+4      f32 scale, multiplies
//! byte n/4+4..+32   anything; zeros here
//! ```
//!
//! Three layouts exist under one type number; high bits always hold the first value:
//!
//! | layout | byte | holds the values |
//! |---|---|---|
//! | x86, in every published file | `32 b + p`, p < 32 | `128 b + p`, + 32, + 64, + 96 |
//! | some ARM builds | `16 b + p`, p < 16 | `64 b + p`, + 16, + 32, + 48 |
//! | some x86 builds | `g * cols + k` | column k of the rows `4 g`, + 1, + 2, + 3 |

use super::refuse_threes;
use crate::{
    Error, Format, Result, Scales, Ternary,
    format::{Codec, expect},
};

/// Bytes behind the codes.
pub const TAIL: usize = 32;
/// Values of a block of the x86 layout.
pub const BLOCK_LEN: usize = 128;
/// Bytes of a block of the x86 layout.
pub const BLOCK_BYTES: usize = 32;

/// The layout of every published file, and the one that is computed with.
pub static X86: I2s = I2s { format: Format::I2S, name: "i2_s", order: Order::Blocks(32) };
/// The layout of some ARM builds.
pub static ARM: I2s = I2s { format: Format::I2SArm, name: "i2_s_arm", order: Order::Blocks(16) };
/// The layout of some x86 builds.
pub static ROW4: I2s = I2s { format: Format::I2SRow4, name: "i2_s_row4", order: Order::Rows };

/// One of the layouts.
pub struct I2s {
    format: Format,
    name: &'static str,
    order: Order,
}

enum Order {
    /// Blocks of this many bytes.
    Blocks(usize),
    /// Four rows in a byte.
    Rows,
}

/// Four codes as a byte, the first in the high bits.
#[inline]
fn byte(a: i8, b: i8, c: i8, d: i8) -> u8 {
    (a + 1) as u8 * 64 + (b + 1) as u8 * 16 + (c + 1) as u8 * 4 + (d + 1) as u8
}

/// Code `quarter` of a byte.
#[inline]
fn field(byte: u8, quarter: usize) -> i8 {
    (byte >> (6 - 2 * quarter) & 3) as i8 - 1
}

fn unpack_runs(bytes: &[u8], codes: &mut [i8], run: usize) {
    match run {
        32 => unpack_fixed::<32>(bytes, codes),
        16 => unpack_fixed::<16>(bytes, codes),
        _ => unpack_long(bytes, codes, run),
    }
}

/// Runs of a length that the compiler knows, which it makes vectors of.
fn unpack_fixed<const RUN: usize>(bytes: &[u8], codes: &mut [i8]) {
    for (bytes, codes) in bytes.as_chunks::<RUN>().0.iter().zip(codes.chunks_exact_mut(4 * RUN)) {
        for (quarter, codes) in codes.as_chunks_mut::<RUN>().0.iter_mut().enumerate() {
            for (code, &byte) in codes.iter_mut().zip(bytes) {
                *code = field(byte, quarter);
            }
        }
    }
}

fn unpack_long(bytes: &[u8], codes: &mut [i8], run: usize) {
    for (bytes, codes) in bytes.chunks_exact(run).zip(codes.chunks_exact_mut(4 * run)) {
        for (quarter, codes) in codes.chunks_exact_mut(run).enumerate() {
            for (code, &byte) in codes.iter_mut().zip(bytes) {
                *code = field(byte, quarter);
            }
        }
    }
}

fn pack_runs(codes: &[i8], bytes: &mut [u8], run: usize) {
    match run {
        32 => pack_fixed::<32>(codes, bytes),
        16 => pack_fixed::<16>(codes, bytes),
        _ => pack_long(codes, bytes, run),
    }
}

/// Runs of a length that the compiler knows, which it makes vectors of.
fn pack_fixed<const RUN: usize>(codes: &[i8], bytes: &mut [u8]) {
    for (bytes, codes) in bytes.as_chunks_mut::<RUN>().0.iter_mut().zip(codes.chunks_exact(4 * RUN)) {
        *bytes = [0; RUN];
        for (quarter, codes) in codes.as_chunks::<RUN>().0.iter().enumerate() {
            let shift = 6 - 2 * quarter;
            bytes.iter_mut().zip(codes).for_each(|(byte, &code)| *byte |= ((code + 1) as u8) << shift);
        }
    }
}

fn pack_long(codes: &[i8], bytes: &mut [u8], run: usize) {
    for (bytes, codes) in bytes.chunks_exact_mut(run).zip(codes.chunks_exact(4 * run)) {
        let (first, second) = codes.split_at(2 * run);
        let ((a, b), (c, d)) = (first.split_at(run), second.split_at(run));
        for (p, out) in bytes.iter_mut().enumerate() {
            *out = byte(a[p], b[p], c[p], d[p]);
        }
    }
}

/// Packs whole blocks of codes in the x86 layout, without a scale.
///
/// # Errors
/// Where the codes are no whole blocks or `out` is not a quarter as long.
pub fn pack_codes(codes: &[i8], out: &mut [u8]) -> Result<()> {
    expect(Format::I2S, "codes in whole blocks", codes.len().next_multiple_of(BLOCK_LEN), codes.len())?;
    expect(Format::I2S, "bytes", codes.len() / 4, out.len())?;
    pack_runs(codes, out, BLOCK_BYTES);
    Ok(())
}

/// `sum(code * x)` over whole blocks of the x86 layout. `x` has four values for every byte of `row`.
pub fn dot(row: &[u8], x: &[i8]) -> i32 {
    let blocks = row.chunks_exact(BLOCK_BYTES).zip(x.chunks_exact(BLOCK_LEN));
    let block = |(bytes, x): (&[u8], &[i8])| -> i32 {
        let quarters = x.chunks_exact(BLOCK_BYTES).enumerate();
        quarters
            .flat_map(|(quarter, x)| {
                bytes.iter().zip(x).map(move |(&byte, &x)| i32::from(field(byte, quarter)) * i32::from(x))
            })
            .sum()
    };
    blocks.map(block).sum()
}

impl Format {
    /// Looks at the codes of an I2_S matrix in any layout, and at its scale, which it returns.
    ///
    /// # Errors
    /// Where a code is 3; also as [`Format::scale`].
    pub fn check_codes(self, bytes: &[u8], rows: usize, cols: usize) -> Result<f32> {
        let scale = self.scale(bytes, rows, cols)?;
        refuse_threes(self, &bytes[..rows * cols / 4])?;
        Ok(scale)
    }

    /// The scale of an I2_S matrix in any layout, without looking at its codes.
    ///
    /// # Errors
    /// Where the length is wrong, the scale is not a positive number, or the format has no such scale.
    pub fn scale(self, bytes: &[u8], rows: usize, cols: usize) -> Result<f32> {
        if !matches!(self, Self::I2S | Self::I2SArm | Self::I2SRow4) {
            return Err(Error::Undefined { format: self, what: "one scale behind the codes" });
        }
        expect(self, "bytes", self.tensor_bytes(rows, cols)?, bytes.len())?;
        let at = rows * cols / 4;
        let value = f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let usable = value.is_finite() && value > 0.0;
        let rule = "a positive number";
        if usable { Ok(value) } else { Err(Error::Scale { format: self, index: 0, value, rule }) }
    }
}

impl Codec for I2s {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_ternary(&self) -> bool {
        true
    }

    fn block_len(&self) -> usize {
        4 * self.block_bytes()
    }

    fn block_bytes(&self) -> usize {
        match self.order {
            Order::Blocks(run) => run,
            Order::Rows => 1,
        }
    }

    fn tensor_bytes(&self, rows: usize, cols: usize) -> Result<usize> {
        let (divides, rule) = match self.order {
            Order::Blocks(16) => (64, "a multiple of 64 values"),
            Order::Blocks(_) => (128, "a multiple of 128 values"),
            Order::Rows => (1, "a multiple of 4 rows"),
        };
        let whole = |n: &usize| n.is_multiple_of(divides) && (divides > 1 || rows.is_multiple_of(4));
        let bytes = rows.checked_mul(cols).filter(whole).and_then(|n| (n / 4).checked_add(TAIL));
        bytes.ok_or(Error::Shape { format: self.format, rows, cols, rule })
    }

    fn unpack(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
        let scale = self.format.check_codes(bytes, rows, cols)?;
        let bytes = &bytes[..rows * cols / 4];
        let mut codes = vec![0; rows * cols];
        match self.order {
            Order::Blocks(run) => unpack_runs(bytes, &mut codes, run),
            Order::Rows => {
                for (bytes, codes) in bytes.chunks(cols.max(1)).zip(codes.chunks_mut(4 * cols.max(1))) {
                    unpack_runs(bytes, codes, cols.max(1));
                }
            }
        }
        Ok(Ternary { rows, cols, codes, scales: Scales::Tensor(scale) })
    }

    fn pack(&self, matrix: &Ternary) -> Result<Vec<u8>> {
        let format = self.format;
        let Scales::Tensor(scale) = matrix.scales else {
            return Err(Error::Scales { format, holds: "for the matrix", has: matrix.scales.granularity() });
        };
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::Scale { format, index: 0, value: scale, rule: "a positive number" });
        }
        let mut bytes = vec![0; self.tensor_bytes(matrix.rows, matrix.cols)?];
        let (packed, tail) = bytes.split_at_mut(matrix.codes.len() / 4);
        match self.order {
            Order::Blocks(run) => pack_runs(&matrix.codes, packed, run),
            Order::Rows => pack_runs(&matrix.codes, packed, matrix.cols.max(1)),
        }
        tail[..4].copy_from_slice(&scale.to_le_bytes());
        Ok(bytes)
    }

    fn dequantize_row(&self, _: &[u8], _: &mut [f32]) -> Result<()> {
        Err(Error::Undefined {
            format: self.format,
            what: "a row by itself (its scale belongs to the matrix)",
        })
    }

    fn quantize_row(&self, _: &[f32], _: &mut [u8]) -> Result<()> {
        Err(Error::Undefined { format: self.format, what: "rounding floats to it (ternarize first)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(rows: usize, cols: usize) -> Ternary {
        let codes = (0..rows * cols).map(|i| ((i * 7 + i / 5) % 3) as i8 - 1).collect();
        Ternary { rows, cols, codes, scales: Scales::Tensor(0.5) }
    }

    #[test]
    fn the_dot_of_packed_codes_is_the_dot_of_codes() {
        let row = ramp(1, 384);
        let x: Vec<i8> = (0..384).map(|i| (i * 31 % 255) as u8 as i8).collect();
        let naive: i32 = row.codes.iter().zip(&x).map(|(&c, &x)| i32::from(c) * i32::from(x)).sum();
        assert_eq!(dot(&X86.pack(&row).unwrap()[..96], &x), naive);
    }

    #[test]
    fn a_scale_that_is_not_positive_is_refused() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let mut bytes = X86.pack(&ramp(2, 64)).unwrap();
            bytes[32..36].copy_from_slice(&f32::to_le_bytes(scale));
            assert!(matches!(X86.unpack(&bytes, 2, 64), Err(Error::Scale { .. })), "{scale}");
        }
    }

    #[test]
    fn the_free_bytes_of_the_tail_may_hold_anything() {
        let mut bytes = X86.pack(&ramp(2, 64)).unwrap();
        bytes[36..].fill(0xff);
        assert_eq!(X86.unpack(&bytes, 2, 64).unwrap(), ramp(2, 64));
    }

    #[test]
    fn rows_need_not_be_whole_blocks_but_the_matrix_must() {
        assert_eq!(X86.tensor_bytes(2, 64).unwrap(), 64);
        assert!(X86.tensor_bytes(1, 64).is_err());
        assert!(ROW4.tensor_bytes(3, 128).is_err());
        assert!(ARM.tensor_bytes(1, 64).is_ok());
    }
}
