//! Ternary product in tiles of 32 rows by up to 32 tokens. Codes are unpacked as the tiles want them, four columns of sixteen rows in a register;
//! activations are loaded as they lie.

use super::tiles::{SIDE, Shapes, Sums, Weights};
use crate::cpu::{avx2::bit_matmul::prefetch, avx512, partition::ColumnsMut};
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, of_len};
use std::arch::x86_64::*;

/// Rows, and tokens, of four tiles.
const PAIR: usize = 2 * SIDE;
/// Rows that stay in the cache while all tokens pass.
const ROWS_IN_CACHE: usize = 8 * PAIR;
/// Elements of [`Weights`] of a block: 64 columns each.
const STEPS: usize = BLOCK_LEN / 64;

/// # Safety
/// Nothing is [`lacking`](super::lacking).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,gfni")]
pub(super) unsafe fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let (tokens, rows) = (x.tokens(), y.range().len());
    if tokens == 0 {
        return;
    }
    // Up to sixteen are in both tiles, in turns.
    let second = if tokens <= SIDE { tokens } else { tokens - SIDE };
    let tiles = [tokens, second].map(|n| n.min(SIDE));
    // SAFETY: the caller vouches for the registers.
    let shapes = unsafe { Shapes::new(tiles) };
    let mut weights = [[Weights::ZERO; STEPS]; 2];
    let mut sums = Sums::ZERO;
    for first in (0..rows).step_by(ROWS_IN_CACHE) {
        for token in (0..tokens).step_by(PAIR) {
            // The last tile ends with the tokens: it repeats some of the one before rather than be smaller.
            let token = token.min(tokens.saturating_sub(PAIR));
            for row in (first..rows.min(first + ROWS_IN_CACHE)).step_by(PAIR) {
                add_up(&shapes, &weight, row, x, token, &mut weights, &mut sums);
                finish(&sums, x, token, &weight, row, y);
            }
        }
    }
}

/// Sums over stored codes of 32 rows and up to 32 tokens. Each block is multiplied after the next one was unpacked: by then its codes have
/// reached the cache.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,gfni")]
fn add_up(
    shapes: &Shapes,
    weight: &TernaryRows<'_>,
    row: usize,
    x: CodeRows<'_>,
    token: usize,
    weights: &mut [[Weights; STEPS]; 2],
    sums: &mut Sums,
) {
    let (blocks, stride) = (x.blocks(), x.blocks() * BLOCK_LEN);
    let rows = [weight.tile(row, blocks), weight.tile(row + SIDE, blocks)].map(|rows| of_len(rows, blocks));
    let next = [weight.from(row + PAIR, blocks), weight.from(row + PAIR + SIDE, blocks)];
    shapes.clear();
    if blocks > 0 {
        unpack(&rows, next, 0, &mut weights[0]);
    }
    let narrow = x.tokens() <= SIDE;
    for block in 0..blocks {
        if block + 1 < blocks {
            unpack(&rows, next, block + 1, &mut weights[(block + 1) % 2]);
        }
        let (x, weights) = (&x.codes[token * stride + block * BLOCK_LEN..], &weights[block % 2]);
        if narrow {
            shapes.add_in_turns(x, stride, weights);
        } else {
            shapes.add_products(x, stride, weights);
        }
    }
    shapes.store(sums);
    if narrow {
        let [first, second] = &mut sums.0;
        for (sum, turn) in first.as_flattened_mut().iter_mut().zip(second.as_flattened()) {
            for (sum, turn) in sum.iter_mut().zip(turn) {
                *sum += turn;
            }
        }
    }
}

/// The results of up to 32 tokens from `first` on and up to 32 rows from `row` on.
#[inline(always)]
fn finish(
    sums: &Sums,
    x: CodeRows<'_>,
    first: usize,
    weight: &TernaryRows<'_>,
    row: usize,
    y: &mut ColumnsMut<'_>,
) {
    for t in 0..PAIR.min(x.tokens() - first) {
        let y = &mut y.row_mut(first + t)[row..];
        for (half, y) in y.chunks_mut(SIDE).take(2).enumerate() {
            x.finish(first + t, &sums.0[t / SIDE][half][t % SIDE], weight, row + half * SIDE, y);
        }
    }
}

/// Unpacks a block of two tiles of rows, and asks for it of the next two.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,gfni")]
fn unpack(
    rows: &[[&[[u8; BLOCK_BYTES]]; SIDE]; 2],
    next: [&[u8]; 2],
    block: usize,
    [low, high]: &mut [Weights; STEPS],
) {
    for half in 0..2 {
        prefetch::<_MM_HINT_T1>(next[half], SIDE, block);
        let columns = transposed(&rows[half], block);
        for (j, column) in columns.into_iter().enumerate() {
            store(&mut low.0[half][j], bits::<6>(column));
            store(&mut low.0[half][8 + j], bits::<4>(column));
            store(&mut high.0[half][j], bits::<2>(column));
            store(&mut high.0[half][8 + j], bits::<0>(column));
        }
    }
}

/// Two bits of each byte, from bit `SHIFT` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,gfni")]
fn bits<const SHIFT: u32>(bytes: __m512i) -> __m512i {
    // Row 7 of the matrix makes bit 0, row 6 bit 1.
    let matrix = (1u64 << SHIFT) << 56 | (2u64 << SHIFT) << 48;
    _mm512_gf2p8affine_epi64_epi8::<0>(bytes, _mm512_set1_epi64(matrix as i64))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,gfni")]
fn store(y: &mut [u8; 64], codes: __m512i) {
    // SAFETY: the array has the size of the store, which needs no alignment.
    unsafe { _mm512_storeu_si512(y.as_mut_ptr().cast(), codes) };
}

/// Four bytes of each of sixteen rows in a register: the `j`-th four of a block in the `j`-th.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,gfni")]
fn transposed(rows: &[&[[u8; BLOCK_BYTES]]; SIDE], block: usize) -> [__m512i; 8] {
    let mut x = [_mm512_setzero_si512(); 8];
    for (i, x) in x.iter_mut().enumerate() {
        *x = avx512::bit_matmul::pair(&rows[i][block], &rows[i + 8][block]);
    }
    // Fours of rows 0 and 1, 2 and 3, ... in turns; the upper half of a register is that of rows eight further.
    let mut pairs = [_mm512_setzero_si512(); 8];
    for i in (0..8).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    // Register `h + j`: fours `j` and `4 + j` of rows `h..h + 4`.
    let mut quads = [_mm512_setzero_si512(); 8];
    for h in [0, 4] {
        quads[h] = _mm512_unpacklo_epi64(pairs[h], pairs[h + 2]);
        quads[h + 1] = _mm512_unpackhi_epi64(pairs[h], pairs[h + 2]);
        quads[h + 2] = _mm512_unpacklo_epi64(pairs[h + 1], pairs[h + 3]);
        quads[h + 3] = _mm512_unpackhi_epi64(pairs[h + 1], pairs[h + 3]);
    }
    let low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    let mut columns = [_mm512_setzero_si512(); 8];
    for j in 0..4 {
        columns[j] = _mm512_permutex2var_epi64(quads[j], low, quads[4 + j]);
        columns[4 + j] = _mm512_permutex2var_epi64(quads[j], high, quads[4 + j]);
    }
    columns
}
