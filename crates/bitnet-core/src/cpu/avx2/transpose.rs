//! A matrix by its columns, in squares of 16 bytes that are turned in registers, two at a time.

use crate::ops::transpose::columns;
use std::arch::x86_64::*;

/// `y[r, c] = x[c * stride + r]` of elements of `size` bytes. `y: [R, cols]`.
#[target_feature(enable = "avx2")]
pub(in crate::cpu) fn transpose(size: usize, x: &[u8], stride: usize, y: &mut [u8], cols: usize) {
    match size {
        1 => squares::<1, 16>(x, stride, y, cols),
        2 => squares::<2, 8>(x, stride, y, cols),
        4 => squares::<4, 4>(x, stride, y, cols),
        8 => squares::<8, 2>(x, stride, y, cols),
        _ => unreachable!("no element has {size} bytes"),
    }
}

/// Where steps of `step` begin that cover `0..len`; the last one may overlap the one before it.
fn starts(len: usize, step: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(step).map(move |start| start.min(len - step))
}

/// `N` columns in parts of 16 bytes.
type Lines<'a, const N: usize> = [&'a [[u8; 16]]; N];

/// Two squares of `N` elements of `SIZE` bytes, side by side in `y`, at a time.
#[target_feature(enable = "avx2")]
fn squares<const SIZE: usize, const N: usize>(x: &[u8], stride: usize, y: &mut [u8], cols: usize) {
    let rows = y.len() / (cols * SIZE);
    if rows < N || cols < 2 * N {
        return columns::<SIZE>(x, stride, y, cols);
    }
    for c in starts(cols, 2 * N) {
        // What is read next: columns to the right, or at the end what usually comes below.
        let next = if c + 2 * N < cols { 2 * N * stride } else { rows.wrapping_sub(c * stride) };
        let x = &x[c * stride * SIZE..];
        strip::<SIZE, N>(x, stride, rows / N, next.wrapping_mul(SIZE), &mut y[c * SIZE..], cols * SIZE);
        if !rows.is_multiple_of(N) {
            let first = rows - N;
            strip::<SIZE, N>(
                &x[first * SIZE..],
                stride,
                1,
                next.wrapping_mul(SIZE),
                &mut y[(first * cols + c) * SIZE..],
                cols * SIZE,
            );
        }
    }
}

/// Turns `2 * N` columns of `count` squares each, into rows `pitch` bytes apart, and asks for what lies `next` bytes further.
#[inline]
#[target_feature(enable = "avx2")]
fn strip<const SIZE: usize, const N: usize>(
    x: &[u8],
    stride: usize,
    count: usize,
    next: usize,
    y: &mut [u8],
    pitch: usize,
) {
    let low = lines::<SIZE, N>(x, stride, count);
    let high = lines::<SIZE, N>(&x[N * stride * SIZE..], stride, count);
    for k in 0..count {
        // By index: closures given to arrays and iterators may stay functions of their own, without the instruction set.
        let mut square = [_mm256_setzero_si256(); N];
        for i in 0..N {
            let (low, high) = (&low[i][k], &high[i][k]);
            if k.is_multiple_of(4) {
                prefetch(low, next);
                prefetch(high, next);
            }
            square[i] = _mm256_set_m128i(load(high), load(low));
        }
        let turned = turn::<SIZE, N>(square);
        let y = &mut y[k * N * pitch..];
        for i in 0..N {
            store(turned[i], &mut y[i * pitch..]);
        }
    }
}

/// The next `N` columns, `count` parts of each.
#[inline]
#[target_feature(enable = "avx2")]
fn lines<const SIZE: usize, const N: usize>(x: &[u8], stride: usize, count: usize) -> Lines<'_, N> {
    let mut lines: Lines<'_, N> = [&[]; N];
    for i in 0..N {
        lines[i] = &x[i * stride * SIZE..].as_chunks().0[..count];
    }
    lines
}

/// Asks for what lies `bytes` further; a distance backwards wraps.
#[inline(always)]
fn prefetch(x: &[u8; 16], bytes: usize) {
    // SAFETY: a prefetch of any address is allowed.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(bytes).cast()) };
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(x: &[u8; 16]) -> __m128i {
    // SAFETY: the array has the size of the load, which needs no alignment.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(part: __m256i, y: &mut [u8]) {
    let bytes = y.first_chunk_mut::<32>().expect("two squares lie inside the result");
    // SAFETY: the array has the size of the store, which needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), part) };
}

/// Turns the squares in the lower and in the upper halves: interleaving a row with the one half the square away, as often as the side can be
/// halved, makes columns of rows.
#[inline]
#[target_feature(enable = "avx2")]
fn turn<const SIZE: usize, const N: usize>(mut x: [__m256i; N]) -> [__m256i; N] {
    for _ in 0..N.ilog2() {
        let old = x;
        for i in 0..N / 2 {
            [x[2 * i], x[2 * i + 1]] = interleave::<SIZE>(old[i], old[N / 2 + i]);
        }
    }
    x
}

#[inline]
#[target_feature(enable = "avx2")]
fn interleave<const SIZE: usize>(a: __m256i, b: __m256i) -> [__m256i; 2] {
    match SIZE {
        1 => [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)],
        2 => [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)],
        4 => [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)],
        _ => [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)],
    }
}
