//! Ternary product of many tokens: the codes of some rows are unpacked once for all of them.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use crate::cpu::avx2::bit_matmul::{load, load_codes, quarter, write};
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, CodeRows, TernaryRows, of_len};
use std::arch::x86_64::*;

/// Tokens from which on it pays.
pub(super) const MANY: usize = 64;

/// Rows that are unpacked at once: with those of the widest matrices they stay in the second cache.
const PANEL: usize = 32;

/// Rows of a tile.
const ROWS: usize = 2;

/// Tokens of a tile: with two rows their sums fill 12 of 16 registers.
const TOKENS: usize = 6;

/// A quarter of a block of the rows of a tile, a code in each byte.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Quarters([[u8; BLOCK_BYTES]; ROWS]);

/// Multiplies all tokens with the rows of `weight`, which are the columns of `y`.
#[target_feature(enable = "avx2,f16c,avxvnni")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let (blocks, rows) = (x.blocks(), y.range().len());
    let each = 4 * blocks;
    let mut codes = vec![Quarters([[0; BLOCK_BYTES]; ROWS]); each * PANEL / ROWS];
    for first in (0..rows).step_by(PANEL) {
        let tiles = || (first..rows.min(first + PANEL)).step_by(ROWS);
        for (row, codes) in tiles().zip(codes.chunks_mut(each)) {
            unpack(weight.tile(row, blocks), codes);
        }
        for token in (0..x.tokens()).step_by(TOKENS) {
            for (row, codes) in tiles().zip(codes.chunks(each)) {
                match TOKENS.min(x.tokens() - token) {
                    1 => tile::<1>(codes, x, token, weight, row, y),
                    2 => tile::<2>(codes, x, token, weight, row, y),
                    3 => tile::<3>(codes, x, token, weight, row, y),
                    4 => tile::<4>(codes, x, token, weight, row, y),
                    5 => tile::<5>(codes, x, token, weight, row, y),
                    _ => tile::<TOKENS>(codes, x, token, weight, row, y),
                }
            }
        }
    }
}

/// Unpacks rows to four quarters a block.
#[target_feature(enable = "avx2")]
fn unpack(rows: [&[[u8; BLOCK_BYTES]]; ROWS], codes: &mut [Quarters]) {
    for (b, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for r in 0..ROWS {
            let bytes = load(&rows[r][b]);
            for k in 0..4 {
                // SAFETY: half of the quarters has the size and alignment of the store.
                unsafe { _mm256_store_si256((&raw mut codes[k].0[r]).cast(), quarter(bytes, k)) };
            }
        }
    }
}

/// Two unpacked rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "avx2,f16c,avxvnni")]
fn tile<const T: usize>(
    codes: &[Quarters],
    x: CodeRows<'_>,
    token: usize,
    weight: TernaryRows<'_>,
    row: usize,
    y: &mut ColumnsMut<'_>,
) {
    let tokens = of_len(x.quarters::<T>(token, x.blocks()), codes.len());
    let mut sums = [[_mm256_setzero_si256(); ROWS]; T];
    for (q, codes) in codes.iter().enumerate() {
        let rows = [load(&codes.0[0]), load(&codes.0[1])];
        for t in 0..T {
            let x = load_codes(&tokens[t][q]);
            for r in 0..ROWS {
                sums[t][r] = _mm256_dpbusd_avx_epi32(sums[t][r], rows[r], x);
            }
        }
    }
    for t in 0..T {
        write(x, token + t, sums[t], weight, row, y);
    }
}
