//! Products of triples: the sums of 32 rows are looked up at once in tables that fill a register.

use crate::ops::triples::{ROWS, TRIPLES, Table, UNIT_BYTES, UNITS_IN_16_BITS, WORD_BYTES, WORDS};
use std::arch::x86_64::*;

/// Blocks that share the tables: as many as there is room for their sums.
const BLOCKS: usize = 4;

/// Units from what is multiplied to what is asked for meanwhile: two kilobytes of each block gave 29 GB/s on two threads of a processor that
/// reads 30, one gave 25, eight 26.
const AHEAD: usize = 7;

type Unit = [u8; UNIT_BYTES];

/// Products of the rows of whole blocks with the token of the tables.
pub(in crate::cpu) fn dots(blocks: &[u8], tables: &[Table], sums: &mut [[i32; ROWS]]) {
    // SAFETY: the table of this tier is handed out only where the processor has these features.
    unsafe { multiply(blocks, tables, sums) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply(blocks: &[u8], tables: &[Table], sums: &mut [[i32; ROWS]]) {
    let tables = tables.as_chunks().0;
    let units = tables.len();
    let all = &blocks.as_chunks().0[..sums.len() * units];
    for (i, sums) in sums.chunks_mut(BLOCKS).enumerate() {
        let (blocks, later) = all[i * BLOCKS * units..].split_at(sums.len() * units);
        match sums.len() {
            1 => some::<1>(blocks, later, tables, sums),
            2 => some::<2>(blocks, later, tables, sums),
            3 => some::<3>(blocks, later, tables, sums),
            _ => some::<BLOCKS>(blocks, later, tables, sums),
        }
    }
}

/// `N` blocks; `later` are those that come next and are asked for meanwhile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn some<const N: usize>(
    blocks: &[Unit],
    later: &[Unit],
    tables: &[[Table; TRIPLES]],
    sums: &mut [[i32; ROWS]],
) {
    let units = tables.len();
    // What lies behind the end is for another thread.
    let later = split::<N>(if later.len() < N * units { blocks } else { later }, units);
    let blocks = split::<N>(blocks, units);
    let mut wide = [[_mm512_setzero_si512(); 2]; N];
    for first in (0..units).step_by(UNITS_IN_16_BITS) {
        let mut narrow = [_mm512_setzero_si512(); N];
        for u in first..units.min(first + UNITS_IN_16_BITS) {
            let tables = &tables[u];
            let ahead: [&Unit; N] = std::array::from_fn(|n| match u + AHEAD {
                next if next < units => &blocks[n][next],
                next => &later[n][next % units],
            });
            let mut last = [_mm512_setzero_si512(); N];
            for k in 0..WORDS {
                let of: [__m512i; 3] = std::array::from_fn(|i| load(&tables[3 * k + i].0));
                // The highest bit of the word, at its place in the last triple.
                let bit = _mm512_set1_epi16(1 << (WORDS - 1 - k));
                for n in 0..N {
                    _mm_prefetch::<_MM_HINT_T1>(ahead[n].as_chunks::<WORD_BYTES>().0[k].as_ptr().cast());
                    let words = load(&blocks[n][u].as_chunks::<WORD_BYTES>().0[k]);
                    let a = _mm512_permutexvar_epi16(words, of[0]);
                    let b = _mm512_permutexvar_epi16(_mm512_srli_epi16::<5>(words), of[1]);
                    let c = _mm512_permutexvar_epi16(_mm512_srli_epi16::<10>(words), of[2]);
                    // Bit 15 of the word at bit 4, for the first; the others lie lower.
                    let high = _mm512_srlv_epi16(words, _mm512_set1_epi16(11 + k as i16));
                    last[n] = _mm512_ternarylogic_epi32::<0xf8>(last[n], high, bit);
                    narrow[n] = _mm512_add_epi16(_mm512_add_epi16(narrow[n], a), _mm512_add_epi16(b, c));
                }
            }
            let table = load(&tables[TRIPLES - 1].0);
            for n in 0..N {
                narrow[n] = _mm512_add_epi16(narrow[n], _mm512_permutexvar_epi16(last[n], table));
            }
        }
        for n in 0..N {
            let [low, high] = [_mm512_castsi512_si256(narrow[n]), _mm512_extracti64x4_epi64::<1>(narrow[n])];
            wide[n][0] = _mm512_add_epi32(wide[n][0], _mm512_cvtepi16_epi32(low));
            wide[n][1] = _mm512_add_epi32(wide[n][1], _mm512_cvtepi16_epi32(high));
        }
    }
    for (sums, wide) in sums.iter_mut().zip(wide) {
        for (sums, wide) in sums.as_chunks_mut::<16>().0.iter_mut().zip(wide) {
            // SAFETY: the array has the size of the store, which needs no alignment.
            unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), wide) };
        }
    }
}

fn split<const N: usize>(blocks: &[Unit], units: usize) -> [&[Unit]; N] {
    std::array::from_fn(|n| &blocks[n * units..][..units])
}

/// Any 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn load<T>(from: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    // SAFETY: it has the size of the load, which needs no alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(from).cast()) }
}
