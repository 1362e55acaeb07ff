//! How keys and values are stored, and the two products of a block with the heads that read it.

use crate::lanes::{F16, F32, Lanes, Number};
use crate::math::LANES;
use crate::ops::cache::{BLOCK_LEN, GROUP_LEN};

/// Keys and values of up to 32 positions.
pub(crate) struct Block<'a> {
    pub(super) keys: &'a [u8],
    pub(super) values: &'a [u8],
    pub(super) len: usize,
    /// The keys that will be read next.
    pub(super) next: &'a [u8],
}

/// One number for every slot of a block.
pub(super) type Slots = [f32; BLOCK_LEN];

/// What a storage type must do: both products of a block with `N` heads.
pub(crate) trait Storage {
    /// Whether numbers are converted when they are loaded.
    const CONVERTS: bool = true;

    /// `q · k` of every slot. `q: N × [D]`.
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> Pairs<L, N>;

    /// `y = y * decay + Σ p[j] * v[j]` over the first `len` slots. `y: [N, D]`.
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, p: &[Slots; N], decay: [f32; N], y: &mut [f32]);
}

impl Storage for F32 {
    const CONVERTS: bool = false;

    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> Pairs<L, N> {
        number_scores::<L, F32, 64, N>(block, q)
    }

    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, p: &[Slots; N], decay: [f32; N], y: &mut [f32]) {
        number_mix::<L, F32, 64, N>(block, p, decay, y);
    }
}

impl Storage for F16 {
    #[inline(always)]
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> Pairs<L, N> {
        number_scores::<L, F16, 32, N>(block, q)
    }

    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(block: &Block<'_>, p: &[Slots; N], decay: [f32; N], y: &mut [f32]) {
        number_mix::<L, F16, 32, N>(block, p, decay, y);
    }
}

/// `N` rows of `d` elements.
#[inline(always)]
pub(super) fn rows<const N: usize>(x: &[f32], d: usize) -> [&[f32]; N] {
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
    q: [&[f32]; N],
) -> Pairs<L, N> {
    let mut sums = [[L::splat(0.0); 2]; N];
    for (d, key) in block.keys.as_chunks::<BYTES>().0.as_chunks::<2>().0.iter().enumerate() {
        prefetch::<L>(block.values, d * 2 * BYTES, 2 * BYTES);
        add_key(&mut sums, &q, d, [S::load(&key[0]), S::load(&key[1])]);
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
    fn scores<L: Lanes, const N: usize>(block: &Block<'_>, q: [&[f32]; N]) -> Pairs<L, N> {
        let (codes, scales) = block.keys.split_at(q[0].len() * BLOCK_LEN);
        let scales = scales.as_chunks::<64>().0.as_chunks::<2>().0;
        let mut sums = [[L::splat(0.0); 2]; N];
        for (g, (codes, scales)) in codes.chunks(GROUP_LEN * BLOCK_LEN).zip(scales).enumerate() {
            prefetch::<L>(block.values, g * GROUP_LEN * BLOCK_LEN, GROUP_LEN * BLOCK_LEN);
            prefetch::<L>(block.values, q[0].len() * BLOCK_LEN + g * 4 * BLOCK_LEN, 4 * BLOCK_LEN);
            let part = code_sums::<L, N>(codes, &q, g * GROUP_LEN);
            let scales = [L::load_f32(&scales[0]), L::load_f32(&scales[1])];
            for n in 0..N {
                sums[n][0] = sums[n][0].add_product(scales[0], part[n][0]);
                sums[n][1] = sums[n][1].add_product(scales[1], part[n][1]);
            }
        }
        sums
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
    prefetch::<L>(block.next, d * BLOCK_LEN + start / GROUP_LEN * 4 * BLOCK_LEN, 4 * BLOCK_LEN);
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
