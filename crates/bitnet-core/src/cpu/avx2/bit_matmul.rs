//! Ternary product with `maddubs`, which adds two products in 16 bits.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use super::panel::Avx2;
use crate::cpu::panel;
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, even, of_len, tiles};
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of a tile of one or two tokens.
const ROWS: usize = 4;

/// Most tokens of a tile of one row.
const TOKENS: usize = 8;

/// Blocks that fit in 16-bit sums: four pairs of products a block, each at most 2 * 2 * 128.
pub(super) const BLOCKS_IN_16_BITS: usize = 16;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let (tokens, blocks) = (x.tokens(), x.blocks());
    if tokens >= panel::MANY && blocks > 0 {
        return panel::multiply(&Avx2, weight, x, y);
    }
    if tokens <= 2 {
        for row in (0..y.range().len()).step_by(ROWS) {
            match tokens {
                0 => {}
                1 => tile::<ROWS, 1>(weight, x, row, 0, blocks, y),
                _ => tile::<ROWS, 2>(weight, x, row, 0, blocks, y),
            }
        }
        return;
    }
    let most = tokens_in_cache(blocks).clamp(4, TOKENS);
    let each = even(tokens, most);
    for (row, token) in tiles(y.range().len(), 1, tokens, each) {
        match each.min(tokens - token) {
            1 => tile::<1, 1>(weight, x, row, token, blocks, y),
            2 => tile::<1, 2>(weight, x, row, token, blocks, y),
            3 => tile::<1, 3>(weight, x, row, token, blocks, y),
            4 => tile::<1, 4>(weight, x, row, token, blocks, y),
            5 => tile::<1, 5>(weight, x, row, token, blocks, y),
            6 => tile::<1, 6>(weight, x, row, token, blocks, y),
            7 => tile::<1, 7>(weight, x, row, token, blocks, y),
            _ => tile::<1, TOKENS>(weight, x, row, token, blocks, y),
        }
    }
}

/// Tokens whose codes stay in the nearest cache beside the weights.
fn tokens_in_cache(blocks: usize) -> usize {
    (24 << 10) / (blocks * BLOCK_LEN).max(1)
}

/// `R` rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "avx2,f16c")]
fn tile<const R: usize, const T: usize>(
    weight: TernaryRows<'_>,
    x: CodeRows<'_>,
    row: usize,
    token: usize,
    blocks: usize,
    y: &mut ColumnsMut<'_>,
) {
    let next = weight.from(row + ROWS, blocks);
    let sums = sums::<R, T>(weight.tile(row, blocks), x.tile(token, blocks), blocks, next);
    for t in 0..T {
        write(x, token + t, sums[t], weight, row, y);
    }
}

/// Writes the results of the rows of `weight` from `row` on, at most four.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu) fn write<const R: usize>(
    x: CodeRows<'_>,
    token: usize,
    sums: [__m256i; R],
    weight: TernaryRows<'_>,
    row: usize,
    y: &mut ColumnsMut<'_>,
) {
    let mut four = [_mm256_setzero_si256(); 4];
    four[..R].copy_from_slice(&sums);
    let y = &mut y.row_mut(token)[row..];
    let len = y.len().min(R);
    x.finish(token, &row_sums(four), &weight, row, &mut y[..len]);
}

/// Sums over stored codes in 32 bits.
#[target_feature(enable = "avx2,f16c")]
fn sums<const R: usize, const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; R],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: usize,
    next: &[u8],
) -> [[__m256i; R]; T] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); R]; T];
    for start in (0..blocks).step_by(BLOCKS_IN_16_BITS) {
        let end = (start + BLOCKS_IN_16_BITS).min(blocks);
        let part = short_sums(rows, x, start..end, next);
        for t in 0..T {
            for r in 0..R {
                sums[t][r] = _mm256_add_epi32(sums[t][r], _mm256_madd_epi16(part[t][r], ones));
            }
        }
    }
    sums
}

/// Sums over up to [`BLOCKS_IN_16_BITS`] blocks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn short_sums<const R: usize, const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; R],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: Range<usize>,
    next: &[u8],
) -> [[__m256i; R]; T] {
    let (rows, x) = (of_len(rows, blocks.end), of_len(x, blocks.end));
    let mut sums = [[_mm256_setzero_si256(); R]; T];
    for b in blocks {
        prefetch::<_MM_HINT_T0>(next, R, b);
        for r in 0..R {
            let w = load(&rows[r][b]);
            for k in 0..4 {
                let codes = quarter(w, k);
                for t in 0..T {
                    let products = _mm256_maddubs_epi16(codes, load_codes(&x[t][b].as_chunks().0[k]));
                    sums[t][r] = _mm256_add_epi16(sums[t][r], products);
                }
            }
        }
    }
    sums
}

/// The `k`-th codes of bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu) fn quarter(bytes: __m256i, k: usize) -> __m256i {
    let shifted = match k {
        0 => _mm256_srli_epi16::<6>(bytes),
        1 => _mm256_srli_epi16::<4>(bytes),
        2 => _mm256_srli_epi16::<2>(bytes),
        _ => bytes,
    };
    _mm256_and_si256(shifted, _mm256_set1_epi8(3))
}

/// Asks for the `block`-th part of the next `rows` rows: without it the short streams of a tile come too late.
#[inline(always)]
pub(in crate::cpu) fn prefetch<const HINT: i32>(next: &[u8], rows: usize, block: usize) {
    for line in (0..rows * BLOCK_BYTES).step_by(64) {
        let address = next.as_ptr().wrapping_add(block * rows * BLOCK_BYTES + line);
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<HINT>(address.cast()) };
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
