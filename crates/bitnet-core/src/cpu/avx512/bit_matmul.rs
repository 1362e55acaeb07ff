//! Ternary product in tiles of eight rows. A register holds a block of one row below a block of the row four further on, so that
//! the activations need no shuffle, only a broadcast load, and the sums of eight rows come out in order.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use crate::cpu::avx2::{self, bit_matmul::prefetch};
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, BLOCK_LEN, CodeRows, TernaryRows, even, of_len, tiles};
use std::arch::x86_64::*;

/// Rows of a tile.
const ROWS: usize = 8;

/// Tokens of a tile: with four row pairs the sums fill 24 of 32 registers.
const TOKENS: usize = 6;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn multiply(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) {
    let (tokens, blocks) = (x.tokens(), x.blocks());
    let each = even(tokens, TOKENS);
    for (row, token) in tiles(y.range().len(), ROWS, tokens, each) {
        match each.min(tokens - token) {
            1 => one_token(weight, x, row, token, blocks, y),
            2 => tile::<2>(weight, x, row, token, blocks, y),
            3 => tile::<3>(weight, x, row, token, blocks, y),
            4 => tile::<4>(weight, x, row, token, blocks, y),
            5 => tile::<5>(weight, x, row, token, blocks, y),
            _ => tile::<TOKENS>(weight, x, row, token, blocks, y),
        }
    }
}

/// Eight rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

/// Eight rows (fewer at the end) times one token, in two halves: with eight streams at once the rows to come and the rows at
/// hand would not both fit in the nearest cache.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn one_token(
    weight: TernaryRows<'_>,
    x: CodeRows<'_>,
    row: usize,
    token: usize,
    blocks: usize,
    y: &mut ColumnsMut<'_>,
) {
    let [codes] = x.tile(token, blocks);
    for (i, y) in y.row_mut(token)[row..].chunks_mut(4).take(2).enumerate() {
        let row = row + 4 * i;
        let sums = four_sums(weight.tile(row, blocks), codes, blocks, weight.ahead(row, 4, blocks));
        x.finish(token, &sums, &weight, row, y);
    }
}

/// Sums over stored codes of four rows. The codes stay where they are in their bytes, four, sixteen and sixty-four times too
/// large, each kind in sums of its own that are shifted at the end: a shift less for every multiplication.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn four_sums(rows: [&[[u8; BLOCK_BYTES]]; 4], x: &[[i8; BLOCK_LEN]], blocks: usize, next: &[u8]) -> [i32; 4] {
    let (rows, x) = (of_len(rows, blocks), &x[..blocks]);
    let masks =
        [_mm512_set1_epi8(0xc0u8 as i8), _mm512_set1_epi8(0x30), _mm512_set1_epi8(0x0c), _mm512_set1_epi8(3)];
    let mut sums = [[_mm512_setzero_si512(); 4]; 2];
    for b in 0..blocks {
        prefetch::<_MM_HINT_T1>(next, 4, b);
        let bytes = [pair(&rows[0][b], &rows[2][b]), pair(&rows[1][b], &rows[3][b])];
        for k in 0..4 {
            let x = both(&x[b].as_chunks().0[k]);
            for p in 0..2 {
                sums[p][k] = _mm512_dpbusd_epi32(sums[p][k], _mm512_and_si512(bytes[p], masks[k]), x);
            }
        }
    }
    let (a, b) = (shifted_sum(sums[0]), shifted_sum(sums[1]));
    let (low_a, low_b) = (_mm512_castsi512_si256(a), _mm512_castsi512_si256(b));
    let (high_a, high_b) = (_mm512_extracti64x4_epi64::<1>(a), _mm512_extracti64x4_epi64::<1>(b));
    avx2::bit_matmul::row_sums([low_a, low_b, high_a, high_b])
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn shifted_sum([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let high = _mm512_add_epi32(_mm512_srai_epi32::<6>(a), _mm512_srai_epi32::<4>(b));
    _mm512_add_epi32(high, _mm512_add_epi32(_mm512_srai_epi32::<2>(c), d))
}

/// Sums over stored codes, in the lower half of register `p` for row `p`, in the upper half for row `p + 4`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn sums<const T: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; ROWS],
    x: [&[[i8; BLOCK_LEN]]; T],
    blocks: usize,
    next: &[u8],
) -> [[__m512i; 4]; T] {
    let (rows, x) = (of_len(rows, blocks), of_len(x, blocks));
    let three = _mm512_set1_epi8(3);
    let mut sums = [[_mm512_setzero_si512(); 4]; T];
    for b in 0..blocks {
        prefetch::<_MM_HINT_T0>(next, ROWS, b);
        let mut codes = [[_mm512_setzero_si512(); 4]; 4];
        for p in 0..4 {
            let bytes = pair(&rows[p][b], &rows[p + 4][b]);
            codes[0][p] = _mm512_and_si512(_mm512_srli_epi16::<6>(bytes), three);
            codes[1][p] = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), three);
            codes[2][p] = _mm512_and_si512(_mm512_srli_epi16::<2>(bytes), three);
            codes[3][p] = _mm512_and_si512(bytes, three);
        }
        for k in 0..4 {
            for t in 0..T {
                let x = both(&x[t][b].as_chunks().0[k]);
                for p in 0..4 {
                    sums[t][p] = _mm512_dpbusd_epi32(sums[t][p], codes[k][p], x);
                }
            }
        }
    }
    sums
}

/// Two blocks in one register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(in crate::cpu) fn pair(low: &[u8; 32], high: &[u8; 32]) -> __m512i {
    // SAFETY: the array has the size of the load, which needs no alignment.
    let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
    // SAFETY: as above.
    let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// The same codes in both halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn both(codes: &[i8; 32]) -> __m512i {
    // SAFETY: the array has the size of the load, which needs no alignment.
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) })
}

/// Adds up each half of four registers: rows 0 to 3 from the lower halves, then 4 to 7.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn row_sums([a, b, c, d]: [__m512i; 4]) -> [i32; ROWS] {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let quarters = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    // Quarters 0 and 2 meet 1 and 3.
    let even = _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0b_00_00_10_00>(quarters, quarters));
    let odd = _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0b_00_00_11_01>(quarters, quarters));
    let mut sums = [0; ROWS];
    // SAFETY: the array has the size of the store, which needs no alignment.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm256_add_epi32(even, odd)) };
    sums
}
