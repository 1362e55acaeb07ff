//! Ternary product with `dpbusd`, which adds four products in 32 bits.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use crate::cpu::avx2::bit_matmul::{load, load_codes, prefetch, row_sums};
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, of_len, tiles};
use std::arch::x86_64::*;

/// Rows of a tile.
const ROWS: usize = 4;

/// Tokens of a tile.
const TOKENS: usize = 2;

#[target_feature(enable = "avx2,f16c,avxvnni")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let blocks = x.blocks();
    for (row, token) in tiles::<ROWS, TOKENS>(y.range().len(), x.tokens()) {
        match x.tokens() - token {
            1 => tile::<1>(weight, x, row, token, blocks, y),
            _ => tile::<TOKENS>(weight, x, row, token, blocks, y),
        }
    }
}

/// Four rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "avx2,f16c,avxvnni")]
fn tile<const T: usize>(
    weight: TernaryRows<'_>,
    x: CodeRows<'_>,
    row: usize,
    token: usize,
    blocks: usize,
    y: &mut ColumnsMut<'_>,
) {
    let next = weight.from(row + ROWS, blocks);
    let sums = sums(weight.tile(row, blocks), x.tile::<T>(token, blocks), blocks, next);
    for t in 0..T {
        let y = &mut y.row_mut(token + t)[row..];
        let len = y.len().min(ROWS);
        x.finish(token + t, &row_sums(sums[t]), &weight, row, &mut y[..len]);
    }
}

/// Sums over stored codes.
#[target_feature(enable = "avx2,f16c,avxvnni")]
fn sums<const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; ROWS],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: usize,
    next: &[u8],
) -> [[__m256i; ROWS]; T] {
    let (rows, x) = (of_len(rows, blocks), of_len(x, blocks));
    let three = _mm256_set1_epi8(3);
    let mut sums = [[_mm256_setzero_si256(); ROWS]; T];
    for b in 0..blocks {
        prefetch::<ROWS>(next, b);
        for r in 0..ROWS {
            let w = load(&rows[r][b]);
            let codes = [
                _mm256_and_si256(_mm256_srli_epi16::<6>(w), three),
                _mm256_and_si256(_mm256_srli_epi16::<4>(w), three),
                _mm256_and_si256(_mm256_srli_epi16::<2>(w), three),
                _mm256_and_si256(w, three),
            ];
            for t in 0..T {
                for k in 0..4 {
                    sums[t][r] =
                        _mm256_dpbusd_avx_epi32(sums[t][r], codes[k], load_codes(&x[t][b].as_chunks().0[k]));
                }
            }
        }
    }
    sums
}
