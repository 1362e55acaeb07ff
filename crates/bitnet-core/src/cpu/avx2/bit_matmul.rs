//! Ternary product with `maddubs`, which adds two products in 16 bits.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, of_len, tiles};
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 4;

/// Tokens of a tile.
const TOKENS: usize = 2;

/// Blocks that fit in 16-bit sums: four pairs of products a block, each at most 2 * 2 * 128.
const BLOCKS_IN_16_BITS: usize = 16;

#[target_feature(enable = "avx2,f16c")]
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
#[target_feature(enable = "avx2,f16c")]
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
#[target_feature(enable = "avx2,f16c")]
fn sums<const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; ROWS],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: usize,
    next: &[u8],
) -> [[__m256i; ROWS]; T] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); ROWS]; T];
    for start in (0..blocks).step_by(BLOCKS_IN_16_BITS) {
        let end = (start + BLOCKS_IN_16_BITS).min(blocks);
        let part = short_sums(rows, x, start..end, next);
        for t in 0..T {
            for r in 0..ROWS {
                sums[t][r] = _mm256_add_epi32(sums[t][r], _mm256_madd_epi16(part[t][r], ones));
            }
        }
    }
    sums
}

/// Sums over up to [`BLOCKS_IN_16_BITS`] blocks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn short_sums<const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; ROWS],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: Range<usize>,
    next: &[u8],
) -> [[__m256i; ROWS]; T] {
    let (rows, x) = (of_len(rows, blocks.end), of_len(x, blocks.end));
    let three = _mm256_set1_epi8(3);
    let mut sums = [[_mm256_setzero_si256(); ROWS]; T];
    for b in blocks {
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
                    let products = _mm256_maddubs_epi16(codes[k], load_codes(&x[t][b].as_chunks().0[k]));
                    sums[t][r] = _mm256_add_epi16(sums[t][r], products);
                }
            }
        }
    }
    sums
}

/// Asks for the `block`-th part of the next `ROWS` rows: without it the short streams of a tile come too late.
#[inline(always)]
pub(in crate::cpu) fn prefetch<const ROWS: usize>(next: &[u8], block: usize) {
    for line in (0..ROWS * BLOCK_BYTES).step_by(64) {
        let address = next.as_ptr().wrapping_add(block * ROWS * BLOCK_BYTES + line);
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu) fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the array has the size of the load, which needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu) fn load_codes(codes: &[i8; 32]) -> __m256i {
    // SAFETY: as in `load`.
    unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) }
}

/// Adds up each of four registers.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu) fn row_sums([a, b, c, d]: [__m256i; 4]) -> [i32; 4] {
    let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let total = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    let mut sums = [0; 4];
    // SAFETY: the array has the size of the store, which needs no alignment.
    unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), total) };
    sums
}
