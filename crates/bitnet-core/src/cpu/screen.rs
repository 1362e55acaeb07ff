//! A matrix in codes, and its products with tokens in codes.

use super::{
    backend::{FirstError, claim},
    kernels::Kernels,
    threads::Threads,
};
use crate::{
    Result,
    ops::screen::q6_k::BLOCK,
    ops::{RowFigures, ScreenView, SplitTokens, TokenCodes},
    packed::PackedView,
    view::ViewMut,
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
        let (bytes, cols, padded) = (weight.data.as_slice::<u8>(op)?, weight.cols, codes.shape().last());
        let stored = weight.format.tensor_bytes(1, cols)?;
        let each = GRAIN.div_ceil(cols);
        let failed = FirstError::default();
        self.threads.for_each_row3(
            (codes.into_slice::<i8>(op)?, each * padded),
            (figures, each),
            (&mut vec![(); weight.rows.div_ceil(each)], 1),
            1,
            |part, codes, figures, _| {
                let mut values = vec![0f32; cols];
                for (i, (codes, row)) in codes.chunks_mut(padded).zip(figures).enumerate() {
                    let bytes = &bytes[(part * each + i) * stored..][..stored];
                    failed.keep(self.kernels.read_row(weight.format, bytes, &mut values));
                    *row = (self.kernels.screen)(&values, codes);
                }
            },
        );
        failed.into_result()
    }

    pub(super) fn products(&self, screen: ScreenView<'_>, x: TokenCodes<'_>, y: ViewMut<'_>) -> Result<()> {
        let op = "screen_products";
        let mut arranged = vec![0; x.codes.len()];
        (self.kernels.arrange_codes)(x.codes, &mut arranged);
        let (codes, cols) = (screen.codes.as_slice::<i8>(op)?, screen.codes.shape().last());
        let rows = Rows { len: screen.figures.len(), bytes: cols };
        self.blocks(
            rows,
            x.scales,
            y.into_slice(op)?,
            |rows, sums: &mut [i64]| {
                (self.kernels.screen_dots)(&codes[rows.start * cols..rows.end * cols], &arranged, cols, sums);
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

    /// Writes `value` of each sum that `dots` finds, times the scale of its token: `sums: [R, T]` of some rows at a time.
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
                let sums = &mut sums[..rows.len() * tokens];
                dots(rows.clone(), sums);
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
