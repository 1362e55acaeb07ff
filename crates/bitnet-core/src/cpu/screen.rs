//! A matrix in codes, and its products with tokens in codes.

use super::{
    backend::{FirstError, claim},
    kernels::Kernels,
    threads::Threads,
};
use crate::{
    Result,
    ops::{RowFigures, ScreenView, TokenCodes},
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
        let (codes, cols) = (screen.codes.as_slice::<i8>(op)?, screen.codes.shape().last());
        let grain = claim(cols, screen.figures.len(), self.threads.len());
        self.threads.for_each_columns(y.into_slice(op)?, screen.figures.len(), grain, |mut y| {
            let Range { start, end } = y.range();
            let tokens = x.scales.len();
            let mut sums = vec![0; ROWS * tokens];
            for first in (start..end).step_by(ROWS) {
                let rows = first..end.min(first + ROWS);
                let codes = &codes[rows.start * cols..rows.end * cols];
                let sums = &mut sums[..rows.len() * tokens];
                (self.kernels.screen_dots)(codes, x.codes, cols, sums);
                for (t, x_scale) in x.scales.iter().enumerate() {
                    let y = &mut y.row_mut(t)[first - start..][..rows.len()];
                    let figures = &screen.figures[rows.clone()];
                    for ((y, row), sums) in y.iter_mut().zip(figures).zip(sums.chunks(tokens)) {
                        *y = sums[t] as f32 * row.scale * x_scale;
                    }
                }
            }
        });
        Ok(())
    }
}
