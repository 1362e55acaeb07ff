//! Ternary product with a panel of two rows.
#![expect(clippy::needless_range_loop, reason = "the indices of a tile run over several arrays at once")]

use super::bit_matmul::{BLOCKS_IN_16_BITS, load, load_codes, quarter, write};
use crate::cpu::panel::{Panel, Quarters, ROWS};
use crate::cpu::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, CodeRows, TernaryRows, of_len};
use std::arch::x86_64::*;

/// Quarters of blocks whose products fit in 16-bit sums.
const QUARTERS_IN_16_BITS: usize = 4 * BLOCKS_IN_16_BITS;

/// Proof that the processor has what `multiply` needs, which makes this.
pub(super) struct Avx2;

impl Panel for Avx2 {
    const TOKENS: usize = 5;

    fn unpack(&self, rows: [&[[u8; BLOCK_BYTES]]; ROWS], codes: &mut [Quarters]) {
        // SAFETY: only `multiply` makes this.
        unsafe { unpack(rows, codes) };
    }

    fn tile<const T: usize>(
        &self,
        codes: &[Quarters],
        x: CodeRows<'_>,
        token: usize,
        weight: TernaryRows<'_>,
        row: usize,
        y: &mut ColumnsMut<'_>,
    ) {
        // SAFETY: only `multiply` makes this.
        unsafe { tile::<T>(codes, x, token, weight, row, y) };
    }
}

#[target_feature(enable = "avx2")]
pub(in crate::cpu) fn unpack(rows: [&[[u8; BLOCK_BYTES]]; ROWS], codes: &mut [Quarters]) {
    for (b, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for r in 0..ROWS {
            let bytes = load(&rows[r][b]);
            for k in 0..4 {
                // SAFETY: half of the quarters has the size and alignment of the store.
                unsafe { _mm256_store_si256((&raw mut codes[k].0[r]).cast(), quarter(bytes, k)) };
            }
        }
    }
}

/// Two unpacked rows (fewer at the end) times `T` tokens.
#[target_feature(enable = "avx2,f16c")]
fn tile<const T: usize>(
    codes: &[Quarters],
    x: CodeRows<'_>,
    token: usize,
    weight: TernaryRows<'_>,
    row: usize,
    y: &mut ColumnsMut<'_>,
) {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); ROWS]; T];
    for (i, codes) in codes.chunks(QUARTERS_IN_16_BITS).enumerate() {
        let mut tokens = x.quarters::<T>(token, x.blocks());
        for tokens in &mut tokens {
            *tokens = &tokens[i * QUARTERS_IN_16_BITS..];
        }
        let tokens = of_len(tokens, codes.len());
        let mut short = [[_mm256_setzero_si256(); ROWS]; T];
        for (q, codes) in codes.iter().enumerate() {
            let rows = [load(&codes.0[0]), load(&codes.0[1])];
            for t in 0..T {
                let x = load_codes(&tokens[t][q]);
                for r in 0..ROWS {
                    short[t][r] = _mm256_add_epi16(short[t][r], _mm256_maddubs_epi16(rows[r], x));
                }
            }
        }
        for t in 0..T {
            for r in 0..ROWS {
                sums[t][r] = _mm256_add_epi32(sums[t][r], _mm256_madd_epi16(short[t][r], ones));
            }
        }
    }
    for t in 0..T {
        write(x, token + t, sums[t], weight, row, y);
    }
}
