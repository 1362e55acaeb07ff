//! `y = x · weightᵀ` with stored floats as weights: each row is dequantized to f32 and multiplied in sixteen lanes, in an order
//! that depends on the number of columns alone.
//!
//! Q8_0 and Q6_K are the blocks of ggml's `block_q8_0` and `block_q6_K`.

use super::{expect_device, expect_shape};
use crate::cpu::partition::ColumnsMut;
use crate::lanes::{Lanes, Number};
use crate::math::{self, LANES};
use crate::ops::bit_matmul::of_len;
use crate::{DType, Error, PackedTensor, Result, Tensor};

/// `x: [T, C]` times a stored matrix `[O, C]` transposed -> `[T, O]`, in f32.
///
/// # Errors
/// Where shapes or devices differ, the matrix is ternary with scales of its own, or the device fails.
pub fn matmul_t(x: &Tensor, weight: &PackedTensor) -> Result<Tensor> {
    expect_shape("matmul_t", x, [x.shape().rows(), weight.cols()])?;
    expect_device("matmul_t", x.device(), weight.device())?;
    if weight.scales().is_some() {
        return Err(Error::Format { op: "matmul_t", format: weight.format() });
    }
    let mut y = Tensor::empty(x.device(), [x.shape().rows(), weight.rows()], DType::F32)?;
    x.device().backend().matmul_t(x.view(), weight.view(), y.view_mut("matmul_t")?)?;
    Ok(y)
}

/// Rows that stay in the cache while all tokens pass.
const ROWS_IN_CACHE: usize = 16;

/// Rows of blocks: `GROUPS` times sixteen values in `BYTES` bytes.
pub(crate) trait RowFormat<const BYTES: usize, const GROUPS: usize> {
    /// The values of a block.
    fn decode<L: Lanes>(block: &[u8; BYTES]) -> [L; GROUPS];

    /// Adds the products of the values behind the last whole block of a row to the lanes.
    #[inline(always)]
    fn add_tail(_bytes: &[u8], _x: &[f32], _lanes: &mut [f32; LANES]) {}
}

impl<const BYTES: usize, N: Number<BYTES>> RowFormat<BYTES, 1> for N {
    #[inline(always)]
    fn decode<L: Lanes>(block: &[u8; BYTES]) -> [L; 1] {
        [N::load(block)]
    }

    #[inline(always)]
    fn add_tail(bytes: &[u8], x: &[f32], lanes: &mut [f32; LANES]) {
        for ((lane, x), bytes) in lanes.iter_mut().zip(x).zip(bytes.chunks_exact(BYTES / LANES)) {
            *lane += N::value(bytes) * x;
        }
    }
}

/// 32 values: an f16 scale, 32 i8 codes.
pub(crate) struct Q8_0;

impl RowFormat<34, 2> for Q8_0 {
    #[inline(always)]
    fn decode<L: Lanes>(block: &[u8; 34]) -> [L; 2] {
        let scale = L::splat(L::f16(u16::from_le_bytes([block[0], block[1]])));
        let [low, high] = block[2..].as_chunks().0 else { unreachable!("32 bytes") };
        [scale.mul(L::load_i8(low)), scale.mul(L::load_i8(high))]
    }
}

/// 256 values: low four bits of the codes `[128]`, high two bits `[64]`, i8 scales of sixteen values `[16]`, an f16 scale.
/// A value is `scale * scales[i / 16] * (code - 32)`.
pub(crate) struct Q6K;

impl RowFormat<210, 16> for Q6K {
    #[inline(always)]
    fn decode<L: Lanes>(block: &[u8; 210]) -> [L; 16] {
        let (low, high) = (block[..128].as_chunks::<LANES>().0, block[128..192].as_chunks::<LANES>().0);
        let scale = L::splat(L::f16(u16::from_le_bytes([block[208], block[209]])));
        let scales = scale.mul(L::load_i8(block[192..].first_chunk().expect("210 bytes"))).to_array();
        let mut groups = [L::splat(0.0); 16];
        for half in 0..2 {
            let groups = &mut groups[8 * half..][..8];
            let (low, high, scales) =
                (&low[4 * half..][..4], &high[2 * half..][..2], &scales[8 * half..][..8]);
            for i in 0..2 {
                groups[i] = L::splat(scales[i]).mul(L::load_i8(&six_bits::<0, 0>(&low[i], &high[i])));
                groups[2 + i] =
                    L::splat(scales[2 + i]).mul(L::load_i8(&six_bits::<0, 2>(&low[2 + i], &high[i])));
                groups[4 + i] = L::splat(scales[4 + i]).mul(L::load_i8(&six_bits::<4, 4>(&low[i], &high[i])));
                groups[6 + i] =
                    L::splat(scales[6 + i]).mul(L::load_i8(&six_bits::<4, 6>(&low[2 + i], &high[i])));
            }
        }
        groups
    }
}

/// Codes of four low and two high bits, less 32.
#[inline(always)]
fn six_bits<const LOW: u8, const HIGH: u8>(low: &[u8; LANES], high: &[u8; LANES]) -> [u8; LANES] {
    let mut codes = [0; LANES];
    for i in 0..LANES {
        codes[i] = (low[i] >> LOW & 15 | (high[i] >> HIGH & 3) << 4).wrapping_sub(32);
    }
    codes
}

/// Weights and activations of a product, in rows of blocks and rows of lanes.
struct Operands<'a, const BYTES: usize> {
    weight: &'a [u8],
    row_bytes: usize,
    x: &'a [f32],
    cols: usize,
}

impl<'a, const BYTES: usize> Operands<'a, BYTES> {
    #[inline(always)]
    fn rows<const R: usize>(&self, row: usize) -> [&'a [u8]; R] {
        let mut rows: [&[u8]; R] = [&[]; R];
        for (i, slice) in rows.iter_mut().enumerate() {
            *slice = &self.weight[(row + i) * self.row_bytes..][..self.row_bytes];
        }
        rows
    }

    #[inline(always)]
    fn tokens<const T: usize>(&self, token: usize) -> [&'a [f32]; T] {
        let mut tokens: [&[f32]; T] = [&[]; T];
        for (i, slice) in tokens.iter_mut().enumerate() {
            *slice = &self.x[(token + i) * self.cols..][..self.cols];
        }
        tokens
    }
}

/// Multiplies all tokens of `x: [T, C]` with the rows of `weight`, which are the columns of `y: [T, R]`, in tiles of
/// `ROWS` rows and `TOKENS` tokens.
#[inline(always)]
pub(crate) fn multiply<
    L,
    F,
    const BYTES: usize,
    const GROUPS: usize,
    const ROWS: usize,
    const TOKENS: usize,
>(
    weight: &[u8],
    x: &[f32],
    y: &mut ColumnsMut<'_>,
) where
    L: Lanes,
    F: RowFormat<BYTES, GROUPS>,
{
    let (rows, tokens) = (y.range().len(), y.rows());
    if rows == 0 || tokens == 0 {
        return;
    }
    let operands = Operands { weight, row_bytes: weight.len() / rows, x, cols: x.len() / tokens };
    for first in (0..rows).step_by(ROWS_IN_CACHE) {
        let end = (first + ROWS_IN_CACHE).min(rows);
        let mut token = 0;
        while token + TOKENS <= tokens {
            row_tiles::<L, F, BYTES, GROUPS, ROWS, TOKENS>(&operands, first, end, token, y);
            token += TOKENS;
        }
        if TOKENS > 2 && token + 2 <= tokens {
            row_tiles::<L, F, BYTES, GROUPS, ROWS, 2>(&operands, first, end, token, y);
            token += 2;
        }
        for token in token..tokens {
            row_tiles::<L, F, BYTES, GROUPS, ROWS, 1>(&operands, first, end, token, y);
        }
    }
}

#[inline(always)]
fn row_tiles<L, F, const BYTES: usize, const GROUPS: usize, const ROWS: usize, const TOKENS: usize>(
    operands: &Operands<'_, BYTES>,
    mut row: usize,
    end: usize,
    token: usize,
    y: &mut ColumnsMut<'_>,
) where
    L: Lanes,
    F: RowFormat<BYTES, GROUPS>,
{
    while row + ROWS <= end {
        tile::<L, F, BYTES, GROUPS, ROWS, TOKENS>(operands, row, token, y);
        row += ROWS;
    }
    for row in row..end {
        tile::<L, F, BYTES, GROUPS, 1, TOKENS>(operands, row, token, y);
    }
}

#[inline(always)]
fn tile<L, F, const BYTES: usize, const GROUPS: usize, const ROWS: usize, const TOKENS: usize>(
    operands: &Operands<'_, BYTES>,
    row: usize,
    token: usize,
    y: &mut ColumnsMut<'_>,
) where
    L: Lanes,
    F: RowFormat<BYTES, GROUPS>,
{
    let (rows, x) = (operands.rows::<ROWS>(row), operands.tokens::<TOKENS>(token));
    let sums = sums::<L, F, BYTES, GROUPS, ROWS, TOKENS>(rows, x);
    for (t, sums) in sums.iter().enumerate() {
        let y = &mut y.row_mut(token + t)[row..][..ROWS];
        for ((y, lanes), bytes) in y.iter_mut().zip(sums).zip(rows) {
            let mut lanes = lanes.to_array();
            F::add_tail(bytes.as_chunks::<BYTES>().1, x[t].as_chunks::<LANES>().1, &mut lanes);
            *y = math::tree_sum(&lanes);
        }
    }
}

/// Lane sums over the whole blocks, `[token][row]`.
#[inline(always)]
fn sums<L, F, const BYTES: usize, const GROUPS: usize, const ROWS: usize, const TOKENS: usize>(
    rows: [&[u8]; ROWS],
    x: [&[f32]; TOKENS],
) -> [[L; ROWS]; TOKENS]
where
    L: Lanes,
    F: RowFormat<BYTES, GROUPS>,
{
    let rows = rows.map(|row| row.as_chunks::<BYTES>().0);
    let blocks = rows[0].len();
    let (rows, x) =
        (of_len(rows, blocks), of_len(x.map(|x| x.as_chunks::<LANES>().0.as_chunks::<GROUPS>().0), blocks));
    // The rows of the next tile lie behind those of this one.
    let next = rows[ROWS - 1].as_ptr_range().end.cast::<u8>();
    let mut sums = [[L::splat(0.0); ROWS]; TOKENS];
    for block in 0..blocks {
        for line in (0..ROWS * BYTES).step_by(64) {
            L::prefetch(next.wrapping_add(block * ROWS * BYTES + line));
        }
        for r in 0..ROWS {
            let groups = F::decode::<L>(&rows[r][block]);
            for t in 0..TOKENS {
                for g in 0..GROUPS {
                    sums[t][r] = sums[t][r].add_product(groups[g], L::load(&x[t][block][g]));
                }
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::partition::Columns;
    use crate::lanes::{Bf16, F16, F32};

    fn multiply_one<F: RowFormat<BYTES, GROUPS>, const BYTES: usize, const GROUPS: usize>(
        weight: &[u8],
        x: &[f32],
    ) -> f32 {
        let mut y = [0.0];
        multiply::<[f32; LANES], F, BYTES, GROUPS, 1, 1>(weight, x, &mut Columns::new(&mut y, 1).whole());
        y[0]
    }

    #[test]
    fn f32_rows_are_multiplied_as_dot16_does() {
        for len in [1, 15, 16, 17, 100] {
            let w: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 1.3).cos()).collect();
            let bytes: Vec<u8> = w.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(multiply_one::<F32, 64, 1>(&bytes, &x), math::dot16(&w, &x));
        }
    }

    #[test]
    fn halves_are_exact_floats() {
        let x: Vec<f32> = (0..17).map(|i| i as f32).collect();
        let f16: Vec<u8> = [0x4000u16; 17].into_iter().flat_map(u16::to_le_bytes).collect();
        let bf16: Vec<u8> = [0xbf80u16; 17].into_iter().flat_map(u16::to_le_bytes).collect();
        assert_eq!(multiply_one::<F16, 32, 1>(&f16, &x), 272.0);
        assert_eq!(multiply_one::<Bf16, 32, 1>(&bf16, &x), -136.0);
    }

    #[test]
    fn q8_0_is_a_scale_and_codes() {
        let mut block = [0u8; 34];
        block[..2].copy_from_slice(&0x3800u16.to_le_bytes());
        (block[2], block[2 + 31]) = (-128i8 as u8, 127);
        let mut x = [0.0; 32];
        (x[0], x[31]) = (1.0, 100.0);
        assert_eq!(multiply_one::<Q8_0, 34, 2>(&block, &x), 0.5 * (12_700.0 - 128.0));
    }

    #[test]
    fn q6_k_places_every_value_where_ggml_does() {
        let mut block = [0u8; 210];
        for (i, byte) in block[..208].iter_mut().enumerate() {
            *byte = (i * 37 + 11) as u8;
        }
        block[208..].copy_from_slice(&0x3c00u16.to_le_bytes());
        for i in 0..256 {
            let mut x = [0.0; 256];
            x[i] = 1.0;
            let (half, quarter, l) = (i / 128, i % 128 / 32, i % 32);
            let low = block[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
            let high = block[128 + half * 32 + l] >> (quarter * 2) & 3;
            let scale = block[192 + half * 8 + quarter * 2 + l / 16] as i8;
            assert_eq!(
                multiply_one::<Q6K, 210, 16>(&block, &x),
                f32::from(scale) * f32::from((high << 4 | low) as i8 - 32)
            );
        }
    }
}
