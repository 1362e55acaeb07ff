//! A matrix in codes, and its products with tokens in codes.

use super::{
    backend::{FirstError, claim},
    kernels::Kernels,
    threads::Threads,
};
use crate::{
    Result,
    lanes::CODE_ROWS,
    ops::screen::{ArrangedTokens, BOUNDED, put_row, q6_k::BLOCK},
    ops::{LargestBounds, RowFigures, ScreenView, SplitTokens, TokenCodes, TokenFigures},
    packed::PackedView,
    view::{View, ViewMut},
};
use std::ops::Range;

/// Elements that are worth a thread of their own.
const GRAIN: usize = 16_384;
/// Rows whose products are computed at once.
const ROWS: usize = 16;

/// The kernels and threads that these ops run with.
pub(super) struct Screening {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: Threads,
}

impl Screening {
    pub(super) fn rows(
        &self,
        weight: PackedView<'_>,
        codes: ViewMut<'_>,
        figures: &mut [RowFigures],
    ) -> Result<()> {
        let op = "screen";
        let (bytes, cols, padded) =
            (weight.data.as_slice::<u8>(op)?, weight.cols, codes.shape().last() / CODE_ROWS);
        let stored = weight.format.tensor_bytes(1, cols)?;
        let each = GRAIN.div_ceil(cols).next_multiple_of(CODE_ROWS);
        let failed = FirstError::default();
        self.threads.for_each_row3(
            (codes.into_slice::<i8>(op)?, each * padded),
            (figures, each),
            (&mut vec![(); weight.rows.div_ceil(each)], 1),
            1,
            |part, codes, figures, _| {
                let (mut values, mut row) = (vec![0f32; cols], vec![0i8; padded]);
                let fours = codes.chunks_mut(CODE_ROWS * padded).zip(figures.chunks_mut(CODE_ROWS));
                for (i, (four, figures)) in fours.enumerate() {
                    if figures.len() < CODE_ROWS {
                        four.fill(0);
                    }
                    for (j, figures) in figures.iter_mut().enumerate() {
                        let bytes = &bytes[(part * each + CODE_ROWS * i + j) * stored..][..stored];
                        failed.keep(self.kernels.read_row(weight.format, bytes, &mut values));
                        *figures = (self.kernels.screen)(&values, &mut row);
                        put_row(&row, j, four);
                    }
                }
            },
        );
        failed.into_result()
    }

    pub(super) fn products(&self, screen: ScreenView<'_>, x: TokenCodes<'_>, y: ViewMut<'_>) -> Result<()> {
        let op = "screen_products";
        let (codes, cols) = (screen.codes.as_slice::<i8>(op)?, screen.codes.shape().last() / CODE_ROWS);
        let mut arranged = vec![0; x.codes.len()];
        let tokens = x.codes.chunks(cols).zip(arranged.chunks_mut(cols));
        let lacking: Vec<i64> = tokens.map(|(x, to)| (self.kernels.arrange_codes)(x, to)).collect();
        let x_codes = ArrangedTokens { codes: &arranged, lacking: &lacking };
        let rows = Rows { len: screen.figures.len(), bytes: cols };
        self.blocks(
            rows,
            x.scales,
            y.into_slice(op)?,
            |rows, sums: &mut [i64]| {
                let end = rows.end.next_multiple_of(CODE_ROWS);
                (self.kernels.screen_dots)(&codes[rows.start * cols..end * cols], x_codes, sums);
            },
            |row, sum| sum as f32 * screen.figures[row].scale,
        );
        Ok(())
    }

    pub(super) fn products_q6_k(
        &self,
        weight: PackedView<'_>,
        x: SplitTokens<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        let op = "screen_products_q6_k";
        let (bytes, stored) = (weight.data.as_slice::<u8>(op)?, weight.format.tensor_bytes(1, weight.cols)?);
        let rows = Rows { len: weight.rows, bytes: stored };
        self.blocks(
            rows,
            x.scales,
            y.into_slice(op)?,
            |rows, sums: &mut [f32]| {
                (self.kernels.screen_dots_q6_k)(
                    &bytes[rows.start * stored..rows.end * stored],
                    x.codes,
                    weight.cols / BLOCK,
                    sums,
                );
            },
            |_, sum| sum,
        );
        Ok(())
    }

    pub(super) fn bounds(
        &self,
        guesses: View<'_>,
        figures: &[RowFigures],
        tokens: &[TokenFigures],
        bounds: &mut [LargestBounds],
    ) -> Result<()> {
        let guesses = guesses.as_slice::<f32>("screen_bounds")?;
        let (rows, each) = (figures.len(), GRAIN / BOUNDED);
        let all = bounds.chunks_mut(rows.div_ceil(BOUNDED).max(1)).zip(guesses.chunks(rows.max(1)));
        for ((bounds, guesses), token) in all.zip(tokens) {
            self.threads.for_each_chunk_mut(bounds, each, |chunk, bounds| {
                let first = chunk * each * BOUNDED;
                (self.kernels.largest_bounds)(&guesses[first..], &figures[first..], token, bounds);
            });
        }
        Ok(())
    }

    /// Writes `value` of each sum that `dots` finds, times the scale of its token: `sums: [R, T]` of some rows at a time, in whole fours.
    fn blocks<S: Copy + Default>(
        &self,
        rows: Rows,
        scales: &[f32],
        y: &mut [f32],
        dots: impl Fn(Range<usize>, &mut [S]) + Sync,
        value: impl Fn(usize, S) -> f32 + Sync,
    ) {
        let grain = claim(rows.bytes, rows.len, self.threads.len());
        self.threads.for_each_columns(y, rows.len, grain, |mut y| {
            let Range { start, end } = y.range();
            let tokens = scales.len();
            let mut sums = vec![S::default(); ROWS * tokens];
            for first in (start..end).step_by(ROWS) {
                let rows = first..end.min(first + ROWS);
                dots(rows.clone(), &mut sums[..rows.len().next_multiple_of(CODE_ROWS) * tokens]);
                for (t, x_scale) in scales.iter().enumerate() {
                    let y = &mut y.row_mut(t)[first - start..][..rows.len()];
                    for ((y, row), sums) in y.iter_mut().zip(rows.clone()).zip(sums.chunks(tokens)) {
                        *y = value(row, sums[t]) * x_scale;
                    }
                }
            }
        });
    }
}

/// How many rows a matrix has, and of how many bytes.
struct Rows {
    len: usize,
    bytes: usize,
}
