//! Ternary product with `smmla`, which multiplies eight codes of two rows with those of two tokens. Rows are unpacked once for all tokens,
//! and both are laid out as the operands of the instruction.

use crate::cpu::neon::bit_matmul::{codes, load, load_bytes, prefetch};
use crate::cpu::neon_dotprod;
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_LEN, CodeRows, TernaryRows, even};
use std::arch::aarch64::*;
use std::arch::asm;

/// Rows of a tile.
const ROWS: usize = 8;

/// Tokens of a tile, at most: with four pairs of rows the sums fill 16 of 32 registers.
const TOKENS: usize = 8;

/// Rows that are unpacked at once for many tokens: those of the widest matrices stay in the second cache.
const PANEL: usize = 32;

/// Operands of a block.
const STEPS: usize = BLOCK_LEN / 8;

/// Eight codes of a row or token, then those of the next.
#[derive(Clone, Copy, Default)]
#[repr(align(16))]
struct Pair([i8; 16]);

impl Pair {
    #[inline]
    #[target_feature(enable = "neon")]
    fn store(&mut self, codes: int8x16_t) {
        // SAFETY: the array has the size of the store, which needs no alignment.
        unsafe { vst1q_s8(self.0.as_mut_ptr(), codes) };
    }
}

/// The same eight columns of the rows of a tile.
type Step = [Pair; ROWS / 2];

#[target_feature(enable = "neon,dotprod,i8mm")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let (tokens, blocks, rows) = (x.tokens(), x.blocks(), y.range().len());
    if tokens <= 1 || blocks == 0 {
        return neon_dotprod::bit_matmul::multiply(weight, x, y);
    }
    let steps = blocks * STEPS;
    let each = even(tokens, TOKENS).next_multiple_of(2);
    let once = tokens <= each;
    // Rows that are read once are multiplied while they are in the nearest cache.
    let panel = if once { ROWS } else { PANEL };
    let mut unpacked = vec![Step::default(); steps * panel / ROWS];
    let mut paired = vec![Pair::default(); steps * each / 2];
    for first in (0..rows).step_by(panel) {
        let tiles = || (first..rows.min(first + panel)).step_by(ROWS);
        for (row, tile) in tiles().zip(unpacked.chunks_mut(steps)) {
            unpack(weight, row, blocks, tile.as_chunks_mut().0);
        }
        for token in (0..tokens).step_by(each) {
            let pairs = each.min(tokens - token).div_ceil(2);
            let paired = &mut paired[..steps * pairs];
            if first == 0 || !once {
                pair(x, token, pairs, paired);
            }
            for (row, rows) in tiles().zip(unpacked.chunks(steps)) {
                match pairs {
                    1 => tile::<1>(rows, paired, x, token, weight, row, y),
                    2 => tile::<2>(rows, paired, x, token, weight, row, y),
                    3 => tile::<3>(rows, paired, x, token, weight, row, y),
                    _ => tile::<4>(rows, paired, x, token, weight, row, y),
                }
            }
        }
    }
}

/// Unpacks the rows of a tile; behind the end the last row repeats.
#[target_feature(enable = "neon")]
fn unpack(weight: TernaryRows<'_>, row: usize, blocks: usize, tile: &mut [[Step; STEPS]]) {
    let (rows, next) = (weight.tile::<ROWS>(row, blocks), weight.from(row + ROWS, blocks));
    for (b, steps) in tile.iter_mut().enumerate() {
        prefetch::<ROWS>(next, b);
        for p in 0..ROWS / 2 {
            for half in 0..2 {
                let above = load_bytes(&rows[2 * p][b].as_chunks().0[half]);
                let below = load_bytes(&rows[2 * p + 1][b].as_chunks().0[half]);
                for (i, bytes) in interleave(above, below).into_iter().enumerate() {
                    for (k, codes) in codes(bytes).into_iter().enumerate() {
                        steps[4 * k + 2 * half + i][p].store(codes);
                    }
                }
            }
        }
    }
}

/// Lays out `pairs` pairs of tokens from `token` on, operand by operand; behind the end the last token repeats.
#[target_feature(enable = "neon")]
fn pair(x: CodeRows<'_>, token: usize, pairs: usize, paired: &mut [Pair]) {
    for p in 0..pairs {
        let tokens = [token + 2 * p, (token + 2 * p + 1).min(x.tokens() - 1)];
        let [above, below] = tokens.map(|token| {
            let [codes] = x.tile::<1>(token, x.blocks());
            codes.as_flattened().as_chunks::<16>().0
        });
        for (steps, (above, below)) in paired.chunks_mut(2 * pairs).zip(above.iter().zip(below)) {
            let (above, below) = (vreinterpretq_u8_s8(load(above)), vreinterpretq_u8_s8(load(below)));
            for (i, codes) in interleave(above, below).into_iter().enumerate() {
                steps[i * pairs + p].store(vreinterpretq_s8_u8(codes));
            }
        }
    }
}

/// Unpacked rows (fewer at the end) times `P` pairs of tokens (one token less at the end).
#[target_feature(enable = "neon,i8mm")]
fn tile<const P: usize>(
    rows: &[Step],
    paired: &[Pair],
    x: CodeRows<'_>,
    token: usize,
    weight: TernaryRows<'_>,
    row: usize,
    y: &mut ColumnsMut<'_>,
) {
    for (p, sums) in sums::<P>(rows, paired).into_iter().enumerate() {
        for (i, sums) in row_sums(sums).into_iter().enumerate() {
            let token = token + 2 * p + i;
            if token < x.tokens() {
                let y = &mut y.row_mut(token)[row..];
                let len = y.len().min(ROWS);
                x.finish(token, &sums, &weight, row, &mut y[..len]);
            }
        }
    }
}

/// Sums over stored codes: in a register those of two rows, each of two tokens.
#[target_feature(enable = "neon,i8mm")]
fn sums<const P: usize>(rows: &[Step], paired: &[Pair]) -> [[int32x4_t; ROWS / 2]; P] {
    let mut sums = [[vdupq_n_s32(0); ROWS / 2]; P];
    for (rows, tokens) in rows.iter().zip(paired.as_chunks::<P>().0) {
        let rows = rows.map(|pair| load(&pair.0));
        for p in 0..P {
            let tokens = load(&tokens[p].0);
            for r in 0..ROWS / 2 {
                sums[p][r] = products(sums[p][r], rows[r], tokens);
            }
        }
    }
    sums
}

/// Eight bytes of the one register, then of the other: first the low ones, then the high ones.
#[inline]
#[target_feature(enable = "neon")]
fn interleave(above: uint8x16_t, below: uint8x16_t) -> [uint8x16_t; 2] {
    let (above, below) = (vreinterpretq_u64_u8(above), vreinterpretq_u64_u8(below));
    [vzip1q_u64(above, below), vzip2q_u64(above, below)].map(|bytes| vreinterpretq_u8_u64(bytes))
}

/// Adds the products of two rows of `a` with two rows of `b`, each of eight codes, to the sums.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn products(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction on registers that this code is compiled for; Rust has no stable intrinsic for it.
    unsafe {
        asm!("smmla {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sums, in(vreg) a, in(vreg) b, options(pure, nomem, nostack));
    }
    sums
}

/// Sums of the rows of a tile by token.
#[inline]
#[target_feature(enable = "neon")]
fn row_sums([a, b, c, d]: [int32x4_t; ROWS / 2]) -> [[i32; ROWS]; 2] {
    let mut sums = [[0; ROWS]; 2];
    let quarters = [[vuzp1q_s32(a, b), vuzp1q_s32(c, d)], [vuzp2q_s32(a, b), vuzp2q_s32(c, d)]];
    for (sums, quarters) in sums.iter_mut().zip(quarters) {
        for (sums, quarter) in sums.as_chunks_mut::<4>().0.iter_mut().zip(quarters) {
            // SAFETY: the array has the size of the store, which needs no alignment.
            unsafe { vst1q_s32(sums.as_mut_ptr(), quarter) };
        }
    }
    sums
}
