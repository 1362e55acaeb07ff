//! A matrix in codes, and its products with tokens in codes.

use super::{backend::FirstError, kernels::Kernels, threads::Threads};
use crate::{
    Result,
    ops::{RowFigures, ScreenView, TokenCodes},
    packed::PackedView,
    view::ViewMut,
};
use bitnet_quant::Format;

/// Elements that are worth a thread of their own.
const GRAIN: usize = 16_384;
/// Rows are shared in multiples of this, so that threads write lines of their own.
const ROWS: usize = 16;

/// The kernels and threads that these ops run with.
pub(super) struct Screening<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: &'a Threads,
}

impl Screening<'_> {
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
                    match weight.format {
                        Format::F16 => (self.kernels.read_f16)(bytes, &mut values),
                        Format::BF16 => (self.kernels.read_bf16)(bytes, &mut values),
                        format => failed.keep(format.dequantize_row(bytes, &mut values)),
                    }
                    *row = (self.kernels.screen)(&values, codes);
                }
            },
        );
        failed.into_result()
    }

    pub(super) fn products(&self, screen: ScreenView<'_>, x: TokenCodes<'_>, y: ViewMut<'_>) -> Result<()> {
        let op = "screen_products";
        let (codes, cols) = (screen.codes.as_slice::<i8>(op)?, screen.codes.shape().last());
        self.threads.for_each_columns(y.into_slice(op)?, screen.figures.len(), ROWS, |mut y| {
            for (i, row) in y.range().enumerate() {
                let (codes, scale) = (&codes[row * cols..][..cols], screen.figures[row].scale);
                for (t, (x, x_scale)) in x.codes.chunks(cols).zip(x.scales).enumerate() {
                    y.row_mut(t)[i] = (self.kernels.screen_dot)(codes, x) as f32 * scale * x_scale;
                }
            }
        });
        Ok(())
    }
}
