//! Products of Q6_K rows with tokens in codes: the rows are read as they are stored, and what they hold is multiplied in integers, which takes
//! half of the time of floats.

use crate::{
    PackedTensor, Result,
    lanes::Lanes,
    math::{self, LANES},
    ops::{RowFigures, embedding},
};

/// Weights of a block.
pub const BLOCK: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 210;
/// The largest code of a token, below 2^13: products of a block fit into 32 bits in each of sixteen lanes.
pub(super) const TOKEN_MAX: f32 = 8191.0;
/// Bytes from what is multiplied to what is asked for meanwhile.
const AHEAD: usize = 7168;

/// As many codes of a token as a block of a row has weights, apart in what bytes hold: a code is `128 * high + low`.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct SplitCodes {
    /// -64 to 63.
    pub high: [i8; BLOCK],
    /// 0 to 127.
    pub low: [i8; BLOCK],
    /// -32 times the sums of four codes each: stored weights are 32 too large.
    pub offsets: [i32; BLOCK / 4],
}

impl SplitCodes {
    /// The codes of a token, whole blocks, below 2^13.
    pub fn split(codes: &[i16]) -> Vec<Self> {
        let blocks = codes.as_chunks::<BLOCK>().0.iter();
        let fours =
            |codes: &[i16; BLOCK], i: usize| codes[4 * i..][..4].iter().map(|&x| i32::from(x)).sum::<i32>();
        blocks
            .map(|codes| Self {
                high: codes.map(|x| (x >> 7) as i8),
                low: codes.map(|x| (x & 127) as i8),
                offsets: std::array::from_fn(|i| -32 * fours(codes, i)),
            })
            .collect()
    }
}

/// What [`Lanes::dot_q6_k`] computes of a token: lane `i` sums the products of weights `4 i` to `4 i + 3` of every 64, and the block's scale
/// comes last.
#[inline(always)]
pub(crate) fn dot_block<L: Lanes>(block: &[u8; BYTES], token: &SplitCodes) -> L {
    let mut lanes = [0i32; LANES];
    for (k, quarter) in block[..128].as_chunks::<32>().0.iter().enumerate() {
        let high = &block[128 + k / 2 * 32..][..32];
        // Each byte holds four bits of two weights that lie 64 apart.
        for (upper, low_shift) in [(0, 0), (1, 4)] {
            let (half, place) = (k / 2, k % 2 + 2 * upper);
            let first = half * 128 + place * 32;
            let scales = &block[192 + first / 16..][..2];
            for i in 0..8 {
                let scale = i32::from(scales[i / 4] as i8);
                let mut sum = 0;
                for j in 4 * i..4 * i + 4 {
                    let weight =
                        i32::from(quarter[j] >> low_shift & 15 | (high[j] >> (2 * place) & 3) << 4) - 32;
                    sum +=
                        weight * (128 * i32::from(token.high[first + j]) + i32::from(token.low[first + j]));
                }
                lanes[place % 2 * 8 + i] += scale * sum;
            }
        }
    }
    let scale = L::f16(u16::from_le_bytes([block[208], block[209]]));
    L::splat(scale).mul(L::load(&lanes.map(|lane| lane as f32)))
}

/// Products of some rows of `width` blocks with some tokens, by the scale of whose codes they are still to be multiplied.
/// `rows: [R, width]`, `x: [T, width]`, `sums: [R, T]`.
#[inline(always)]
pub(crate) fn dots<L: Lanes>(rows: &[u8], x: &[SplitCodes], width: usize, sums: &mut [f32]) {
    let (rows, tokens) = (rows.as_chunks::<BYTES>().0, x.len() / width.max(1));
    for (row, sums) in rows.chunks(width.max(1)).zip(sums.chunks_mut(tokens.max(1))) {
        let (pairs, rest) = sums.as_chunks_mut::<2>();
        for (x, sums) in x.chunks(2 * width).zip(pairs) {
            let (first, second) = x.split_at(width);
            *sums = dot::<L, 2>(row, [first, second]);
        }
        for (x, sum) in x[(tokens - rest.len()) * width..].chunks(width).zip(rest) {
            [*sum] = dot::<L, 1>(row, [x]);
        }
    }
}

/// A row with `T` tokens.
#[inline(always)]
fn dot<L: Lanes, const T: usize>(row: &[[u8; BYTES]], x: [&[SplitCodes]; T]) -> [f32; T] {
    let mut sums = [L::splat(0.0); T];
    for (i, block) in row.iter().enumerate() {
        for line in (0..BYTES).step_by(64) {
            L::prefetch(block.as_ptr().wrapping_add(AHEAD + line));
        }
        let dots = L::dot_q6_k(block, x.map(|x| &x[i]));
        for (sum, dot) in sums.iter_mut().zip(dots) {
            *sum = sum.add(dot);
        }
    }
    sums.map(|sum| math::tree_sum(&sum.to_array()))
}

/// Rows that are held as floats at once.
const ROWS_AS_FLOATS: usize = 1024;

/// What is known of rows that are multiplied as they are stored.
pub(super) fn figures(rows: &PackedTensor, first: usize, len: usize) -> Result<Vec<RowFigures>> {
    // Whatever the order of its additions. What both sums round is within three times this, and squares of numbers below 1e-22 vanish.
    let gamma = rows.cols() as f32 * f32::EPSILON;
    let least = (rows.cols() as f32).sqrt() * 1e-22;
    let of = |&length: &f32| {
        let length = length * (1.0 + gamma) + least;
        RowFigures { scale: 1.0, lost: 3.0 * gamma * length, length: length * (1.0 + gamma) }
    };
    let mut figures = Vec::with_capacity(len);
    let ids: Vec<u32> = (first..first + len).map(|row| row as u32).collect();
    for ids in ids.chunks(ROWS_AS_FLOATS) {
        let lengths = embedding(rows, ids)?.norm(2.0, 1, false)?;
        figures.extend(lengths.as_slice::<f32>()?.iter().map(of));
    }
    Ok(figures)
}
