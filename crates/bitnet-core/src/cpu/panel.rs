//! Ternary products of many tokens: the codes of some rows are unpacked once for all of them.

use super::partition::ColumnsMut;
use crate::ops::bit_matmul::{BLOCK_BYTES, CodeRows, TernaryRows};

/// Tokens from which on it pays.
pub(super) const MANY: usize = 64;

/// Rows that are unpacked at once: with those of the widest matrices they stay in the second cache.
const PANEL: usize = 32;

/// Rows of a tile.
pub(super) const ROWS: usize = 2;

/// A quarter of a block of the rows of a tile, a code in each byte.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Quarters(pub(super) [[u8; BLOCK_BYTES]; ROWS]);

/// What an instruction set does.
pub(super) trait Panel {
    /// Tokens whose sums fit in its registers, at most six.
    const TOKENS: usize;

    /// Unpacks rows to four quarters a block.
    fn unpack(&self, rows: [&[[u8; BLOCK_BYTES]]; ROWS], codes: &mut [Quarters]);

    /// Multiplies rows (fewer at the end) that begin with row `row` of `weight` with `T` tokens from `token` on.
    fn tile<const T: usize>(
        &self,
        codes: &[Quarters],
        x: CodeRows<'_>,
        token: usize,
        weight: TernaryRows<'_>,
        row: usize,
        y: &mut ColumnsMut<'_>,
    );
}

/// Multiplies all tokens with the rows of `weight`, which are the columns of `y`.
pub(super) fn multiply<P: Panel>(
    panel: &P,
    weight: TernaryRows<'_>,
    x: CodeRows<'_>,
    y: &mut ColumnsMut<'_>,
) {
    let (blocks, rows) = (x.blocks(), y.range().len());
    let tile = 4 * blocks;
    let mut codes = vec![Quarters([[0; BLOCK_BYTES]; ROWS]); tile * PANEL / ROWS];
    for first in (0..rows).step_by(PANEL) {
        let tiles = || (first..rows.min(first + PANEL)).step_by(ROWS);
        for (row, codes) in tiles().zip(codes.chunks_mut(tile)) {
            panel.unpack(weight.tile(row, blocks), codes);
        }
        for token in (0..x.tokens()).step_by(P::TOKENS) {
            for (row, codes) in tiles().zip(codes.chunks(tile)) {
                match P::TOKENS.min(x.tokens() - token) {
                    1 => panel.tile::<1>(codes, x, token, weight, row, y),
                    2 => panel.tile::<2>(codes, x, token, weight, row, y),
                    3 => panel.tile::<3>(codes, x, token, weight, row, y),
                    4 => panel.tile::<4>(codes, x, token, weight, row, y),
                    5 => panel.tile::<5>(codes, x, token, weight, row, y),
                    _ => panel.tile::<6>(codes, x, token, weight, row, y),
                }
            }
        }
    }
}
