//! Which of the three I2_S layouts a file has; nothing in the file says so.
//!
//! In a trained network the row of `up` that makes a channel and the column of `down` that reads it point along or against each
//! other far more than chance has it. Under the right layout the mean |cosine| of the two is many standard deviations above
//! that of random codes; a wrong layout shuffles the columns and leaves nothing of it.

use super::{Checkpoint, Weight};
use crate::{Error, Result, weights::Source};
use bitnet_quant::Format;
use rayon::prelude::*;

/// The layouts, the published one first.
pub const LAYOUTS: [Format; 3] = [Format::I2S, Format::I2SArm, Format::I2SRow4];
/// Metadata key of our files that names their layout, so that nothing has to be guessed.
pub const STATED: &str = "i2_s.layout";
/// Layers that are looked at.
const LAYERS: usize = 4;
/// Channels of a layer that are looked at.
const SAMPLE: usize = 128;
/// Standard deviations above noise from which a correlation counts.
const CLEAR: f32 = 6.0;

/// What the choice of a layout rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The file says so: it was written here.
    Stated,
    /// The weights go together under this layout and under no other.
    Statistics,
    /// A text is predicted better under this layout than under any other.
    Probe,
    /// None: this is the layout of every published file.
    Convention,
}

/// A choice of layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The layout.
    pub layout: Format,
    /// What it rests on.
    pub evidence: Evidence,
    /// For each of the candidate layouts, what was measured: the alignment in standard deviations of noise, or the
    /// negative loss of the probe in nats.
    pub scores: Vec<(Format, f32)>,
}

/// Nats a token by which one layout has to be better than the others for a probe to count.
const CLEAR_NATS: f64 = 0.5;

impl Decision {
    /// Chooses a layout by the losses of a text under each. A model that predicts the text worse than `uniform`, the loss of
    /// guessing, has learnt nothing by which a layout could be told.
    pub fn by_losses(losses: &[(Format, f64)], uniform: f64) -> Self {
        let mut sorted: Vec<_> =
            losses.iter().map(|&(f, l)| (f, if l.is_nan() { f64::INFINITY } else { l })).collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        let clear = sorted[0].1 + CLEAR_NATS <= sorted[1].1.min(uniform);
        let (layout, evidence) =
            if clear { (sorted[0].0, Evidence::Probe) } else { (LAYOUTS[0], Evidence::Convention) };
        let scores = losses.iter().map(|&(format, loss)| (format, -loss as f32)).collect();
        Self { layout, evidence, scores }
    }
}

/// Chooses a layout by statistics; `None` where the model has no I2_S tensors.
pub(super) fn decide(checkpoint: &Checkpoint) -> Result<Option<Decision>> {
    let layers = checkpoint.config().num_hidden_layers;
    let has_i2s = checkpoint
        .projections()
        .any(|(layer, name)| checkpoint.projection(layer, name).is_ok_and(|w| w.format == Format::I2S));
    if !has_i2s {
        return Ok(None);
    }
    if let Some(layout) = stated(checkpoint.source())? {
        return Ok(Some(Decision { layout, evidence: Evidence::Stated, scores: Vec::new() }));
    }
    let looked_at = layers.min(LAYERS);
    // Spread over the depth: first and last layers are the least typical.
    let layer = |index: usize| (2 * index + 1) * layers / (2 * looked_at);
    let found = (0..LAYOUTS.len() * looked_at).into_par_iter().map(|i| {
        let (layer, layout) = (layer(i / LAYOUTS.len()), LAYOUTS[i % LAYOUTS.len()]);
        Ok(score(checkpoint, layer, layout)? / (looked_at as f32).sqrt())
    });
    let found: Vec<f32> = found.collect::<Result<_>>()?;
    let mut scores = LAYOUTS.map(|layout| (layout, 0.0f32)).to_vec();
    for found in found.chunks(LAYOUTS.len()) {
        scores.iter_mut().zip(found).for_each(|((_, sum), score)| *sum += score);
    }
    Ok(Some(choose(scores)))
}

/// How well the matrices of a layer go together under a layout.
fn score(checkpoint: &Checkpoint, layer: usize, layout: Format) -> Result<f32> {
    let up = checkpoint.projection(layer, "mlp.up_proj")?;
    let down = checkpoint.projection(layer, "mlp.down_proj")?;
    // Four rows in a byte need rows in fours; what the format cannot hold scores nothing.
    let possible =
        [&up, &down].iter().all(|w| w.format == Format::I2S && layout.tensor_bytes(w.rows, w.cols).is_ok());
    Ok(if possible { alignment(&up, &down, layout) } else { 0.0 })
}

fn stated(source: &Source) -> Result<Option<Format>> {
    let Source::Gguf(gguf) = source else { return Ok(None) };
    match gguf.find::<&str>(STATED)? {
        None => Ok(None),
        Some("x86") => Ok(Some(Format::I2S)),
        Some(other) => Err(Error::Config {
            field: STATED.into(),
            value: other.into(),
            rule: "x86, the only layout that files with this key have".into(),
        }),
    }
}

fn choose(scores: Vec<(Format, f32)>) -> Decision {
    let mut sorted = scores.clone();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let clear = sorted[0].1 >= CLEAR && sorted[0].1 >= 2.0 * sorted[1].1;
    let (layout, evidence) =
        if clear { (sorted[0].0, Evidence::Statistics) } else { (LAYOUTS[0], Evidence::Convention) };
    Decision { layout, evidence, scores }
}

/// Code at a place of a matrix under a layout.
#[inline]
fn code(bytes: &[u8], cols: usize, layout: Format, row: usize, col: usize) -> u8 {
    let flat = row * cols + col;
    let (byte, quarter) = match layout {
        Format::I2SArm => (flat / 64 * 16 + flat % 16, flat % 64 / 16),
        Format::I2SRow4 => (row / 4 * cols + col, row % 4),
        _ => (flat / 128 * 32 + flat % 32, flat % 128 / 32),
    };
    bytes[byte] >> (6 - 2 * quarter) & 3
}

/// How far the mean |cosine| of rows of `up` and columns of `down` lies above that of random codes, in standard deviations.
fn alignment(up: &Weight, down: &Weight, layout: Format) -> f32 {
    // Mean and deviation of the magnitude of a standard normal variable.
    const MEAN: f32 = 0.797_884_6;
    const DEVIATION: f32 = 0.602_810_3;
    let channels = up.rows.min(SAMPLE);
    let channel = |i: usize| i * up.rows / channels;
    let sum: f32 = (0..channels).map(|i| cosine(up, down, layout, channel(i)).abs()).sum();
    let mean = sum / channels as f32 * (up.cols as f32).sqrt();
    (mean - MEAN) / DEVIATION * (channels as f32).sqrt()
}

/// Cosine of the row and the column of a channel; 0 where one of them is zero.
fn cosine(up: &Weight, down: &Weight, layout: Format, channel: usize) -> f32 {
    let (mut dot, mut made, mut read) = (0i32, 0i32, 0i32);
    for c in 0..up.cols {
        let a = i32::from(code(&up.bytes, up.cols, layout, channel, c)) - 1;
        let b = i32::from(code(&down.bytes, down.cols, layout, c, channel)) - 1;
        (dot, made, read) = (dot + a * b, made + a * a, read + b * b);
    }
    let scale = (made as f32 * read as f32).sqrt();
    if scale > 0.0 { dot as f32 / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_far_above_noise_and_the_others_is_chosen() {
        let decision = choose(vec![(Format::I2S, 0.5), (Format::I2SArm, 14.0), (Format::I2SRow4, 1.0)]);
        assert_eq!((decision.layout, decision.evidence), (Format::I2SArm, Evidence::Statistics));
    }

    #[test]
    fn a_probe_decides_only_for_a_model_that_predicts_better_than_chance() {
        let by = |x86, arm, row4| {
            let losses = [(Format::I2S, x86), (Format::I2SArm, arm), (Format::I2SRow4, row4)];
            let decision = Decision::by_losses(&losses, 6.24);
            (decision.layout, decision.evidence)
        };
        assert_eq!(by(14.1, 0.9, 14.4), (Format::I2SArm, Evidence::Probe));
        assert_eq!(by(12.0, 8.0, 13.0), (Format::I2S, Evidence::Convention));
        assert_eq!(by(f64::NAN, 2.0, f64::NAN), (Format::I2SArm, Evidence::Probe));
    }

    #[test]
    fn scores_within_noise_leave_the_published_layout() {
        let decision = choose(vec![(Format::I2S, 2.0), (Format::I2SArm, 3.0), (Format::I2SRow4, 1.0)]);
        assert_eq!((decision.layout, decision.evidence), (Format::I2S, Evidence::Convention));
    }
}
