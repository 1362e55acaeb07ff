//! Bytes of a paged key/value cache.
//!
//! A cache is `[blocks][kv heads]` runs of [`KvShape::head_bytes`]; a run holds [`BLOCK_LEN`] positions of one head, first the
//! keys, then the values. Keys are transposed, because scores are computed for 32 positions at once; values are not, because
//! the output is computed for many elements of the head at once:
//!
//! ```text
//!            keys                                                 values
//! F32, F16   [D][32] numbers                                      [32][D] numbers
//! Q8_0       [G][2][16][16][2] i8   then  [G][32] f32 scales      [2 G][16][16][2] i8   then  [G][32] f32 scales      G = ceil(D / 32)
//! ```
//!
//! Element `d` at position slot `j` is thus number `d * 32 + j` of the keys and `j * D + d` of the values. In Q8_0 it is a code times
//! `scales[d / 32 * 32 + j]`. Codes are multiplied in pairs, those of keys of elements, those of values of slots: tiles of sixteen pairs by
//! sixteen slots (elements) are read one after the other, and the last ones of a head have as many pairs (elements) as are left, see
//! `key_codes` and `value_codes`. Numbers are little-endian.

use crate::math::{self, LANES};
use crate::{
    DType, Device, Result, Tensor,
    view::{View, ViewMut},
};
use std::ops::Range;

/// The cache of one layer.
#[derive(Debug)]
pub struct KvLayer {
    data: Tensor,
    blocks: usize,
    shape: KvShape,
}

impl KvLayer {
    /// A cache of `blocks` blocks. What they hold is arbitrary: no op reads a slot before it is written.
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn new(device: &Device, blocks: usize, shape: KvShape) -> Result<Self> {
        let data = Tensor::empty(device, [blocks, shape.block_bytes()], DType::U8)?;
        Ok(Self { data, blocks, shape })
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Heads and storage.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// The bytes to read.
    pub fn view(&self) -> View<'_> {
        self.data.view()
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        self.data.device()
    }

    /// Gives the system what lies behind some blocks, which hold anything afterwards, in whole pages; returns the bytes of these, 0 where
    /// nothing was given and the blocks hold what they held.
    pub fn discard(&mut self, blocks: Range<usize>) -> usize {
        let bytes = self.shape.block_bytes();
        self.data.view_mut("discard").map_or(0, |data| data.discard(blocks.start * bytes..blocks.end * bytes))
    }

    /// The bytes to write.
    ///
    /// # Errors
    /// Where somebody else holds the cache.
    pub fn view_mut(&mut self) -> Result<ViewMut<'_>> {
        self.data.view_mut("kv_store")
    }
}

/// Positions of a block.
pub const BLOCK_LEN: usize = 32;

/// Elements that share a scale in [`CacheType::Q8_0`].
pub const GROUP_LEN: usize = 32;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    #[default]
    F16,
    /// 8-bit codes with one f32 scale for 32 elements of a position.
    Q8_0,
}

/// What the bytes of a cache mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvShape {
    /// K: key/value heads.
    pub heads: usize,
    /// D: width of a head.
    pub head_dim: usize,
    /// How a number is stored.
    pub storage: CacheType,
}

impl KvShape {
    /// Scales of one position.
    pub const fn groups(self) -> usize {
        self.head_dim.div_ceil(GROUP_LEN)
    }

    /// Bytes of the keys (or of the values) of one head in one block.
    pub const fn half_bytes(self) -> usize {
        match self.storage {
            CacheType::F32 => BLOCK_LEN * self.head_dim * 4,
            CacheType::F16 => BLOCK_LEN * self.head_dim * 2,
            CacheType::Q8_0 => BLOCK_LEN * (self.head_dim.next_multiple_of(2) + 4 * self.groups()),
        }
    }

    /// Bytes of keys and values of one head in one block.
    pub const fn head_bytes(self) -> usize {
        2 * self.half_bytes()
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        self.heads * self.head_bytes()
    }

    /// Where the keys of a head begin in a cache; its values begin [`Self::half_bytes`] later.
    pub const fn offset(self, block: usize, head: usize) -> usize {
        (block * self.heads + head) * self.head_bytes()
    }
}

/// Writes the key and the value of a position as f32 to its slot in the run of a head. `k, v: [D]`.
#[inline(always)]
pub fn store_f32(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]) {
    store_numbers(k, v, slot, run, f32::to_le_bytes);
}

/// As [`store_f32`], rounded to f16.
#[inline(always)]
pub fn store_f16(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]) {
    store_numbers(k, v, slot, run, |x| math::f32_to_f16(x).to_le_bytes());
}

#[inline(always)]
fn store_numbers<const SIZE: usize>(
    k: &[f32],
    v: &[f32],
    slot: usize,
    run: &mut [u8],
    bytes: impl Fn(f32) -> [u8; SIZE],
) {
    let (keys, values) = run.as_chunks_mut().0.split_at_mut(k.len() * BLOCK_LEN);
    for (column, k) in keys.as_chunks_mut::<BLOCK_LEN>().0.iter_mut().zip(k) {
        column[slot] = bytes(*k);
    }
    for (value, v) in values[slot * v.len()..].iter_mut().zip(v) {
        *value = bytes(*v);
    }
}

/// As [`store_f32`], in groups quantized by their absmax: `scale = absmax / 127`, `code = round(x / scale)`.
#[inline(always)]
pub fn store_q8_0(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]) {
    let d = k.len();
    let (keys, values) = run.split_at_mut(run.len() / 2);
    quantize_to(k, keys, slot, |first| key_codes(d, first, slot));
    quantize_to(v, values, slot, |first| value_codes(d, first, slot));
}

/// Where the codes of the key in a slot lie, by elements from the first one of a group on; heads have `d` elements.
#[inline(always)]
fn key_codes(d: usize, first: usize, slot: usize) -> impl Fn(usize) -> usize {
    let pairs = (d - first).div_ceil(2).min(GROUP_LEN / 2);
    let start = first * BLOCK_LEN + (slot / LANES * pairs * LANES + slot % LANES) * 2;
    move |i| start + i / 2 * 2 * LANES + i % 2
}

/// As [`key_codes`], of the value.
#[inline(always)]
fn value_codes(d: usize, first: usize, slot: usize) -> impl Fn(usize) -> usize {
    let starts = [first, first + LANES].map(|tile| {
        let width = d.saturating_sub(tile).min(LANES);
        tile * BLOCK_LEN + slot / 2 * width * 2 + slot % 2
    });
    move |i| starts[i / LANES] + i % LANES * 2
}

/// The codes of a group, the first element of which is `first`, go to `places(first)`.
#[inline(always)]
fn quantize_to<P: Fn(usize) -> usize>(x: &[f32], half: &mut [u8], slot: usize, places: impl Fn(usize) -> P) {
    let (codes, scales) = half.split_at_mut(x.len().next_multiple_of(2) * BLOCK_LEN);
    let scales = scales.as_chunks_mut::<4>().0;
    for (g, group) in x.chunks(GROUP_LEN).enumerate() {
        let absmax = magnitude(group);
        let (scale, inverse) =
            if absmax < MIN_ABSMAX { (0.0, 0.0) } else { (absmax / 127.0, 127.0 / absmax) };
        scales[g * BLOCK_LEN + slot] = f32::to_le_bytes(scale);
        let place = places(g * GROUP_LEN);
        for (i, x) in group.iter().enumerate() {
            codes[place(i)] = math::round(x * inverse).1 as u8;
        }
    }
}

/// Where nothing is larger all is zeros: the inverse scale would not be finite.
pub(super) const MIN_ABSMAX: f32 = 1e-30;

/// The largest magnitude, NaN where there is one.
#[inline(always)]
pub(super) fn magnitude(x: &[f32]) -> f32 {
    // As integers magnitudes keep their order and NaN is the largest.
    f32::from_bits(x.iter().fold(0, |max, x| (x.to_bits() & 0x7fff_ffff).max(max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_transposed_and_values_are_not() {
        let shape = KvShape { heads: 1, head_dim: 2, storage: CacheType::F32 };
        let mut run = vec![0u8; shape.head_bytes()];
        store_f32(&[1.0, 2.0], &[3.0, 4.0], 5, &mut run);
        let stored: Vec<f32> = run.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        let mut expected = vec![0.0; 128];
        (expected[5], expected[37], expected[64 + 10], expected[64 + 11]) = (1.0, 2.0, 3.0, 4.0);
        assert_eq!(stored, expected);
    }

    #[test]
    fn codes_times_scales_are_within_half_a_step() {
        let shape = KvShape { heads: 1, head_dim: 40, storage: CacheType::Q8_0 };
        let mut run = vec![0u8; shape.head_bytes()];
        let k: Vec<f32> = (0..40).map(|i| (i as f32 * 0.7).sin()).collect();
        store_q8_0(&k, &[0.0; 40], 31, &mut run);
        let (codes, scales) = run[..shape.half_bytes()].split_at(40 * BLOCK_LEN);
        for (d, k) in k.iter().enumerate() {
            let scale = f32::from_le_bytes(scales.as_chunks().0[d / GROUP_LEN * BLOCK_LEN + 31]);
            let error = k - scale
                * f32::from(codes[key_codes(40, d / GROUP_LEN * GROUP_LEN, 31)(d % GROUP_LEN)] as i8);
            assert!(error.abs() <= 0.5001 * scale, "element {d}: {error}");
        }
    }

    #[test]
    fn every_code_of_a_half_has_a_place() {
        for d in [1, 2, 7, 16, 20, 40, 64, 80] {
            let mut places: Vec<[usize; 2]> = (0..d)
                .flat_map(|element| (0..BLOCK_LEN).map(move |slot| (element, slot)))
                .map(|(element, slot)| {
                    let (first, i) = (element / GROUP_LEN * GROUP_LEN, element % GROUP_LEN);
                    [key_codes(d, first, slot)(i), value_codes(d, first, slot)(i)]
                })
                .collect();
            for half in 0..2 {
                places.sort_by_key(|places| places[half]);
                places.dedup_by_key(|places| places[half]);
                assert_eq!(places.len(), d * BLOCK_LEN, "D = {d}");
                assert!(places[d * BLOCK_LEN - 1][half] < d.next_multiple_of(2) * BLOCK_LEN, "D = {d}");
            }
        }
    }

    #[test]
    fn a_group_of_zeros_has_scale_zero() {
        let shape = KvShape { heads: 1, head_dim: 4, storage: CacheType::Q8_0 };
        let mut run = vec![1u8; shape.head_bytes()];
        store_q8_0(&[0.0, -0.0, 1e-40, 0.0], &[0.0; 4], 0, &mut run);
        assert_eq!(run[4 * BLOCK_LEN..][..4], [0; 4]);
        assert_eq!([0, 1, 32, 33].map(|i| run[i]), [0; 4]);
    }
}
