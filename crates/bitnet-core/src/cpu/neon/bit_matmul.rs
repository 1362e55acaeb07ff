//! Ternary product with `smlal`, which adds products in 16 bits.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use super::lanes::F32x16;
use crate::cpu::partition::ColumnsMut;
use crate::lanes::Lanes;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, of_len, tiles};
use std::arch::aarch64::*;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 4;

/// Tokens of a tile.
const TOKENS: usize = 2;

/// Blocks that fit in 16-bit sums: sixteen products a block, each at most 2 * 128.
const BLOCKS_IN_16_BITS: usize = 8;

#[target_feature(enable = "neon")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let blocks = x.blocks();
    for (row, token) in tiles(y.range().len(), ROWS, x.tokens(), TOKENS) {
        match x.tokens() - token {
            1 => tile::<1>(weight, x, row, token, blocks, y),
            _ => tile::<TOKENS>(weight, x, row, token, blocks, y),
        }
    }
}

/// Four rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "neon")]
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

/// Sums over stored codes in 32 bits.
#[target_feature(enable = "neon")]
fn sums<const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; ROWS],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: usize,
    next: &[u8],
) -> [[int32x4_t; ROWS]; T] {
    let mut sums = [[vdupq_n_s32(0); ROWS]; T];
    for start in (0..blocks).step_by(BLOCKS_IN_16_BITS) {
        let end = (start + BLOCKS_IN_16_BITS).min(blocks);
        let part = short_sums(rows, x, start..end, next);
        for t in 0..T {
            for r in 0..ROWS {
                sums[t][r] = vpadalq_s16(sums[t][r], part[t][r]);
            }
        }
    }
    sums
}

/// Sums over up to [`BLOCKS_IN_16_BITS`] blocks.
#[inline]
#[target_feature(enable = "neon")]
fn short_sums<const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; ROWS],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: Range<usize>,
    next: &[u8],
) -> [[int16x8_t; ROWS]; T] {
    let (rows, x) = (of_len(rows, blocks.end), of_len(x, blocks.end));
    let mut sums = [[vdupq_n_s16(0); ROWS]; T];
    for b in blocks {
        prefetch::<ROWS>(next, b);
        for half in 0..2 {
            for r in 0..ROWS {
                let codes = codes(load_bytes(&rows[r][b].as_chunks().0[half]));
                for t in 0..T {
                    for k in 0..4 {
                        let x = load(&x[t][b].as_chunks().0[2 * k + half]);
                        let sum = vmlal_s8(sums[t][r], vget_low_s8(codes[k]), vget_low_s8(x));
                        sums[t][r] = vmlal_high_s8(sum, codes[k], x);
                    }
                }
            }
        }
    }
    sums
}

/// The stored codes of sixteen bytes, by the quarter of the block that they belong to.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::cpu) fn codes(bytes: uint8x16_t) -> [int8x16_t; 4] {
    let three = vdupq_n_u8(3);
    [
        vreinterpretq_s8_u8(vshrq_n_u8::<6>(bytes)),
        vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<4>(bytes), three)),
        vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<2>(bytes), three)),
        vreinterpretq_s8_u8(vandq_u8(bytes, three)),
    ]
}

#[inline]
#[target_feature(enable = "neon")]
pub(in crate::cpu) fn load_bytes(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the array has the size of the load, which needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(in crate::cpu) fn load(codes: &[i8; 16]) -> int8x16_t {
    // SAFETY: the array has the size of the load, which needs no alignment.
    unsafe { vld1q_s8(codes.as_ptr()) }
}

/// Asks for the `block`-th part of the next `ROWS` rows: without it the short streams of a tile come too late.
#[inline(always)]
pub(in crate::cpu) fn prefetch<const ROWS: usize>(next: &[u8], block: usize) {
    for line in (0..ROWS * BLOCK_BYTES).step_by(64) {
        F32x16::prefetch(next.as_ptr().wrapping_add(block * ROWS * BLOCK_BYTES + line));
    }
}

/// Adds up each of four registers.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::cpu) fn row_sums([a, b, c, d]: [int32x4_t; 4]) -> [i32; 4] {
    let mut sums = [0; 4];
    // SAFETY: the array has the size of the store, which needs no alignment.
    unsafe { vst1q_s32(sums.as_mut_ptr(), vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))) };
    sums
}
