//! How keys and values are stored, and the two products of a block with the heads that read it.

use super::Weights;
use crate::lanes::{F16, F32, Lanes, Number};
use crate::math::LANES;
use crate::ops::cache::BLOCK_LEN;

/// Keys and values of up to 32 positions.
pub(crate) struct Block<'a> {
    pub(super) keys: &'a [u8],
    pub(super) values: &'a [u8],
    pub(super) len: usize,
    /// The keys and the values that will be read next.
    pub(super) next: (&'a [u8], &'a [u8]),
}

/// One number for every slot of a block.
pub(super) type Slots = [f32; BLOCK_LEN];

/// What a storage type must do: both products of a block with `N` heads.
pub(crate) trait Storage {
    /// Whether numbers are converted to floats when they are loaded.
    const CONVERTS: bool = false;

    /// Queries as [`Storage::scores`] wants them.
    type Queries<'a, const N: usize>;

    /// The queries of `N` heads of `d` elements.
    fn queries<const N: usize>(q: &[f32], d: usize) -> Self::Queries<'_, N>;

    /// `q · k` of every slot.
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: &Self::Queries<'_, N>) -> Pairs<L, N>;

    /// `y = y * decay + Σ p[j] * v[j]` over the first `len` slots. `y: [N, D]`.
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, weights: &Weights<N>, y: &mut [f32]);
}

impl Storage for F32 {
    type Queries<'a, const N: usize> = [&'a [f32]; N];

    #[inline(always)]
    fn queries<const N: usize>(q: &[f32], d: usize) -> [&[f32]; N] {
        rows(q, d)
    }

    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: &[&[f32]; N]) -> Pairs<L, N> {
        number_scores::<L, F32, 64, N>(block, q)
    }

    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, weights: &Weights<N>, y: &mut [f32]) {
        number_mix::<L, F32, 64, N>(block, &weights.p, weights.decay, y);
    }
}

impl Storage for F16 {
    const CONVERTS: bool = true;
    type Queries<'a, const N: usize> = [&'a [f32]; N];

    #[inline(always)]
    fn queries<const N: usize>(q: &[f32], d: usize) -> [&[f32]; N] {
        rows(q, d)
    }

    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: &[&[f32]; N]) -> Pairs<L, N> {
        number_scores::<L, F16, 32, N>(block, q)
    }

    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, weights: &Weights<N>, y: &mut [f32]) {
        number_mix::<L, F16, 32, N>(block, &weights.p, weights.decay, y);
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
pub(super) fn prefetch<L: Lanes>(bytes: &[u8], offset: usize, len: usize) {
    for line in (0..len).step_by(64) {
        L::prefetch(bytes.as_ptr().wrapping_add(offset + line));
    }
}

/// Two vectors of lanes for each head: all slots.
pub(super) type Pairs<L, const N: usize> = [[L; 2]; N];

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
    q: &[&[f32]; N],
) -> Pairs<L, N> {
    let mut sums = [[L::splat(0.0); 2]; N];
    for (d, key) in block.keys.as_chunks::<BYTES>().0.as_chunks::<2>().0.iter().enumerate() {
        prefetch::<L>(block.values, d * 2 * BYTES, 2 * BYTES);
        add_key(&mut sums, q, d, [S::load(&key[0]), S::load(&key[1])]);
    }
    sums
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
    while (N == 1 || L::ONE_REGISTER) && start + 4 * LANES <= d {
        number_mix_lanes::<L, S, BYTES, N, 4>(block, p, decay, y, start);
        start += 4 * LANES;
    }
    while start + 2 * LANES <= d {
        number_mix_lanes::<L, S, BYTES, N, 2>(block, p, decay, y, start);
        start += 2 * LANES;
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
        prefetch::<L>(block.next.0, start * size * BLOCK_LEN + j * W * BYTES, W * BYTES);
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
