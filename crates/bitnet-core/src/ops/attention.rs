//! Causal attention of one token over a paged cache, by online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867).
//!
//! Blocks of keys are visited in ascending order and always hold the same positions, so the result depends on the position of
//! the token alone, not on how its prompt was cut. For a block, with scores `s = (q · k) / sqrt(D)` of its valid slots:
//!
//! ```text
//! m' = max(m, max(s))    p = exp(s - m')    l' = l * exp(m - m') + Σ p    y' = y * exp(m - m') + Σ p * v
//! ```
//!
//! and at the end `y / l`. Scores and outputs are summed element by element in ascending order, `Σ p` in lanes.

use super::cache::{BLOCK_LEN, GROUP_LEN, KvShape};
use super::{cache::KvLayer, expect_shape};
use crate::lanes::{F16, F32, Lanes, Number};
use crate::math::{self, LANES};
use crate::{DType, Error, Result, Tensor, backend::Paged};

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
/// Where shapes differ, a block is missing or outside the cache, or the device fails.
pub fn kv_store(k: &Tensor, v: &Tensor, spans: &[PagedSpan<'_>], cache: &mut KvLayer) -> Result<()> {
    let shape = cache.shape();
    let tokens = check_spans("kv_store", spans, cache)?;
    expect_shape("kv_store", k, [tokens, shape.heads, shape.head_dim])?;
    expect_shape("kv_store", v, [tokens, shape.heads, shape.head_dim])?;
    let device = k.device().clone();
    device.backend().kv_store(k.view(), v.view(), Paged { spans, shape }, cache.view_mut()?)
}

/// Causal attention of `q: [T, H, D]` over the cached keys and values -> `[T, H, D]`. Scores are scaled by `1/sqrt(D)`;
/// query head `h` reads kv head `h / (H / K)`.
///
/// # Errors
/// Where shapes differ, a block is missing or outside the cache, or the device fails.
pub fn attention(q: &Tensor, spans: &[PagedSpan<'_>], cache: &KvLayer) -> Result<Tensor> {
    let shape = cache.shape();
    let tokens = check_spans("attention", spans, cache)?;
    let heads = q.shape().dims().get(1).copied().unwrap_or(0).next_multiple_of(shape.heads);
    expect_shape("attention", q, [tokens, heads, shape.head_dim])?;
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

/// The cached keys and values of one kv head that a token sees.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// All bytes of the cache.
    pub cache: &'a [u8],
    /// What they mean.
    pub shape: KvShape,
    /// Cache blocks of positions 0, 32, 64 ...
    pub blocks: &'a [u32],
    /// The kv head.
    pub head: usize,
    /// Number of positions, that of the token included.
    pub len: usize,
}

/// Keys and values of up to 32 positions.
pub(crate) struct Block<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    len: usize,
    /// The keys that will be read next.
    next: &'a [u8],
}

impl<'a> Past<'a> {
    fn run(&self, index: usize) -> (&'a [u8], &'a [u8]) {
        let run = &self.cache[self.shape.offset(self.blocks[index] as usize, self.head)..];
        run[..self.shape.head_bytes()].split_at(self.shape.half_bytes())
    }

    fn blocks(self) -> impl Iterator<Item = Block<'a>> {
        let count = self.len.div_ceil(BLOCK_LEN);
        (0..count).map(move |index| {
            let (keys, values) = self.run(index);
            let (next, _) = self.run((index + 1).min(count - 1));
            Block { keys, values, len: (self.len - index * BLOCK_LEN).min(BLOCK_LEN), next }
        })
    }
}

/// One number for every slot of a block.
type Slots = [f32; BLOCK_LEN];

/// What a storage type must do: both products of a block with `N` heads.
pub(crate) trait Storage {
    /// `q · k` of every slot. `q: N × [D]`.
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> [Slots; N];

    /// `y = y * decay + Σ p[j] * v[j]` over the first `len` slots. `y: [N, D]`.
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, p: &[Slots; N], decay: [f32; N], y: &mut [f32]);
}

/// Maximum and sum of the exponentials so far.
#[derive(Clone, Copy)]
struct Softmax {
    max: f32,
    sum: f32,
}

impl Softmax {
    const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };

    /// Turns scores into weights and returns the factor by which earlier weights decay.
    #[inline(always)]
    fn take(&mut self, scores: &mut Slots, len: usize, scale: f32) -> f32 {
        for (j, s) in scores.iter_mut().enumerate() {
            *s = if j < len { *s * scale } else { f32::NEG_INFINITY };
        }
        let max = math::max(self.max, slots_max(scores));
        for s in scores.iter_mut() {
            *s = math::exp(*s - max);
        }
        let decay = math::exp(self.max - max);
        self.sum = self.sum * decay + math::sum16(scores);
        self.max = max;
        decay
    }
}

#[inline(always)]
fn slots_max(scores: &Slots) -> f32 {
    let mut max = *scores;
    for width in [16, 8, 4, 2, 1] {
        for i in 0..width {
            max[i] = math::max(max[i], max[i + width]);
        }
    }
    max[0]
}

/// Attends with the query heads that share a kv head, `N` at a time. `q, y: [G, D]`.
#[inline(always)]
pub(crate) fn attend<L: Lanes, S: Storage, const N: usize>(q: &[f32], past: &Past<'_>, y: &mut [f32]) {
    let d = past.shape.head_dim;
    let together = q.len() / d / N * N * d;
    let (q, rest_q) = q.split_at(together);
    let (y, rest_y) = y.split_at_mut(together);
    for (q, y) in q.chunks_exact(N * d).zip(y.chunks_exact_mut(N * d)) {
        heads::<L, S, N>(q, past, y);
    }
    for (q, y) in rest_q.chunks_exact(d).zip(rest_y.chunks_exact_mut(d)) {
        heads::<L, S, 1>(q, past, y);
    }
}

#[inline(always)]
fn heads<L: Lanes, S: Storage, const N: usize>(q: &[f32], past: &Past<'_>, y: &mut [f32]) {
    let d = past.shape.head_dim;
    let scale = 1.0 / (d as f32).sqrt();
    let q = rows(q, d);
    let mut state = [Softmax::EMPTY; N];
    let mut decay = [0.0; N];
    y.fill(0.0);
    for block in past.blocks() {
        let mut weights = S::scores::<L, N>(&block, q);
        for n in 0..N {
            decay[n] = state[n].take(&mut weights[n], block.len, scale);
        }
        S::mix::<L, N>(&block, &weights, decay, y);
    }
    for (y, state) in y.chunks_exact_mut(d).zip(state) {
        y.iter_mut().for_each(|y| *y /= state.sum);
    }
}

impl Storage for F32 {
    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> [Slots; N] {
        number_scores::<L, F32, 64, N>(block, q)
    }

    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, p: &[Slots; N], decay: [f32; N], y: &mut [f32]) {
        number_mix::<L, F32, 64, N>(block, p, decay, y);
    }
}

impl Storage for F16 {
    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> [Slots; N] {
        number_scores::<L, F16, 32, N>(block, q)
    }

    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, p: &[Slots; N], decay: [f32; N], y: &mut [f32]) {
        number_mix::<L, F16, 32, N>(block, p, decay, y);
    }
}

/// `N` rows of `d` elements.
#[inline(always)]
fn rows<const N: usize>(x: &[f32], d: usize) -> [&[f32]; N] {
    let mut rows: [&[f32]; N] = [&[]; N];
    for (row, x) in rows.iter_mut().zip(x.chunks_exact(d)) {
        *row = x;
    }
    rows
}

/// Asks for `len` bytes from `offset` on.
#[inline(always)]
fn prefetch<L: Lanes>(bytes: &[u8], offset: usize, len: usize) {
    for line in (0..len).step_by(64) {
        L::prefetch(bytes.as_ptr().wrapping_add(offset + line));
    }
}

/// Two vectors of lanes for each head: all slots.
type Pairs<L, const N: usize> = [[L; 2]; N];

#[inline(always)]
fn slots<L: Lanes, const N: usize>(pairs: Pairs<L, N>) -> [Slots; N] {
    let mut slots = [[0.0; BLOCK_LEN]; N];
    for n in 0..N {
        let (low, high) = slots[n].split_at_mut(LANES);
        low.copy_from_slice(&pairs[n][0].to_array());
        high.copy_from_slice(&pairs[n][1].to_array());
    }
    slots
}

/// `sums += q[d] * key`.
#[inline(always)]
fn add_key<L: Lanes, const N: usize>(sums: &mut Pairs<L, N>, q: &[&[f32]; N], d: usize, key: [L; 2]) {
    for n in 0..N {
        let q = L::splat(q[n][d]);
        sums[n][0] = sums[n][0].add_product(q, key[0]);
        sums[n][1] = sums[n][1].add_product(q, key[1]);
    }
}

#[inline(always)]
fn number_scores<L: Lanes, S: Number<BYTES>, const BYTES: usize, const N: usize>(
    block: &Block<'_>,
    q: [&[f32]; N],
) -> [Slots; N] {
    let mut sums = [[L::splat(0.0); 2]; N];
    for (d, key) in block.keys.as_chunks::<BYTES>().0.as_chunks::<2>().0.iter().enumerate() {
        prefetch::<L>(block.values, d * 2 * BYTES, 2 * BYTES);
        add_key(&mut sums, &q, d, [S::load(&key[0]), S::load(&key[1])]);
    }
    slots(sums)
}

#[inline(always)]
fn number_mix<L: Lanes, S: Number<BYTES>, const BYTES: usize, const N: usize>(
    block: &Block<'_>,
    p: &[Slots; N],
    decay: [f32; N],
    y: &mut [f32],
) {
    let d = y.len() / N;
    let row_bytes = d * (BYTES / LANES);
    let mut start = 0;
    while start + 4 * LANES <= d {
        number_mix_lanes::<L, S, BYTES, N, 4>(block, p, decay, y, start);
        start += 4 * LANES;
    }
    while start + LANES <= d {
        number_mix_lanes::<L, S, BYTES, N, 1>(block, p, decay, y, start);
        start += LANES;
    }
    for (n, y) in y.chunks_exact_mut(d).enumerate() {
        for (i, y) in y.iter_mut().enumerate().skip(start) {
            *y *= decay[n];
            for (row, p) in block.values.chunks_exact(row_bytes).zip(&p[n][..block.len]) {
                *y += p * S::value(&row[i * (BYTES / LANES)..]);
            }
        }
    }
}

/// The part of `mix` for `W` vectors of each head from element `start` on.
#[inline(always)]
fn number_mix_lanes<L: Lanes, S: Number<BYTES>, const BYTES: usize, const N: usize, const W: usize>(
    block: &Block<'_>,
    p: &[Slots; N],
    decay: [f32; N],
    y: &mut [f32],
    start: usize,
) {
    let size = BYTES / LANES;
    let row_bytes = y.len() / N * size;
    let mut sums = load_decayed::<L, N, W>(y, decay, start);
    for (j, row) in block.values.chunks_exact(row_bytes).take(block.len.min(BLOCK_LEN)).enumerate() {
        prefetch::<L>(block.next, start * size * BLOCK_LEN + j * W * BYTES, W * BYTES);
        let row: &[[u8; BYTES]; W] =
            row[start * size..].as_chunks().0.first_chunk().expect("W vectors of a row");
        let mut v = [L::splat(0.0); W];
        for w in 0..W {
            v[w] = S::load(&row[w]);
        }
        for n in 0..N {
            add_value(&mut sums[n], p[n][j], v);
        }
    }
    store(&sums, y, start);
}

/// `sums += p * v`.
#[inline(always)]
fn add_value<L: Lanes, const W: usize>(sums: &mut [L; W], p: f32, v: [L; W]) {
    let p = L::splat(p);
    for w in 0..W {
        sums[w] = sums[w].add_product(p, v[w]);
    }
}

#[inline(always)]
fn load_decayed<L: Lanes, const N: usize, const W: usize>(
    y: &[f32],
    decay: [f32; N],
    start: usize,
) -> [[L; W]; N] {
    let d = y.len() / N;
    let mut sums = [[L::splat(0.0); W]; N];
    for n in 0..N {
        let decay = L::splat(decay[n]);
        for (sum, y) in sums[n].iter_mut().zip(y[n * d + start..].as_chunks::<LANES>().0) {
            *sum = L::load(y).mul(decay);
        }
    }
    sums
}

#[inline(always)]
fn store<L: Lanes, const N: usize, const W: usize>(sums: &[[L; W]; N], y: &mut [f32], start: usize) {
    let d = y.len() / N;
    for (n, sums) in sums.iter().enumerate() {
        for (y, sum) in y[n * d + start..].as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            *y = sum.to_array();
        }
    }
}

/// Codes with a scale for each group of elements and position, see [`KvShape`].
pub(crate) struct Q8_0;

impl Storage for Q8_0 {
    /// `Σ scale[g] * (Σ q[d] * code[d])` over the groups.
    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> [Slots; N] {
        let (codes, scales) = block.keys.split_at(q[0].len() * BLOCK_LEN);
        let scales = scales.as_chunks::<64>().0.as_chunks::<2>().0;
        let mut sums = [[L::splat(0.0); 2]; N];
        for (g, (codes, scales)) in codes.chunks(GROUP_LEN * BLOCK_LEN).zip(scales).enumerate() {
            prefetch::<L>(block.values, g * GROUP_LEN * BLOCK_LEN, GROUP_LEN * BLOCK_LEN);
            let part = code_sums::<L, N>(codes, &q, g * GROUP_LEN);
            let scales = [L::load_f32(&scales[0]), L::load_f32(&scales[1])];
            for n in 0..N {
                sums[n][0] = sums[n][0].add_product(scales[0], part[n][0]);
                sums[n][1] = sums[n][1].add_product(scales[1], part[n][1]);
            }
        }
        slots(sums)
    }

    /// The weight of a position is multiplied by the scale of a group first.
    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, p: &[Slots; N], decay: [f32; N], y: &mut [f32]) {
        let d = y.len() / N;
        let mut start = 0;
        while start + GROUP_LEN <= d {
            code_mix_lanes::<L, N, 2>(block, p, decay, y, start);
            start += GROUP_LEN;
        }
        while start + LANES <= d {
            code_mix_lanes::<L, N, 1>(block, p, decay, y, start);
            start += LANES;
        }
        let values = Codes::new(block.values, d);
        for (n, y) in y.chunks_exact_mut(d).enumerate() {
            for (i, y) in y.iter_mut().enumerate().skip(start) {
                *y *= decay[n];
                for (j, p) in p[n][..block.len].iter().enumerate() {
                    *y += p * values.scale(j, i / GROUP_LEN) * f32::from(values.codes[j * d + i] as i8);
                }
            }
        }
    }
}

/// `Σ q[d] * code[d]` over the elements of a group, the first of which is `start`.
#[inline(always)]
fn code_sums<L: Lanes, const N: usize>(codes: &[u8], q: &[&[f32]; N], start: usize) -> Pairs<L, N> {
    let mut sums = [[L::splat(0.0); 2]; N];
    for (d, codes) in codes.as_chunks::<LANES>().0.as_chunks::<2>().0.iter().enumerate() {
        add_key(&mut sums, q, start + d, [L::load_i8(&codes[0]), L::load_i8(&codes[1])]);
    }
    sums
}

/// Codes and scales of the values of a block.
struct Codes<'a> {
    codes: &'a [u8],
    scales: &'a [[u8; 4]],
}

impl<'a> Codes<'a> {
    #[inline(always)]
    fn new(values: &'a [u8], d: usize) -> Self {
        let (codes, scales) = values.split_at(d * BLOCK_LEN);
        Self { codes, scales: scales.as_chunks().0 }
    }

    #[inline(always)]
    fn scale(&self, slot: usize, group: usize) -> f32 {
        f32::from_le_bytes(self.scales[slot * (self.scales.len() / BLOCK_LEN) + group])
    }
}

/// The part of `mix` for `W` vectors of each head from element `start` on, all of one group.
#[inline(always)]
fn code_mix_lanes<L: Lanes, const N: usize, const W: usize>(
    block: &Block<'_>,
    p: &[Slots; N],
    decay: [f32; N],
    y: &mut [f32],
    start: usize,
) {
    let d = y.len() / N;
    let values = Codes::new(block.values, d);
    let mut sums = load_decayed::<L, N, W>(y, decay, start);
    for (j, row) in values.codes.chunks_exact(d).take(block.len.min(BLOCK_LEN)).enumerate() {
        prefetch::<L>(block.next, start * BLOCK_LEN + j * W * LANES, W * LANES);
        let row: &[[u8; LANES]; W] = row[start..].as_chunks().0.first_chunk().expect("W vectors of a row");
        let mut v = [L::splat(0.0); W];
        for w in 0..W {
            v[w] = L::load_i8(&row[w]);
        }
        let scale = values.scale(j, start / GROUP_LEN);
        for n in 0..N {
            add_value(&mut sums[n], p[n][j] * scale, v);
        }
    }
    store(&sums, y, start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cache::{self, CacheType};

    /// A cache of one head in blocks 2 and 0, its keys and values, and stale NaN behind them.
    fn cached(storage: CacheType, d: usize, len: usize) -> (Vec<u8>, KvShape, Vec<f32>, Vec<f32>) {
        let shape = KvShape { heads: 1, head_dim: d, storage };
        let mut bytes = vec![0xff; 3 * shape.block_bytes()];
        let k: Vec<f32> = (0..len * d).map(|i| (i as f32 * 0.37).sin()).collect();
        let v: Vec<f32> = (0..len * d).map(|i| (i as f32 * 0.11).cos()).collect();
        for (j, (k, v)) in k.chunks(d).zip(v.chunks(d)).enumerate() {
            let run = &mut bytes[shape.offset([2, 0][j / BLOCK_LEN], 0)..][..shape.head_bytes()];
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

    fn check<S: Storage>(storage: CacheType, tolerance: f32) {
        for (d, len) in [(20, 1), (64, 32), (48, 33), (8, 64), (128, 50)] {
            let (cache, shape, k, v) = cached(storage, d, len);
            let q: Vec<f32> = (0..2 * d).map(|i| (i as f32 * 0.9).sin()).collect();
            let past = Past { cache: &cache, shape, blocks: &[2, 0], head: 0, len };
            let mut y = vec![9.0; 2 * d];
            attend::<[f32; LANES], S, 1>(&q, &past, &mut y);
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
    fn q8_0_agrees_with_the_formula() {
        check::<Q8_0>(CacheType::Q8_0, 2e-2);
    }
}
