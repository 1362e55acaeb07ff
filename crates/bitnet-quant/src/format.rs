//! Formats by name, and what every one of them can do.

use crate::{Error, Result, Ternary, formats};
use std::{fmt, str::FromStr};

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE halves.
    F16,
    /// Brain floats.
    BF16,
    /// 8-bit codes, a scale for 32.
    Q8_0,
    /// 6-bit codes, scales for 16 and for 256.
    Q6K,
    /// 5-bit codes, a scale for 32.
    Q5_0,
    /// 4-bit codes, a scale for 32.
    Q4_0,
    /// 4-bit codes, scales and minima for 32 and for 256.
    Q4K,
    /// Ternary, blocks of 128 values, one scale: what BitNet files hold, and what is computed with.
    I2S,
    /// I2_S of some x86 builds: four rows in a byte.
    I2SRow4,
    /// I2_S of some ARM builds: blocks of 64 values.
    I2SArm,
    /// Ternary, five values in a byte, a scale for 256.
    Tq1,
    /// Ternary, four values in a byte, a scale for 256.
    Tq2,
    /// Ternary, four values in a byte, a scale for 64.
    Q2_0,
    /// An older meaning of Q2_0 with a scale for 128.
    Q2_0G128,
    /// Ternary, four values in a byte, a scale for 128 (PrismML).
    Pq2,
    /// Ternary, five values in a byte, a scale for 128 (PrismML).
    Ptq1,
    /// Ternary, five values in a byte, a scale for a row (ik_llama.cpp).
    Iq1Bn,
    /// Ternary, four values in a byte, a scale for a row (ik_llama.cpp).
    Iq2Bn,
    /// [`Format::Iq2Bn`] with four rows interleaved.
    Iq2BnR4,
    /// Ternary, four rows in a byte, the scale beside it (transformers).
    HfPacked,
    /// Lookup-table layout that is tuned for one kernel build; recognised, never read.
    Tl1,
    /// As [`Format::Tl1`].
    Tl2,
}

/// What a format can do with bytes. Shapes are rows x columns, codes and bytes go row after row.
pub trait Codec: Sync {
    /// Name as in file names and on the command line.
    fn name(&self) -> &'static str;

    /// Whether it holds codes -1, 0, +1.
    fn is_ternary(&self) -> bool;

    /// Values that are stored together.
    fn block_len(&self) -> usize;

    /// Bytes of [`Codec::block_len`] values.
    fn block_bytes(&self) -> usize;

    /// Bytes of a matrix.
    ///
    /// # Errors
    /// Where the shape does not divide into blocks or the size overflows.
    fn tensor_bytes(&self, rows: usize, cols: usize) -> Result<usize>;

    /// Bytes to codes and scales.
    ///
    /// # Errors
    /// Where bytes are too few or too many, a code is 3, a scale is not a number, or the format is not ternary.
    fn unpack(&self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary>;

    /// Codes and scales to bytes.
    ///
    /// # Errors
    /// Where the format has no room for the scales or shape of the matrix, or is not ternary.
    fn pack(&self, matrix: &Ternary) -> Result<Vec<u8>>;

    /// The values of one row that holds its scales itself.
    ///
    /// # Errors
    /// Where the length is wrong, a code is 3, or scales are not part of a row.
    fn dequantize_row(&self, bytes: &[u8], out: &mut [f32]) -> Result<()>;

    /// One row of floats to bytes, to the nearest that the format can hold.
    ///
    /// # Errors
    /// Where the length is wrong or a float does not fit.
    fn quantize_row(&self, row: &[f32], out: &mut [u8]) -> Result<()>;
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 23] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5_0,
        Self::Q4_0,
        Self::Q4K,
        Self::I2S,
        Self::I2SRow4,
        Self::I2SArm,
        Self::Tq1,
        Self::Tq2,
        Self::Q2_0,
        Self::Q2_0G128,
        Self::Pq2,
        Self::Ptq1,
        Self::Iq1Bn,
        Self::Iq2Bn,
        Self::Iq2BnR4,
        Self::HfPacked,
        Self::Tl1,
        Self::Tl2,
    ];

    /// The file of [`formats`] that knows this format.
    pub fn codec(self) -> &'static dyn Codec {
        match self {
            Self::F32 => &formats::float::F32,
            Self::F16 => &formats::float::F16,
            Self::BF16 => &formats::float::BF16,
            Self::Q8_0 => &formats::q8_0::Q8_0,
            Self::Q6K => &formats::q6_k::Q6K,
            Self::Q5_0 => &formats::q5_0::Q5_0,
            Self::Q4_0 => &formats::q4_0::Q4_0,
            Self::Q4K => &formats::q4_k::Q4K,
            Self::I2S => &formats::i2s::X86,
            Self::I2SRow4 => &formats::i2s::ROW4,
            Self::I2SArm => &formats::i2s::ARM,
            Self::Tq1 => &formats::tq1::TQ1,
            Self::Tq2 => &formats::tq2::TQ2,
            Self::Q2_0 => &formats::q2_0::Q2_0,
            Self::Q2_0G128 => &formats::q2_0::Q2_0_G128,
            Self::Pq2 => &formats::q2_0::PQ2_0,
            Self::Ptq1 => &formats::ptq1::PTQ1,
            Self::Iq1Bn => &formats::iq1_bn::Iq1Bn,
            Self::Iq2Bn => &formats::iq2_bn::Iq2Bn,
            Self::Iq2BnR4 => &formats::iq2_bn_r4::Iq2BnR4,
            Self::HfPacked => &formats::hf_packed::HfPacked,
            Self::Tl1 => &formats::tl::TL1,
            Self::Tl2 => &formats::tl::TL2,
        }
    }

    /// Name as in file names and on the command line, such as `i2_s`.
    pub fn name(self) -> &'static str {
        self.codec().name()
    }

    /// Whether it holds codes -1, 0, +1.
    pub fn is_ternary(self) -> bool {
        self.codec().is_ternary()
    }

    /// Values that are stored together.
    pub fn block_len(self) -> usize {
        self.codec().block_len()
    }

    /// Bytes of [`Format::block_len`] values.
    pub fn block_bytes(self) -> usize {
        self.codec().block_bytes()
    }

    /// Bytes of a matrix.
    ///
    /// # Errors
    /// Where the shape does not divide into blocks or the size overflows.
    pub fn tensor_bytes(self, rows: usize, cols: usize) -> Result<usize> {
        self.codec().tensor_bytes(rows, cols)
    }

    /// Bytes to codes and scales.
    ///
    /// # Errors
    /// As [`Codec::unpack`].
    pub fn unpack(self, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
        self.codec().unpack(bytes, rows, cols)
    }

    /// Codes and scales to bytes.
    ///
    /// # Errors
    /// As [`Codec::pack`].
    pub fn pack(self, matrix: &Ternary) -> Result<Vec<u8>> {
        let expected = matrix.rows.saturating_mul(matrix.cols);
        expect(self, "codes", expected, matrix.codes.len())?;
        self.codec().pack(matrix)
    }

    /// The values of one row that holds its scales itself.
    ///
    /// # Errors
    /// As [`Codec::dequantize_row`].
    pub fn dequantize_row(self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        self.codec().dequantize_row(bytes, out)
    }

    /// One row of floats to bytes, to the nearest that the format can hold.
    ///
    /// # Errors
    /// As [`Codec::quantize_row`].
    pub fn quantize_row(self, row: &[f32], out: &mut [u8]) -> Result<()> {
        self.codec().quantize_row(row, out)
    }
}

/// Refuses a slice of another length.
pub(crate) fn expect(format: Format, what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Length { format, what, expected, got }) }
}

/// Bytes of whole blocks of `len` values and `bytes` bytes in every row.
pub(crate) fn row_blocks(
    format: Format,
    rows: usize,
    cols: usize,
    len: usize,
    bytes: usize,
) -> Result<usize> {
    let rule = match len {
        1 => "a size that can be addressed",
        32 => "rows of a multiple of 32",
        64 => "rows of a multiple of 64",
        128 => "rows of a multiple of 128",
        _ => "rows of a multiple of 256",
    };
    let whole =
        cols.is_multiple_of(len).then(|| (cols / len).checked_mul(bytes)?.checked_mul(rows)).flatten();
    whole.ok_or(Error::Shape { format, rows, cols, rule })
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::Name { name: name.to_owned(), known: Self::ALL.map(Self::name).join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_format() {
        for format in Format::ALL {
            assert_eq!(format.name().parse::<Format>().unwrap(), format);
        }
        assert!("q3_k".parse::<Format>().unwrap_err().to_string().contains("i2_s"));
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        for format in Format::ALL {
            assert!(format.tensor_bytes(usize::MAX, usize::MAX / 256 * 256).is_err(), "{format}");
        }
    }
}
