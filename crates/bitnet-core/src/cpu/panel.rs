//! Ternary products of many tokens: the codes of some rows are unpacked once for all of them.

use super::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, CodeRows, TernaryRows};
use std::ops::Range;

/// Tokens from which on it pays.
pub(super) const MANY: usize = 64;

/// Rows that are unpacked at once: with those of the widest matrices they stay in the second cache.
const ROWS: usize = 32;

/// A quarter of a block of two rows, a code in each byte.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Quarters(pub(super) [[u8; BLOCK_BYTES]; 2]);

/// What an instruction set does with `R` rows and up to so many tokens that their sums fit in its registers.
pub(super) trait Panel<const R: usize> {
    /// Tokens of a tile.
    const TOKENS: usize;

    /// Unpacks `R` rows to `4 * R / 2` quarters a block: quarter by quarter, each of all rows.
    fn unpack(&self, rows: [&[[u8; BLOCK_BYTES]]; R], codes: &mut [Quarters]);

    /// Multiplies `R` rows (fewer at the end) that begin with row `row` of `weight` with at most [`Self::TOKENS`] tokens.
    fn tile(
        &self,
        codes: &[Quarters],
        x: CodeRows<'_>,
        tokens: Range<usize>,
        weight: TernaryRows<'_>,
        row: usize,
        y: &mut ColumnsMut<'_>,
    );
}

/// Multiplies all tokens with the rows of `weight`, which are the columns of `y`.
pub(super) fn multiply<const R: usize, P: Panel<R>>(
    panel: &P,
    weight: TernaryRows<'_>,
    x: CodeRows<'_>,
    y: &mut ColumnsMut<'_>,
) {
    let (blocks, rows) = (x.blocks(), y.range().len());
    let group = blocks * 4 * R / 2;
    let mut codes = vec![Quarters([[0; BLOCK_BYTES]; 2]); group * ROWS / R];
    for first in (0..rows).step_by(ROWS) {
        let groups = || (first..rows.min(first + ROWS)).step_by(R);
        for (row, codes) in groups().zip(codes.chunks_mut(group)) {
            panel.unpack(weight.tile(row, blocks), codes);
        }
        for token in (0..x.tokens()).step_by(P::TOKENS) {
            let tokens = token..x.tokens().min(token + P::TOKENS);
            for (row, codes) in groups().zip(codes.chunks(group)) {
                panel.tile(codes, x, tokens.clone(), weight, row, y);
            }
        }
    }
}
