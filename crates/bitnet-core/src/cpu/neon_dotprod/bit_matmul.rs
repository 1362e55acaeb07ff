//! Ternary product with `sdot`, which adds four products in 32 bits.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use crate::cpu::neon::bit_matmul::{codes, load, load_bytes, prefetch, row_sums};
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, of_len, tiles};
use std::arch::aarch64::*;
use std::arch::asm;

/// Rows of a tile.
const ROWS: usize = 4;

/// Tokens of a tile: with four rows the sums fill 16 of 32 registers.
const TOKENS: usize = 4;

#[target_feature(enable = "neon,dotprod")]
pub(in crate::cpu) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let blocks = x.blocks();
    for (row, token) in tiles(y.range().len(), ROWS, x.tokens(), TOKENS) {
        match x.tokens() - token {
            1 => tile::<1>(weight, x, row, token, blocks, y),
            2 => tile::<2>(weight, x, row, token, blocks, y),
            3 => tile::<3>(weight, x, row, token, blocks, y),
            _ => tile::<TOKENS>(weight, x, row, token, blocks, y),
        }
    }
}

/// Four rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "neon,dotprod")]
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
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sums<const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; ROWS],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: usize,
    next: &[u8],
) -> [[int32x4_t; ROWS]; T] {
    let (rows, x) = (of_len(rows, blocks), of_len(x, blocks));
    // Two chains of additions a row, or else one token would wait for the latency of each.
    let mut sums = [[[vdupq_n_s32(0); ROWS]; T]; 2];
    for b in 0..blocks {
        prefetch::<ROWS>(next, b);
        for half in 0..2 {
            let chain = if T <= 2 { half } else { 0 };
            for r in 0..ROWS {
                let codes = codes(load_bytes(&rows[r][b].as_chunks().0[half]));
                for t in 0..T {
                    for k in 0..4 {
                        let x = load(&x[t][b].as_chunks().0[2 * k + half]);
                        sums[chain][t][r] = dot(sums[chain][t][r], codes[k], x);
                    }
                }
            }
        }
    }
    let [mut sums, others] = sums;
    for t in 0..T {
        for r in 0..ROWS {
            sums[t][r] = vaddq_s32(sums[t][r], others[t][r]);
        }
    }
    sums
}

/// Adds four products to each sum.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction on registers that this code is compiled for; Rust has no stable intrinsic for it.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) a, in(vreg) b, options(pure, nomem, nostack));
    }
    sum
}
