//! Keys and values in int8 codes with a scale for each group of elements and position, see [`KvShape`](cache::KvShape).
//!
//! Both products of a block are sums of integers: queries and weights are rounded to codes as well, in steps of 1/32767 of the largest, of a
//! head and of a block. That is 1/100 of what the codes of keys and values lose, and needs half the time of products in f32.

use super::Weights;
use super::storage::{Block, Pairs, Slots, Storage, prefetch};
use crate::lanes::{Lanes, PAIRS, pair_product};
use crate::math::{self, LANES};
use crate::ops::cache::{self, BLOCK_LEN, GROUP_LEN};

/// The storage type.
pub(crate) struct Q8_0;

/// The largest code of a query or a weight: sums of 32 products with codes of keys or values fit into 32 bits.
const LARGEST: f32 = 32_767.0;

/// The inverse of a step of codes up to [`LARGEST`], and the step.
#[inline(always)]
fn steps(magnitude: f32) -> (f32, f32) {
    if magnitude < cache::MIN_ABSMAX { (0.0, 0.0) } else { (LARGEST / magnitude, magnitude / LARGEST) }
}

/// Codes of queries, in pairs of elements.
pub(crate) struct QueryCodes<const N: usize> {
    /// `[N, D / 2]`
    pairs: Vec<[i16; 2]>,
    steps: [f32; N],
}

/// Codes of the weights of a block for a group of elements, in pairs of slots.
struct WeightCodes<const N: usize> {
    pairs: [[[i16; 2]; PAIRS]; N],
    steps: [f32; N],
}

impl Storage for Q8_0 {
    type Queries<'a, const N: usize> = QueryCodes<N>;

    #[inline(always)]
    fn queries<const N: usize>(q: &[f32], d: usize) -> QueryCodes<N> {
        let width = d.div_ceil(2);
        let mut queries = QueryCodes { pairs: vec![[0; 2]; N * width], steps: [0.0; N] };
        for n in 0..N {
            let (q, pairs) = (&q[n * d..][..d], &mut queries.pairs[n * width..][..width]);
            let (inverse, step) = steps(cache::magnitude(q));
            queries.steps[n] = step;
            for (code, q) in pairs.as_flattened_mut().iter_mut().zip(q) {
                *code = math::round(q * inverse).1 as i16;
            }
        }
        queries
    }

    /// `step * Σ scale[g] * (Σ q[d] * code[d])` over the groups.
    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: &QueryCodes<N>) -> Pairs<L, N> {
        let width = q.pairs.len() / N;
        let (codes, scales) = block.keys.split_at(2 * width * BLOCK_LEN);
        let scales = scales.as_chunks::<64>().0.as_chunks::<2>().0;
        let mut sums = [[L::splat(0.0); 2]; N];
        for (g, (codes, scales)) in codes.chunks(GROUP_LEN * BLOCK_LEN).zip(scales).enumerate() {
            let (first, count) = (g * GROUP_LEN / 2, codes.len() / (2 * BLOCK_LEN));
            let mut pairs: [&[[i16; 2]]; N] = [&[]; N];
            for (pairs, all) in pairs.iter_mut().zip(q.pairs.chunks_exact(width)) {
                *pairs = &all[first..][..count];
            }
            let ahead = tiles_ahead::<L>(block.next.0, 2 * width, g);
            for half in 0..2 {
                let scale = L::load_f32(&scales[half]);
                let tile = &codes.as_chunks().0[half * count..][..count];
                let dots = L::dot_pairs(tile, pairs, ahead[half]);
                for n in 0..N {
                    sums[n][half] = sums[n][half].add_product(scale, dots[n]);
                }
            }
        }
        for (sums, step) in sums.iter_mut().zip(q.steps) {
            *sums = [sums[0].mul(L::splat(step)), sums[1].mul(L::splat(step))];
        }
        sums
    }

    /// The weight of a position is multiplied by the scale of a group first.
    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, weights: &Weights<N>, y: &mut [f32]) {
        let d = y.len() / N;
        let (codes, scales) = block.values.split_at(d.next_multiple_of(2) * BLOCK_LEN);
        let mut p = [[L::splat(0.0); 2]; N];
        let mut p_steps = [0.0; N];
        for n in 0..N {
            let (inverse, step) = steps(weights.largest[n]);
            p[n] = scaled(&weights.p[n], inverse);
            p_steps[n] = step;
        }
        for (g, scales) in scales.as_chunks().0.iter().enumerate() {
            let ahead = tiles_ahead::<L>(block.next.1, codes.len() / BLOCK_LEN, g);
            let group = weight_codes::<L, N>(scales, block.len, &p, p_steps);
            let mut pairs: [&[[i16; 2]]; N] = [&[]; N];
            for (pairs, all) in pairs.iter_mut().zip(&group.pairs) {
                *pairs = &all[..block.len.div_ceil(2)];
            }
            let elements = g * GROUP_LEN..d.min((g + 1) * GROUP_LEN);
            for (tile, start) in elements.clone().step_by(LANES).enumerate() {
                let width = LANES.min(elements.end - start);
                let codes = &codes[start * BLOCK_LEN..][..width * BLOCK_LEN];
                if width == LANES {
                    let dots = L::dot_pairs(&codes.as_chunks().0[..pairs[0].len()], pairs, ahead[tile]);
                    for n in 0..N {
                        let y: &mut [f32; LANES] =
                            y[n * d + start..].first_chunk_mut().expect("as many elements");
                        let sum = L::load(y).mul(L::splat(weights.decay[n]));
                        *y = sum.add_product(L::splat(group.steps[n]), dots[n]).to_array();
                    }
                } else {
                    for n in 0..N {
                        let y = &mut y[n * d + start..][..width];
                        mix_few(codes, pairs[n], group.steps[n], weights.decay[n], y);
                    }
                }
            }
        }
    }
}

/// Codes of `p * scale`, where `p` is in codes up to [`LARGEST`] already.
#[inline(always)]
fn weight_codes<L: Lanes, const N: usize>(
    scales: &[u8; 4 * BLOCK_LEN],
    len: usize,
    p: &[[L; 2]; N],
    p_steps: [f32; N],
) -> WeightCodes<N> {
    let [low, high] = scales.as_chunks().0 else { unreachable!("32 scales") };
    let mut slots = [0.0; BLOCK_LEN];
    slots[..LANES].copy_from_slice(&L::load_f32(low).to_array());
    slots[LANES..].copy_from_slice(&L::load_f32(high).to_array());
    if len < BLOCK_LEN {
        slots[len..].fill(0.0);
    }
    let largest = cache::magnitude(&slots);
    let share = if largest < cache::MIN_ABSMAX { 0.0 } else { 1.0 / largest };
    // Codes do not tell that a value was infinite or none.
    let step = if largest.is_finite() { largest } else { f32::NAN };
    let [low, high] = scaled::<L>(&slots, share);
    let mut codes = WeightCodes { pairs: [[[0; 2]; PAIRS]; N], steps: [0.0; N] };
    for n in 0..N {
        codes.pairs[n] = L::to_pairs(p[n][0].mul(low), p[n][1].mul(high));
        codes.steps[n] = p_steps[n] * step;
    }
    codes
}

/// `y = y * decay + step * (Σ p * code)` for the last elements of a head, fewer than there are lanes. `codes: [16, len(y), 2]`.
#[inline(always)]
fn mix_few(codes: &[u8], p: &[[i16; 2]], step: f32, decay: f32, y: &mut [f32]) {
    let rows = codes.chunks_exact(2 * y.len());
    for (i, y) in y.iter_mut().enumerate() {
        let rows = rows.clone().zip(p);
        let dot: i32 = rows.map(|(row, p)| pair_product([row[2 * i], row[2 * i + 1]], *p)).sum();
        *y = *y * decay + step * dot as f32;
    }
}

/// Where the tiles of a group lie in another half of a run, to be asked for one by one; asks for the scales. `width` elements have codes.
#[inline(always)]
fn tiles_ahead<L: Lanes>(half: &[u8], width: usize, group: usize) -> [*const u8; 2] {
    prefetch::<L>(half, width * BLOCK_LEN + group * 4 * BLOCK_LEN, 4 * BLOCK_LEN);
    let first = half.as_ptr().wrapping_add(group * GROUP_LEN * BLOCK_LEN);
    [first, first.wrapping_add(LANES * BLOCK_LEN)]
}

/// All slots times a factor.
#[inline(always)]
fn scaled<L: Lanes>(slots: &Slots, factor: f32) -> [L; 2] {
    let [low, high] = slots.as_chunks().0 else { unreachable!("32 slots") };
    let factor = L::splat(factor);
    [L::load(low).mul(factor), L::load(high).mul(factor)]
}
