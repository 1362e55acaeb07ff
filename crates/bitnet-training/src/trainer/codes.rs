//! Ternary codes of the weights over time: how many are not zero, and how many change. In training that does well fewer and fewer flip.

use crate::{Error, Result, progress::Codes};
use bitnet_model::{Decoder, decoder::Layer, layers::WeightCodes};
use bitnet_quant::{metrics::density, ternary};

/// The codes as they were when they were last counted.
pub(super) struct Counter {
    weights: WeightCodes,
    step: u64,
    /// Of each layer.
    codes: Vec<Vec<i8>>,
}

impl Counter {
    pub(super) fn new(weights: WeightCodes) -> Self {
        Self { weights, step: 0, codes: Vec::new() }
    }

    /// Says that the codes that were counted are those after `step` steps.
    pub(super) fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// Looks at all layers after `step` steps.
    pub(super) fn count(&mut self, decoder: &mut Decoder, step: u64) -> Result<Vec<Codes>> {
        let group = match self.weights {
            WeightCodes::Off | WeightCodes::F16 | WeightCodes::Bf16 => return Ok(Vec::new()),
            WeightCodes::Tensor => usize::MAX,
            WeightCodes::Group(len) => len,
        };
        let layers = decoder.layers.iter_mut().map(|layer| codes(layer, group));
        let now = layers.collect::<Result<Vec<_>>>()?;
        let steps = step.saturating_sub(self.step).max(1) as f64;
        let flips = |i: usize, now: &[i8]| {
            let before = self.codes.get(i).map_or(now, Vec::as_slice);
            before.iter().zip(now).filter(|(a, b)| a != b).count() as f64 / now.len().max(1) as f64 / steps
        };
        let found = now
            .iter()
            .enumerate()
            .map(|(i, codes)| Codes { density: density(codes), flips: flips(i, codes) })
            .collect();
        (self.codes, self.step) = (now, step);
        Ok(found)
    }
}

/// Codes of all matrices of a layer.
fn codes(layer: &mut Layer, group: usize) -> Result<Vec<i8>> {
    let mut all = Vec::new();
    layer.params(&mut |_, w| {
        if w.shape().rank() < 2 {
            return Ok(());
        }
        let weights = w.to_vec::<f32>()?;
        for weights in weights.chunks(group) {
            let first = all.len();
            all.resize(first + weights.len(), 0);
            ternary::ternarize(weights, &mut all[first..]);
        }
        Ok::<(), Error>(())
    })?;
    Ok(all)
}
