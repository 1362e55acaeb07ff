//! Ternary product with `dpbusd`, which adds four products in 32 bits.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use super::panel;
use crate::cpu::avx2::bit_matmul::{load, load_codes, prefetch, quarter, write};
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, even, of_len, tiles};
use std::arch::x86_64::*;

/// Rows of a tile of several tokens.
const ROWS: usize = 2;

/// Tokens of a tile of two rows.
const TOKENS: usize = 5;

#[target_feature(enable = "avx2,f16c,avxvnni")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let (tokens, blocks) = (x.tokens(), x.blocks());
    if tokens >= panel::MANY && blocks > 0 {
        return panel::multiply(weight, x, y);
    }
    if tokens == 1 {
        return (0..y.range().len()).step_by(4).for_each(|row| tile::<4, 1>(weight, x, row, 0, blocks, y));
    }
    let each = even(tokens, TOKENS);
    for (row, token) in tiles(y.range().len(), ROWS, tokens, each) {
        match each.min(tokens - token) {
            1 => tile::<ROWS, 1>(weight, x, row, token, blocks, y),
            2 => tile::<ROWS, 2>(weight, x, row, token, blocks, y),
            3 => tile::<ROWS, 3>(weight, x, row, token, blocks, y),
            4 => tile::<ROWS, 4>(weight, x, row, token, blocks, y),
            _ => tile::<ROWS, TOKENS>(weight, x, row, token, blocks, y),
        }
    }
}

/// `R` rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "avx2,f16c,avxvnni")]
fn tile<const R: usize, const T: usize>(
    weight: TernaryRows<'_>,
    x: CodeRows<'_>,
    row: usize,
    token: usize,
    blocks: usize,
    y: &mut ColumnsMut<'_>,
) {
    let next = weight.from(row + 4, blocks);
    let sums = sums::<R, T>(weight.tile(row, blocks), x.tile(token, blocks), blocks, next);
    for t in 0..T {
        write(x, token + t, sums[t], weight, row, y);
    }
}

/// Sums over stored codes.
#[target_feature(enable = "avx2,f16c,avxvnni")]
fn sums<const R: usize, const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; R],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: usize,
    next: &[u8],
) -> [[__m256i; R]; T] {
    let (rows, x) = (of_len(rows, blocks), of_len(x, blocks));
    let mut sums = [[_mm256_setzero_si256(); R]; T];
    for b in 0..blocks {
        prefetch::<_MM_HINT_T0>(next, R, b);
        for r in 0..R {
            let w = load(&rows[r][b]);
            for k in 0..4 {
                let codes = quarter(w, k);
                for t in 0..T {
                    let x = load_codes(&x[t][b].as_chunks().0[k]);
                    sums[t][r] = _mm256_dpbusd_avx_epi32(sums[t][r], codes, x);
                }
            }
        }
    }
    sums
}
