//! Ops of training: gradients with several results, rounding to train with, losses and optimizers.

use super::{kernels::Kernels, threads::Threads};
use crate::{
    Result,
    ops::{Adam, Glu},
    view::{View, ViewMut},
};
use bitnet_quant::ternary;

/// Elements that are worth a thread of their own.
const GRAIN: usize = 16_384;
/// Rows whose gradients of a norm's weight are added up before those of others: what the sum depends on.
const NORM_ROWS: usize = 64;

/// The kernels and threads that these ops run with.
pub(super) struct Training {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: Threads,
}

impl Training {
    pub(super) fn rms_norm_backward(
        &self,
        x: View<'_>,
        weight: View<'_>,
        eps: f32,
        dy: View<'_>,
        [dx, dweight]: [ViewMut<'_>; 2],
    ) -> Result<()> {
        let op = "rms_norm_backward";
        let (x, weight, dy) = (x.as_slice::<f32>(op)?, weight.as_slice::<f32>(op)?, dy.as_slice::<f32>(op)?);
        let width = weight.len().max(1);
        let parts = x.len().div_ceil(NORM_ROWS * width);
        let mut partial = vec![0f32; parts * width];
        let dx = dx.into_slice::<f32>(op)?;
        self.threads.for_each_row3(
            (dx, NORM_ROWS * width),
            (&mut partial, width),
            (&mut vec![(); parts], 1),
            GRAIN.div_ceil(NORM_ROWS * width),
            |part, dx, dweight, _| {
                for (i, dx) in dx.chunks_mut(width).enumerate() {
                    let row = (part * NORM_ROWS + i) * width..(part * NORM_ROWS + i + 1) * width;
                    (self.kernels.rms_norm_backward)(&x[row.clone()], weight, eps, &dy[row], dx, dweight);
                }
            },
        );
        let dweight = dweight.into_slice::<f32>(op)?;
        dweight.fill(0.0);
        partial.chunks(width).for_each(|part| (self.kernels.add)(dweight, part));
        Ok(())
    }

    pub(super) fn glu_backward(
        &self,
        kind: Glu,
        gate: View<'_>,
        up: View<'_>,
        dy: View<'_>,
        [dgate, dup]: [ViewMut<'_>; 2],
    ) -> Result<()> {
        let op = "glu_backward";
        let (gate, up, dy) = (gate.as_slice::<f32>(op)?, up.as_slice::<f32>(op)?, dy.as_slice::<f32>(op)?);
        let kernel = self.kernels.glu_backward(kind);
        let parts = gate.len().div_ceil(GRAIN);
        self.threads.for_each_row3(
            (dgate.into_slice::<f32>(op)?, GRAIN),
            (dup.into_slice::<f32>(op)?, GRAIN),
            (&mut vec![(); parts], 1),
            1,
            |part, dgate, dup, _| {
                let range = part * GRAIN..part * GRAIN + dgate.len();
                kernel(&gate[range.clone()], &up[range.clone()], &dy[range], dgate, dup);
            },
        );
        Ok(())
    }

    /// Calls `f` with rows of `y` and the elements of `x` at the same places.
    fn rows(&self, x: &[f32], y: &mut [f32], width: usize, f: impl Fn(usize, &[f32], &mut [f32]) + Sync) {
        let width = width.max(1);
        let each = GRAIN.div_ceil(width);
        self.threads.for_each_chunk_mut(y, each * width, |chunk, y| {
            let x = &x[chunk * each * width..][..y.len()];
            for (i, (x, y)) in x.chunks(width).zip(y.chunks_mut(width)).enumerate() {
                f(chunk * each + i, x, y);
            }
        });
    }

    pub(super) fn fake_quantize(&self, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let op = "fake_quantize";
        let width = x.shape().last();
        let x = x.as_slice::<f32>(op)?;
        self.rows(x, y.into_slice(op)?, width, |_, x, y| (self.kernels.fake_quantize)(x, y));
        Ok(())
    }

    pub(super) fn fake_ternarize(&self, w: View<'_>, group: usize, y: ViewMut<'_>) -> Result<()> {
        let op = "fake_ternarize";
        let (w, y) = (w.as_slice::<f32>(op)?, y.into_slice::<f32>(op)?);
        if group < w.len() {
            self.rows(w, y, group, |_, w, y| {
                let sums = w.chunks(ternary::BLOCK).map(self.kernels.sum_of_magnitudes);
                let factor = ternary::factor(ternary::mean_of_sums(sums, w.len()));
                (self.kernels.fake_ternarize)(w, factor, y);
            });
            return Ok(());
        }
        let mut sums = vec![0f64; w.len().div_ceil(ternary::BLOCK)];
        self.threads.for_each_chunk_mut(&mut sums, GRAIN / ternary::BLOCK, |chunk, sums| {
            let w = &w[chunk * GRAIN..];
            for (sum, w) in sums.iter_mut().zip(w.chunks(ternary::BLOCK)) {
                *sum = (self.kernels.sum_of_magnitudes)(w);
            }
        });
        let factor = ternary::factor(ternary::mean_of_sums(sums, w.len()));
        self.rows(w, y, GRAIN, |_, w, y| (self.kernels.fake_ternarize)(w, factor, y));
        Ok(())
    }

    pub(super) fn cross_entropy(&self, logits: View<'_>, targets: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let op = "cross_entropy";
        let width = logits.shape().last();
        let (logits, targets) = (logits.as_slice::<f32>(op)?, targets.as_slice::<i64>(op)?);
        let each = GRAIN.div_ceil(width.max(1));
        self.threads.for_each_chunk_mut(y.into_slice::<f32>(op)?, each, |chunk, y| {
            for (i, y) in y.iter_mut().enumerate() {
                let row = chunk * each + i;
                *y = (self.kernels.cross_entropy)(&logits[row * width..][..width], targets[row]);
            }
        });
        Ok(())
    }

    pub(super) fn cross_entropy_backward(
        &self,
        logits: View<'_>,
        targets: View<'_>,
        dy: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        let op = "cross_entropy_backward";
        let width = logits.shape().last();
        let (targets, dy) = (targets.as_slice::<i64>(op)?, dy.as_slice::<f32>(op)?);
        self.rows(logits.as_slice(op)?, y.into_slice(op)?, width, |row, x, y| {
            (self.kernels.cross_entropy_backward)(x, targets[row], dy[row], y);
        });
        Ok(())
    }

    pub(super) fn kl_divergence(
        &self,
        logits: View<'_>,
        teacher: View<'_>,
        scale: f32,
        y: ViewMut<'_>,
    ) -> Result<()> {
        let op = "kl_divergence";
        let width = logits.shape().last();
        let (logits, teacher) = (logits.as_slice::<f32>(op)?, teacher.as_slice::<f32>(op)?);
        let each = GRAIN.div_ceil(width.max(1));
        self.threads.for_each_chunk_mut(y.into_slice::<f32>(op)?, each, |chunk, y| {
            for (i, y) in y.iter_mut().enumerate() {
                let row = (chunk * each + i) * width..(chunk * each + i + 1) * width;
                *y = (self.kernels.kl_divergence)(&logits[row.clone()], &teacher[row], scale);
            }
        });
        Ok(())
    }

    pub(super) fn kl_divergence_backward(
        &self,
        [logits, teacher]: [View<'_>; 2],
        scale: f32,
        dy: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        let op = "kl_divergence_backward";
        let width = logits.shape().last();
        let (teacher, dy) = (teacher.as_slice::<f32>(op)?, dy.as_slice::<f32>(op)?);
        self.rows(logits.as_slice(op)?, y.into_slice(op)?, width, |row, x, y| {
            (self.kernels.kl_divergence_backward)(x, &teacher[row * width..][..width], scale, dy[row], y);
        });
        Ok(())
    }

    pub(super) fn causal_softmax(&self, x: View<'_>, scale: f32, y: ViewMut<'_>) -> Result<()> {
        let op = "causal_softmax";
        let (shape, width) = (x.shape(), x.shape().last());
        let rows = shape.dims()[shape.rank() - 2].max(1);
        self.rows(x.as_slice(op)?, y.into_slice(op)?, width, |row, x, y| {
            (self.kernels.causal_softmax)(x, width - rows + row % rows + 1, scale, y);
        });
        Ok(())
    }

    pub(super) fn softmax_backward(
        &self,
        p: View<'_>,
        dp: View<'_>,
        scale: f32,
        dx: ViewMut<'_>,
    ) -> Result<()> {
        let op = "softmax_backward";
        let width = p.shape().last();
        let dp = dp.as_slice::<f32>(op)?;
        self.rows(p.as_slice(op)?, dx.into_slice(op)?, width, |row, p, dx| {
            (self.kernels.softmax_backward)(p, &dp[row * width..][..width], scale, dx);
        });
        Ok(())
    }

    pub(super) fn adam(&self, adam: &Adam, g: View<'_>, [w, m, v]: [ViewMut<'_>; 3]) -> Result<()> {
        let (op, g) = ("adam", g.as_slice::<f32>("adam")?);
        self.threads.for_each_row3(
            (w.into_slice::<f32>(op)?, GRAIN),
            (m.into_slice::<f32>(op)?, GRAIN),
            (v.into_slice::<f32>(op)?, GRAIN),
            1,
            |part, w, m, v| (self.kernels.adam)(adam, w, &g[part * GRAIN..][..w.len()], m, v),
        );
        Ok(())
    }
}
