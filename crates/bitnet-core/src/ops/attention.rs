//! Causal attention of one token over a paged cache, by online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867).
//!
//! What is cached is cut into chunks of [`CHUNK`] positions, so that threads can share the past of a single token, and a chunk into blocks,
//! which are visited in ascending order. Both always hold the same positions, so the result depends on the position of the token alone, not on
//! how its prompt was cut. For a block, with scores `s = (q · k) / sqrt(D)` of its valid slots:
//!
//! ```text
//! m' = max(m, max(s))    p = exp(s - m')    l' = l * exp(m - m') + Σ p    y' = y * exp(m - m') + Σ p * v
//! ```
//!
//! and at the end, over the chunks in ascending order, `Σ y * exp(m - max(m)) / Σ l * exp(m - max(m))`. Scores and outputs are summed element by
//! element in ascending order, in Q8_0 as integers, `Σ p` in lanes.

mod q8_0;
mod storage;

pub(crate) use q8_0::Q8_0;

use super::cache::{BLOCK_LEN, KvShape};
use super::{cache::KvLayer, expect_device, expect_shape};
use crate::lanes::Lanes;
use crate::math::{self, LANES};
use crate::{DType, Error, Result, Tensor, backend::Paged};
use std::ops::Range;
use storage::{Block, Pairs, Slots, Storage};

/// Positions whose softmax is taken together: whole blocks.
pub const CHUNK: usize = 8 * BLOCK_LEN;

/// New tokens of one sequence and the blocks that hold its keys and values.
#[derive(Clone, Copy, Debug)]
pub struct PagedSpan<'a> {
    /// Number of new tokens.
    pub len: usize,
    /// Position of the first of them.
    pub start: usize,
    /// Cache blocks of positions 0, 32, 64 ...
    pub blocks: &'a [u32],
}

/// Writes keys and values `[T, K, D]` of the new tokens to their slots.
///
/// # Errors
/// Where shapes or devices differ, a block is missing or outside the cache, or the device fails.
pub fn kv_store(k: &Tensor, v: &Tensor, spans: &[PagedSpan<'_>], cache: &mut KvLayer) -> Result<()> {
    let shape = cache.shape();
    let tokens = check_spans("kv_store", spans, cache)?;
    expect_shape("kv_store", k, [tokens, shape.heads, shape.head_dim])?;
    expect_shape("kv_store", v, [tokens, shape.heads, shape.head_dim])?;
    let device = k.device().clone();
    [v.device(), cache.device()]
        .into_iter()
        .try_for_each(|other| expect_device("kv_store", &device, other))?;
    device.backend().kv_store(k.view(), v.view(), Paged { spans, shape }, cache.view_mut()?)
}

/// Causal attention of `q: [T, H, D]` over the cached keys and values -> `[T, H, D]`. Scores are scaled by `1/sqrt(D)`;
/// query head `h` reads kv head `h / (H / K)`.
///
/// # Errors
/// Where shapes or devices differ, a block is missing or outside the cache, or the device fails.
pub fn attention(q: &Tensor, spans: &[PagedSpan<'_>], cache: &KvLayer) -> Result<Tensor> {
    let shape = cache.shape();
    let tokens = check_spans("attention", spans, cache)?;
    let heads = q.shape().dims().get(1).copied().unwrap_or(0).next_multiple_of(shape.heads);
    expect_shape("attention", q, [tokens, heads, shape.head_dim])?;
    expect_device("attention", q.device(), cache.device())?;
    let mut y = Tensor::empty(q.device(), q.shape(), DType::F32)?;
    q.device().backend().attention(
        q.view(),
        Paged { spans, shape },
        cache.view(),
        y.view_mut("attention")?,
    )?;
    Ok(y)
}

/// Number of new tokens, once every position they see has a block of the cache.
fn check_spans(op: &'static str, spans: &[PagedSpan<'_>], cache: &KvLayer) -> Result<usize> {
    let mut tokens = 0;
    for span in spans {
        let needed = (span.start + span.len).div_ceil(BLOCK_LEN);
        if span.blocks.len() < needed {
            return Err(Error::Range {
                op,
                start: span.blocks.len(),
                len: needed,
                extent: span.blocks.len(),
            });
        }
        if let Some(&block) = span.blocks[..needed].iter().find(|&&b| b as usize >= cache.blocks()) {
            return Err(Error::Range { op, start: block as usize, len: 1, extent: cache.blocks() });
        }
        tokens += span.len;
    }
    Ok(tokens)
}

/// The cached keys and values of one kv head that a token sees, or a chunk of them.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// All bytes of the cache.
    pub cache: &'a [u8],
    /// What they mean.
    pub shape: KvShape,
    /// Cache blocks of positions 0, 32, 64 ..., all of which exist.
    pub blocks: &'a [u32],
    /// The kv head.
    pub head: usize,
    /// The first position, a multiple of [`BLOCK_LEN`].
    pub start: usize,
    /// The position behind the last one; that of the token is the last of all.
    pub end: usize,
}

impl<'a> Past<'a> {
    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        (self.end - self.start).div_ceil(CHUNK)
    }

    /// The `index`-th chunk.
    pub fn chunk(self, index: usize) -> Self {
        let start = self.start + index * CHUNK;
        Self { start, end: self.end.min(start + CHUNK), ..self }
    }

    fn run(&self, index: usize) -> (&'a [u8], &'a [u8]) {
        let run = &self.cache[self.shape.offset(self.blocks[index] as usize, self.head)..];
        run[..self.shape.head_bytes()].split_at(self.shape.half_bytes())
    }

    /// Indices of the blocks.
    fn blocks(&self) -> Range<usize> {
        self.start / BLOCK_LEN..self.end.div_ceil(BLOCK_LEN)
    }

    /// The `index`-th block.
    #[inline(always)]
    fn block(&self, index: usize) -> Block<'a> {
        let (keys, values) = self.run(index);
        let next = self.run((index + 1).min(self.blocks.len() - 1));
        Block { keys, values, len: (self.end - index * BLOCK_LEN).min(BLOCK_LEN), next }
    }
}

/// Numbers that attention writes for a chunk with query heads of `width` elements together: `[G, D]` sums of weighted values, `[G]` maxima of
/// scores, `[G]` sums of weights.
pub fn part_len(width: usize, head_dim: usize) -> usize {
    width + 2 * (width / head_dim)
}

/// Attention over all of a past, chunk by chunk. `q, y: [G, D]`.
pub fn attend_all(
    kernel: impl Fn(&[f32], &Past<'_>, &mut [f32]),
    q: &[f32],
    past: Past<'_>,
    parts: &mut Vec<f32>,
    y: &mut [f32],
) {
    let len = part_len(q.len(), past.shape.head_dim);
    parts.resize(len * past.chunk_count(), 0.0);
    for (chunk, part) in parts.chunks_exact_mut(len).enumerate() {
        kernel(q, &past.chunk(chunk), part);
    }
    join(parts, past.shape.head_dim, y);
}

/// Joins the parts of all chunks of a past, in ascending order. `y: [G, D]`.
pub fn join(parts: &[f32], head_dim: usize, y: &mut [f32]) {
    let (width, heads) = (y.len(), y.len() / head_dim);
    for (n, y) in y.chunks_exact_mut(head_dim).enumerate() {
        let parts = parts.chunks_exact(part_len(width, head_dim));
        let max = parts.clone().fold(f32::NEG_INFINITY, |max, part| math::max(max, part[width + n]));
        let mut sum = 0.0;
        for (chunk, part) in parts.enumerate() {
            let weight = math::exp(part[width + n] - max);
            sum += part[width + heads + n] * weight;
            for (y, x) in y.iter_mut().zip(&part[n * head_dim..]) {
                // The first one sets what the output held before.
                *y = if chunk == 0 { x * weight } else { *y + x * weight };
            }
        }
        y.iter_mut().for_each(|y| *y /= sum);
    }
}

/// The weights of the slots of a block, of `N` heads.
pub(crate) struct Weights<const N: usize> {
    p: [Slots; N],
    /// The largest of each head.
    largest: [f32; N],
    /// By which earlier sums decay.
    decay: [f32; N],
}

/// Maxima of scores and sums of weights so far, of `N` heads, at most half as many as there are lanes.
struct Softmax<const N: usize> {
    max: [f32; N],
    sum: [f32; N],
}

impl<const N: usize> Softmax<N> {
    const EMPTY: Self = Self { max: [f32::NEG_INFINITY; N], sum: [0.0; N] };

    /// Turns the scores of the first `len` slots into weights, those of the others into zeros.
    #[inline(always)]
    fn take<L: Lanes>(&mut self, scores: Pairs<L, N>, len: usize, scale: f32) -> Weights<N> {
        let (mut p, mut sums, mut exponents) = ([[0.0; BLOCK_LEN]; N], [0.0; N], [0.0; LANES]);
        for n in 0..N {
            let scale = L::splat(scale);
            let [mut low, mut high] = [scores[n][0].mul(scale), scores[n][1].mul(scale)];
            if len < BLOCK_LEN {
                (low, high) = (first_lanes(low, len), first_lanes(high, len.saturating_sub(LANES)));
            }
            let largest = low.max(high).largest();
            let max = math::max(self.max[n], largest);
            let less = L::splat(-max);
            (low, high) = (low.add(less).exp(), high.add(less).exp());
            p[n][..LANES].copy_from_slice(&low.to_array());
            p[n][LANES..].copy_from_slice(&high.to_array());
            sums[n] = low.add(high).sum();
            exponents[n] = self.max[n] - max;
            exponents[LANES / 2 + n] = largest - max;
            self.max[n] = max;
        }
        let factors = L::load(&exponents).exp().to_array();
        for n in 0..N {
            self.sum[n] = self.sum[n] * factors[n] + sums[n];
        }
        let first = |factors: &[f32]| *factors.first_chunk().expect("at most eight heads");
        Weights { p, decay: first(&factors), largest: first(&factors[LANES / 2..]) }
    }
}

/// The first `len` lanes, and minus infinity.
#[inline(always)]
fn first_lanes<L: Lanes>(lanes: L, len: usize) -> L {
    let mut lanes = lanes.to_array();
    lanes[len.min(LANES)..].fill(f32::NEG_INFINITY);
    L::load(&lanes)
}

/// Attends to a chunk with the query heads that share a kv head, `N` at a time. `q: [G, D]`, `part` as [`part_len`] says.
#[inline(always)]
pub(crate) fn attend<L: Lanes, S: Storage, const N: usize>(q: &[f32], past: &Past<'_>, part: &mut [f32]) {
    if S::CONVERTS && L::computes_in_halves() {
        attend_with::<L::Narrow, S, N>(q, past, part);
    } else {
        attend_with::<L, S, N>(q, past, part);
    }
}

#[inline(always)]
fn attend_with<L: Lanes, S: Storage, const N: usize>(q: &[f32], past: &Past<'_>, part: &mut [f32]) {
    let d = past.shape.head_dim;
    let (y, totals) = part.split_at_mut(q.len());
    let (max, sum) = totals.split_at_mut(q.len() / d);
    let mut n = 0;
    while (n + N) * d <= q.len() {
        heads::<L, S, N>(&q[n * d..][..N * d], past, &mut y[n * d..][..N * d], &mut max[n..], &mut sum[n..]);
        n += N;
    }
    while n * d < q.len() {
        heads::<L, S, 1>(&q[n * d..][..d], past, &mut y[n * d..][..d], &mut max[n..], &mut sum[n..]);
        n += 1;
    }
}

#[inline(always)]
fn heads<L: Lanes, S: Storage, const N: usize>(
    q: &[f32],
    past: &Past<'_>,
    y: &mut [f32],
    max: &mut [f32],
    sum: &mut [f32],
) {
    let d = past.shape.head_dim;
    let scale = 1.0 / (d as f32).sqrt();
    let q = S::queries::<N>(q, d);
    let mut softmax = Softmax::<N>::EMPTY;
    y.fill(0.0);
    for index in past.blocks() {
        let block = past.block(index);
        let scores = S::scores::<L, N>(&block, &q);
        let weights = softmax.take(scores, block.len, scale);
        S::mix::<L, N>(&block, &weights, y);
    }
    max[..N].copy_from_slice(&softmax.max);
    sum[..N].copy_from_slice(&softmax.sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{F16, F32};
    use crate::ops::cache::{self, CacheType};

    /// A cache of one head in blocks from the last to the first, its keys and values, and stale NaN behind them.
    fn cached(storage: CacheType, d: usize, len: usize) -> (Vec<u8>, KvShape, Vec<f32>, Vec<f32>) {
        let shape = KvShape { heads: 1, head_dim: d, storage };
        let blocks = len.div_ceil(BLOCK_LEN);
        let mut bytes = vec![0xff; blocks * shape.block_bytes()];
        let k: Vec<f32> = (0..len * d).map(|i| (i as f32 * 0.37).sin()).collect();
        let v: Vec<f32> = (0..len * d).map(|i| (i as f32 * 0.11).cos()).collect();
        for (j, (k, v)) in k.chunks(d).zip(v.chunks(d)).enumerate() {
            let run = &mut bytes[shape.offset(blocks - 1 - j / BLOCK_LEN, 0)..][..shape.head_bytes()];
            match storage {
                CacheType::F32 => cache::store_f32(k, v, j % BLOCK_LEN, run),
                CacheType::F16 => cache::store_f16(k, v, j % BLOCK_LEN, run),
                CacheType::Q8_0 => cache::store_q8_0(k, v, j % BLOCK_LEN, run),
            }
        }
        (bytes, shape, k, v)
    }

    fn exact(q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let d = q.len();
        let dot = |k: &[f32]| k.iter().zip(q).map(|(k, q)| f64::from(k * q)).sum::<f64>() / (d as f64).sqrt();
        let p: Vec<f64> = k.chunks(d).map(|k| libm::exp(dot(k))).collect();
        let mix = |i| p.iter().zip(v.chunks(d)).map(|(p, v)| p * f64::from(v[i])).sum::<f64>();
        (0..d).map(|i| (mix(i) / p.iter().sum::<f64>()) as f32).collect()
    }

    /// `x: [.., D]` as groups of 32 codes with a scale hold it.
    fn rounded(x: &[f32], d: usize) -> Vec<f32> {
        let group = |x: &[f32]| {
            let scale = x.iter().fold(0f32, |max, x| max.max(x.abs())) / 127.0;
            x.iter().map(|x| (x / scale).round_ties_even() * scale).collect::<Vec<_>>()
        };
        x.chunks(d).flat_map(|row| row.chunks(32).flat_map(group)).collect()
    }

    fn check<S: Storage>(storage: CacheType, tolerance: f32) {
        for (d, len) in
            [(20, 1), (64, 32), (48, 33), (8, 64), (7, 64), (128, 50), (64, 256), (20, 257), (8, 600)]
        {
            let (cache, shape, mut k, mut v) = cached(storage, d, len);
            if storage == CacheType::Q8_0 {
                (k, v) = (rounded(&k, d), rounded(&v, d));
            }
            let q: Vec<f32> = (0..2 * d).map(|i| (i as f32 * 0.9).sin()).collect();
            let blocks: Vec<u32> = (0..len.div_ceil(BLOCK_LEN) as u32).rev().collect();
            let past = Past { cache: &cache, shape, blocks: &blocks, head: 0, start: 0, end: len };
            let mut y = vec![9.0; 2 * d];
            attend_all(attend::<[f32; LANES], S, 1>, &q, past, &mut vec![], &mut y);
            for (q, y) in q.chunks(d).zip(y.chunks(d)) {
                for (y, exact) in y.iter().zip(exact(q, &k, &v)) {
                    assert!((y - exact).abs() <= tolerance, "D = {d}, {len} positions: {y} and not {exact}");
                }
            }
        }
    }

    #[test]
    fn f32_agrees_with_the_formula() {
        check::<F32>(CacheType::F32, 2e-6);
    }

    #[test]
    fn f16_agrees_with_the_formula() {
        check::<F16>(CacheType::F16, 1e-3);
    }

    #[test]
    fn q8_0_agrees_with_the_formula_of_what_is_stored() {
        check::<Q8_0>(CacheType::Q8_0, 1e-4);
    }

    #[test]
    fn what_is_not_a_number_in_a_value_of_q8_0_is_none_in_its_group() {
        let shape = KvShape { heads: 1, head_dim: 64, storage: CacheType::Q8_0 };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut run = vec![0xff; shape.head_bytes()];
            for slot in 0..3 {
                let mut v = [1.0; 64];
                if slot == 1 {
                    v[40] = bad;
                }
                cache::store_q8_0(&[0.5; 64], &v, slot, &mut run);
            }
            let past = Past { cache: &run, shape, blocks: &[0], head: 0, start: 0, end: 3 };
            let mut y = [0.0; 64];
            attend_all(attend::<[f32; LANES], Q8_0, 1>, &[0.1; 64], past, &mut vec![], &mut y);
            assert!(
                y[..32].iter().all(|y| (y - 1.0).abs() < 1e-4) && y[32..].iter().all(|y| y.is_nan()),
                "{y:?}"
            );
        }
    }
}
