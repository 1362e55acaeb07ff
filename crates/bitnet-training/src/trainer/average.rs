//! An average of the weights over the steps. Ternary models do better without: the average of weights whose codes flip has other codes.

use crate::{Error, Result};
use bitnet_core::Tensor;
use bitnet_model::Decoder;

/// `average = keep * average + (1 - keep) * weights` after every step.
pub(super) struct Average {
    keep: f64,
    /// In the order of [`Decoder::params`].
    weights: Vec<Tensor>,
}

impl Average {
    /// None where nothing of the average is kept; it begins as the weights are.
    pub(super) fn new(keep: f64, decoder: &mut Decoder) -> Result<Option<Self>> {
        if keep == 0.0 {
            return Ok(None);
        }
        let mut weights = Vec::new();
        decoder.params(&mut |_, w| {
            weights.push(w.copy()?);
            Ok::<(), Error>(())
        })?;
        Ok(Some(Self { keep, weights }))
    }

    pub(super) fn weights_mut(&mut self) -> &mut [Tensor] {
        &mut self.weights
    }

    /// Moves towards the weights.
    pub(super) fn follow(&mut self, decoder: &mut Decoder) -> Result<()> {
        let mut rest = self.weights.iter_mut();
        decoder.params(&mut |_, w| {
            let average = rest.next().expect("one for every weight");
            *average = average.add(&w.sub(average)?.mul_scalar(1.0 - self.keep)?)?;
            Ok::<(), Error>(())
        })
    }

    /// The decoder with the average for its weights.
    pub(super) fn decoder(&self, decoder: &Decoder) -> Result<Decoder> {
        let (mut decoder, mut rest) = (decoder.clone(), self.weights.iter());
        decoder.params(&mut |_, w| {
            *w = rest.next().expect("one for every weight").clone();
            Ok::<(), Error>(())
        })?;
        Ok(decoder)
    }
}
