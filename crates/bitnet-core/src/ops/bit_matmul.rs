//! Activation codes times a ternary matrix: `y[t, r] = (Σ x[t, i] * code[r, i]) / factor[t] * scale[r]`.
//!
//! The sum is exact; the two roundings are in the order of transformers' `AutoBitLinear`, which decides on which side of a
//! boundary the next layer's activations fall.
//!
//! Weights are in the compute layout: rows of I2_S blocks of 128 values in 32 bytes, whole blocks, high bits first. Byte `p`
//! of a block holds the values `p`, `32 + p`, `64 + p` and `96 + p`. A code is stored as `code + 1`, so that it can be the
//! unsigned operand of a dot product; the sum of the activations, known per token, takes the ones out again.

use super::{Codes, add_to, expect_device, expect_shape};
use crate::cpu::partition::ColumnsMut;
use crate::{DType, Error, PackedTensor, Result, Tensor, packed::padded_cols};
use std::slice;

/// Activation codes `[T, C]` times a ternary matrix `[O, C]` transposed -> `[T, O]`: exact integer sums, divided by
/// the activation factor, times the scale.
///
/// # Errors
/// Where shapes or devices differ, the matrix is not ternary, or the device fails.
pub fn bit_matmul(x: &Codes, weight: &PackedTensor) -> Result<Tensor> {
    let tokens = expect_product("bit_matmul", x, weight)?;
    let mut y = Tensor::empty(weight.device(), [tokens, weight.rows()], DType::F32)?;
    weight.device().backend().bit_matmul(x.view(), weight.view(), y.view_mut("bit_matmul")?)?;
    Ok(y)
}

/// [`bit_matmul`] of several matrices with the same codes, in one go: threads do not wait for each other between them.
///
/// # Errors
/// As [`bit_matmul`].
pub fn bit_matmul_all<const N: usize>(x: &Codes, weights: [&PackedTensor; N]) -> Result<[Tensor; N]> {
    let op = "bit_matmul";
    let mut y = Vec::with_capacity(N);
    for weight in weights {
        y.push(Tensor::empty(weight.device(), [expect_product(op, x, weight)?, weight.rows()], DType::F32)?);
    }
    let mut products = Vec::with_capacity(N);
    for (weight, y) in weights.iter().zip(&mut y) {
        products.push((weight.view(), y.view_mut(op)?));
    }
    x.codes.device().backend().bit_matmul_all(x.view(), products)?;
    let Ok(y) = y.try_into() else { unreachable!("a result for each matrix") };
    Ok(y)
}

/// `y + x · weight`, see [`bit_matmul`], in place where nobody else needs `y: [T, O]`.
///
/// # Errors
/// As [`bit_matmul`].
pub fn bit_matmul_add(mut y: Tensor, x: &Codes, weight: &PackedTensor) -> Result<Tensor> {
    let op = "bit_matmul_add";
    expect_shape(op, &y, [expect_product(op, x, weight)?, weight.rows()])?;
    expect_device(op, y.device(), weight.device())?;
    if y.is_trainable() || y.is_shared() {
        return add_to(y, &bit_matmul(x, weight)?);
    }
    let device = weight.device().clone();
    device.backend().bit_matmul_add(x.view(), weight.view(), y.view_mut(op)?)?;
    Ok(y)
}

/// The number of tokens, where such a product exists.
fn expect_product(op: &'static str, x: &Codes, weight: &PackedTensor) -> Result<usize> {
    if weight.scales().is_none() {
        return Err(Error::Format { op, format: weight.format() });
    }
    let tokens = x.scales.shape().len();
    expect_shape(op, &x.codes, [tokens, padded_cols(weight.cols())])?;
    expect_device(op, x.codes.device(), weight.device())?;
    Ok(tokens)
}

/// Values of a weight block.
pub const BLOCK_LEN: usize = 128;

/// Bytes of a weight block.
pub const BLOCK_BYTES: usize = 32;

/// Bytes from what is multiplied with one token to what is asked for meanwhile, at least: seven kilobytes gave 28.8 GB/s on a processor
/// that reads 30.4, two and a half gave 22.4.
const AHEAD: usize = 7 << 10;

/// Some rows of a ternary matrix in the compute layout. C' is the number of columns padded to whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct TernaryRows<'a> {
    /// `[R, C' / 4]`.
    pub bytes: &'a [u8],
    /// `[R]` scales that multiply, or `[1]` for all rows.
    pub scales: &'a [f32],
}

impl<'a> TernaryRows<'a> {
    /// Scale of a row.
    #[inline(always)]
    pub fn scale(&self, row: usize) -> f32 {
        if self.scales.len() == 1 { self.scales[0] } else { self.scales[row] }
    }

    /// The rows from `row` on, each `blocks` long; behind the end the last row repeats.
    #[inline(always)]
    pub fn tile<const N: usize>(&self, row: usize, blocks: usize) -> [&'a [[u8; BLOCK_BYTES]]; N] {
        let all = self.bytes.as_chunks().0;
        let last = all.len() - blocks;
        let mut rows: [&[_]; N] = [&[]; N];
        for (i, slice) in rows.iter_mut().enumerate() {
            *slice = &all[((row + i) * blocks).min(last)..][..blocks];
        }
        rows
    }

    /// What to ask for while the first part of `rows` rows from `row` on is multiplied with one token: the bytes of rows that come later by
    /// whole times `rows`, far enough for memory to bring them.
    #[inline(always)]
    pub fn ahead(&self, row: usize, rows: usize, blocks: usize) -> &'a [u8] {
        self.from(row + rows * AHEAD.div_ceil((rows * blocks * BLOCK_BYTES).max(1)), blocks)
    }

    /// The bytes from `row` on, none behind the end.
    #[inline(always)]
    pub fn from(&self, row: usize, blocks: usize) -> &'a [u8] {
        &self.bytes[(row * blocks * BLOCK_BYTES).min(self.bytes.len())..]
    }
}

/// Quantized activations of T tokens.
#[derive(Clone, Copy, Debug)]
pub struct CodeRows<'a> {
    /// `[T, C']` codes, zero behind the last column.
    pub codes: &'a [i8],
    /// `[T]` factors 127/absmax that the codes were multiplied by.
    pub scales: &'a [f32],
    /// `[T]` sums of each row of codes.
    pub sums: &'a [i32],
}

impl<'a> CodeRows<'a> {
    /// Number of tokens.
    #[inline(always)]
    pub fn tokens(&self) -> usize {
        self.scales.len()
    }

    /// Blocks of a row; 0 without tokens.
    #[inline(always)]
    pub fn blocks(&self) -> usize {
        (self.codes.len() / BLOCK_LEN).checked_div(self.tokens()).unwrap_or(0)
    }

    /// The rows of `N` tokens from `token` on, each `blocks` long.
    #[inline(always)]
    pub fn tile<const N: usize>(&self, token: usize, blocks: usize) -> [&'a [[i8; BLOCK_LEN]]; N] {
        let all = self.codes.as_chunks().0;
        let mut rows: [&[_]; N] = [&[]; N];
        for (i, slice) in rows.iter_mut().enumerate() {
            *slice = &all[(token + i) * blocks..][..blocks];
        }
        rows
    }

    /// As [`tile`](Self::tile), in quarters of blocks.
    #[inline(always)]
    pub fn quarters<const N: usize>(&self, token: usize, blocks: usize) -> [&'a [[i8; BLOCK_BYTES]]; N] {
        self.tile(token, blocks).map(|row: &[_]| row.as_flattened().as_chunks().0)
    }

    /// The results for sums over stored codes of a token and the rows of `weight` from `row` on.
    #[inline(always)]
    pub fn finish(&self, token: usize, stored: &[i32], weight: &TernaryRows<'_>, row: usize, y: &mut [f32]) {
        let (sum, factor) = (self.sums[token], self.scales[token]);
        for (i, (y, stored)) in y.iter_mut().zip(stored).enumerate() {
            *y = (stored - sum) as f32 / factor * weight.scale(row + i);
        }
    }
}

/// Slices that the compiler knows to be of one length.
#[inline(always)]
pub(crate) fn of_len<T, const N: usize>(mut slices: [&[T]; N], len: usize) -> [&[T]; N] {
    for slice in &mut slices {
        *slice = &slice[..len];
    }
    slices
}

/// Rows that stay in the cache while all tokens pass.
const ROWS_IN_CACHE: usize = 32;

/// Tokens of a tile, at most `most`, so that the last is hardly smaller than the others.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn even(tokens: usize, most: usize) -> usize {
    tokens.div_ceil(tokens.div_ceil(most).max(1)).max(1)
}

/// Where the tiles of `each_row` rows and `each_token` tokens begin: `(row, token)`.
pub(crate) fn tiles(
    rows: usize,
    each_row: usize,
    tokens: usize,
    each_token: usize,
) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(ROWS_IN_CACHE).flat_map(move |first| {
        let end = (first + ROWS_IN_CACHE).min(rows);
        let rows = move |token| (first..end).step_by(each_row).map(move |row| (row, token));
        (0..tokens).step_by(each_token).flat_map(rows)
    })
}

/// `Σ x[i] * (code[i] + 1)` over a row.
#[inline(always)]
pub fn dot(row: &[[u8; BLOCK_BYTES]], x: &[[i8; BLOCK_LEN]]) -> i32 {
    row.iter().zip(x).map(|(row, x)| block_dot(row, x)).sum()
}

#[inline(always)]
fn block_dot(bytes: &[u8; BLOCK_BYTES], x: &[i8; BLOCK_LEN]) -> i32 {
    let mut sum = 0;
    for (x, shift) in x.as_chunks::<BLOCK_BYTES>().0.iter().zip([6, 4, 2, 0]) {
        for (byte, x) in bytes.iter().zip(x) {
            sum += i32::from(byte >> shift & 3) * i32::from(*x);
        }
    }
    sum
}

/// Multiplies all tokens with the rows of `weight`, which are the columns of `y: [T, R]`.
pub fn reference(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let blocks = x.blocks();
    for t in 0..x.tokens() {
        let [codes] = x.tile(t, blocks);
        for (r, y) in y.row_mut(t).iter_mut().enumerate() {
            let [row] = weight.tile(r, blocks);
            x.finish(t, &[dot(row, codes)], &weight, r, slice::from_mut(y));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::partition::Columns;

    #[test]
    fn the_high_bits_hold_the_first_quarter_of_a_block() {
        let mut x = [[0i8; BLOCK_LEN]];
        (x[0][1], x[0][33], x[0][65], x[0][97]) = (1, 10, 50, 100);
        let mut row = [[0u8; BLOCK_BYTES]];
        for (byte, sum) in
            [(0b10_00_00_00, 2), (0b00_10_00_00, 20), (0b00_00_01_00, 50), (0b10_01_00_10, 212)]
        {
            row[0][1] = byte;
            assert_eq!(dot(&row, &x), sum);
        }
    }

    #[test]
    fn the_bias_of_stored_codes_is_taken_out_and_the_scales_applied() {
        // 32 codes each of -1, 0, 1 and 0.
        let bytes = [0b00_01_10_01u8; BLOCK_BYTES];
        let weight = TernaryRows { bytes: &bytes, scales: &[3.0] };
        let mut codes = [5i8; BLOCK_LEN];
        codes[64..96].fill(7);
        let x = CodeRows { codes: &codes, scales: &[2.0], sums: &[5 * 96 + 7 * 32] };
        let mut y = [0.0];
        reference(weight, x, &mut Columns::new(&mut y, 1).whole());
        assert_eq!(y, [64.0 * 1.5]);
    }
}
