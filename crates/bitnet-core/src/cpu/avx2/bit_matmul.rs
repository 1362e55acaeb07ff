//! Ternary product with `maddubs`, which adds two products in 16 bits.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, even, of_len};
use std::arch::{asm, x86_64::*};
use std::ops::Range;

/// Rows of a tile of one or two tokens.
const ROWS: usize = 4;

/// Most tokens of a tile of one row.
const TOKENS: usize = 8;

/// Rows that all tokens pass before the next: they and those that are asked for meanwhile stay in the second cache.
const GROUP: usize = 64;

/// Blocks that fit in 16-bit sums: four pairs of products a block, each at most 2 * 2 * 128. As many of eight tokens fill half of a first
/// cache of 32 KB.
const BLOCKS_IN_16_BITS: usize = 16;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let (tokens, rows) = (x.tokens(), y.range().len());
    match tokens {
        0 => return,
        1 => return (0..rows).step_by(ROWS).for_each(|row| tile::<1>(weight, x, row, y)),
        2 => return (0..rows).step_by(ROWS).for_each(|row| tile::<2>(weight, x, row, y)),
        _ => {}
    }
    let each = even(tokens, TOKENS);
    for first in (0..rows).step_by(GROUP) {
        let rows = first..rows.min(first + GROUP);
        for token in (0..tokens).step_by(each) {
            let rows = rows.clone();
            match each.min(tokens - token) {
                1 => group::<1>(weight, x, rows, token, y),
                2 => group::<2>(weight, x, rows, token, y),
                3 => group::<3>(weight, x, rows, token, y),
                4 => group::<4>(weight, x, rows, token, y),
                5 => group::<5>(weight, x, rows, token, y),
                6 => group::<6>(weight, x, rows, token, y),
                7 => group::<7>(weight, x, rows, token, y),
                _ => group::<TOKENS>(weight, x, rows, token, y),
            }
        }
    }
}

/// [`ROWS`] rows (fewer at the end) times all of `T` tokens.
#[target_feature(enable = "avx2,f16c")]
fn tile<const T: usize>(weight: TernaryRows<'_>, x: CodeRows<'_>, row: usize, y: &mut ColumnsMut<'_>) {
    let blocks = x.blocks();
    let (rows, tokens) = (weight.tile::<ROWS>(row, blocks), x.tile::<T>(0, blocks));
    let next = weight.from(row + ROWS, blocks);
    let mut sums = [[_mm256_setzero_si256(); ROWS]; T];
    for part in parts(blocks, BLOCKS_IN_16_BITS) {
        let next = &next[(part.start * ROWS * BLOCK_BYTES).min(next.len())..];
        let short = short_sums::<_MM_HINT_T0, ROWS, T>(rows, tokens, part, next);
        for t in 0..T {
            for r in 0..ROWS {
                sums[t][r] = _mm256_add_epi32(sums[t][r], widened(short[t][r]));
            }
        }
    }
    for t in 0..T {
        write(x, t, sums[t], weight, row, y);
    }
}

/// At most [`GROUP`] rows times `T` tokens, in parts of rows, so that those of the tokens stay in the first cache.
#[target_feature(enable = "avx2,f16c")]
fn group<const T: usize>(
    weight: TernaryRows<'_>,
    x: CodeRows<'_>,
    rows: Range<usize>,
    token: usize,
    y: &mut ColumnsMut<'_>,
) {
    let blocks = x.blocks();
    let tokens = x.tile::<T>(token, blocks);
    let mut next = weight.from(rows.end, blocks);
    let mut sums = [[0; TOKENS]; GROUP];
    for part in parts(blocks, even(blocks, BLOCKS_IN_16_BITS)) {
        for (row, sums) in rows.clone().zip(&mut sums) {
            let short = short_sums::<_MM_HINT_T1, 1, T>(weight.tile(row, blocks), tokens, part.clone(), next);
            next = &next[(part.len() * BLOCK_BYTES).min(next.len())..];
            let mut wide = [_mm256_setzero_si256(); TOKENS];
            for t in 0..T {
                wide[t] = widened(short[t][0]);
            }
            for (sum, more) in sums.iter_mut().zip(eight_sums(wide)) {
                *sum += more;
            }
        }
    }
    let mut stored = [0; GROUP];
    for t in 0..T {
        for (stored, sums) in stored.iter_mut().zip(&sums) {
            *stored = sums[t];
        }
        x.finish(token + t, &stored, &weight, rows.start, &mut y.row_mut(token + t)[rows.clone()]);
    }
}

/// `0..blocks`, `each` at a time.
fn parts(blocks: usize, each: usize) -> impl Iterator<Item = Range<usize>> {
    (0..blocks).step_by(each).map(move |start| start..blocks.min(start + each))
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

/// Sums over stored codes of at most [`BLOCKS_IN_16_BITS`] blocks; asks for as much of `next`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn short_sums<const HINT: i32, const R: usize, const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; R],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: Range<usize>,
    next: &[u8],
) -> [[__m256i; R]; T] {
    let (rows, x) = (of_len(rows, blocks.end), of_len(x, blocks.end));
    let mut sums = [[_mm256_setzero_si256(); R]; T];
    for b in blocks.clone() {
        prefetch::<HINT>(next, R, b - blocks.start);
        for r in 0..R {
            let w = load(&rows[r][b]);
            for k in 0..4 {
                let codes = quarter(w, k);
                for t in 0..T {
                    let products = _mm256_maddubs_epi16(codes, load_codes(&x[t][b].as_chunks().0[k]));
                    sums[t][r] = add_at_once(sums[t][r], products);
                }
            }
        }
    }
    sums
}

/// `sum + products`, before anything is added to `products`: where the compiler adds products of several codes first, it runs out of registers.
#[inline]
#[target_feature(enable = "avx2")]
fn add_at_once(sum: __m256i, products: __m256i) -> __m256i {
    let mut sum = _mm256_add_epi16(sum, products);
    // SAFETY: it does nothing, to a register.
    unsafe { asm!("/* {0} */", inout(ymm_reg) sum, options(pure, nomem, nostack, preserves_flags)) };
    sum
}

/// Sums of pairs in 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
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

/// Adds up each of eight registers.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_sums([a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [i32; 8] {
    let low = sums_of_two(sums_of_four(a, b), sums_of_four(c, d));
    let high = sums_of_two(sums_of_four(e, f), sums_of_four(g, h));
    let total = _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    );
    let mut sums = [0; 8];
    // SAFETY: the array has the size of the store, which needs no alignment.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), total) };
    sums
}

/// In each half, sums of two of `a` and of two of `b`, in turns; faster than `hadd`.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_four(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
}

/// In each half, the sum of both pairs of `a` and then that of `b`.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_two(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}
