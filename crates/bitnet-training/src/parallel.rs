//! Gradients of many passes: one after the other, or several at a time by threads, with the same bits.
//!
//! What a pass computes does not depend on who computes it, and gradients are added in the order of the passes. Several machines will fit in
//! here: a team that has more members than this process.

use crate::{Error, Result, data::Windows, distill::Teacher};
use bitnet_core::{DType, Tensor, memory::Owner, ops};
use bitnet_model::Decoder;
use rayon::prelude::*;

/// Who computes passes.
#[derive(Debug)]
pub struct Team(Option<rayon::ThreadPool>);

/// What passes found.
#[derive(Debug)]
pub struct Found {
    /// Sum of the losses of all targets in nats.
    pub loss: f64,
    /// Sum of what a teacher adds to them.
    pub distillation: f64,
    /// Gradients of the weights, in the order of [`Decoder::params`].
    pub gradients: Vec<Tensor>,
}

impl Team {
    /// A team of `workers`. Where it is more than one, the device of the decoder should have a single thread.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn new(workers: usize) -> Result<Self> {
        if workers <= 1 {
            return Ok(Self(None));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build();
        pool.map(|pool| Self(Some(pool))).map_err(|e| Error::Config {
            key: "training.workers",
            value: workers.to_string(),
            rule: format!("a number of threads that the system gives ({e})"),
        })
    }

    /// Number of members.
    pub fn workers(&self) -> usize {
        self.0.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Losses of the passes, and the gradients of their sum times `scale`, with what a teacher adds.
    ///
    /// # Errors
    /// Where a token is outside of the vocabulary or the device fails.
    pub fn gradients(
        &self,
        decoder: &Decoder,
        teacher: Option<&Teacher>,
        passes: &[Windows],
        scale: f64,
    ) -> Result<Found> {
        let (leaves, model) = leaves(decoder)?;
        let one = |windows: &Windows| pass(&model, &leaves, teacher, windows, scale);
        let nothing = Found { loss: 0.0, distillation: 0.0, gradients: Vec::new() };
        let Some(pool) = &self.0 else {
            return passes.iter().map(one).try_fold(nothing, add);
        };
        // Not more passes at a time than members: each holds gradients of all weights.
        passes.chunks(self.workers()).try_fold(nothing, |found, passes| {
            let made: Vec<Result<Found>> = pool.install(|| passes.par_iter().map(one).collect());
            made.into_iter().try_fold(found, add)
        })
    }

    /// Applies `f` to every item, in their order.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        f: impl Fn(&T) -> Result<R> + Sync + Send,
    ) -> Result<Vec<R>> {
        match &self.0 {
            None => items.iter().map(f).collect(),
            Some(pool) => pool.install(|| items.par_iter().map(f).collect()),
        }
    }
}

/// The weights as trainable leaves, and the decoder that computes with them.
fn leaves(decoder: &Decoder) -> Result<(Vec<Tensor>, Decoder)> {
    let _owner = Owner::enter("rounded weights");
    let (mut model, mut leaves) = (decoder.clone(), Vec::new());
    model.params(&mut |_, w| {
        *w = w.trainable()?;
        leaves.push(w.clone());
        Ok::<(), Error>(())
    })?;
    // A layer that is computed again rounds its weights again, and nothing is kept.
    if !model.recompute {
        model.round()?;
    }
    Ok((leaves, model))
}

fn pass(
    model: &Decoder,
    leaves: &[Tensor],
    teacher: Option<&Teacher>,
    windows: &Windows,
    scale: f64,
) -> Result<Found> {
    let activations = Owner::enter("activations");
    let (hidden, states) = match teacher {
        Some(teacher) => teacher.watch(model, &windows.batch)?,
        None => (model.forward(&windows.batch, None)?, None),
    };
    let logits = model.logits(&windows.batch, &hidden)?;
    let losses = ops::cross_entropy(&logits, &windows.targets)?;
    drop(hidden);
    let mut sum = losses.sum((), false)?;
    let (loss, mut distillation) = (f64::from(sum.item::<f32>()?), 0.0);
    if let Some(teacher) = teacher {
        let term = teacher.loss(windows, &logits, states.as_ref())?;
        distillation = f64::from(term.item::<f32>()?);
        sum = sum.add(&term)?;
    }
    drop((logits, states, activations));
    let _owner = Owner::enter("gradients");
    let seed = Tensor::full(sum.device(), sum.shape(), scale, DType::F32)?;
    let gradients = sum.backward_from(&seed)?;
    let gradients = leaves.iter().map(|leaf| Ok(gradients.of(leaf)?.clone())).collect::<Result<_>>()?;
    Ok(Found { loss, distillation, gradients })
}

fn add(mut sum: Found, next: Result<Found>) -> Result<Found> {
    let next = next?;
    let _owner = Owner::enter("gradients");
    sum.loss += next.loss;
    sum.distillation += next.distillation;
    if sum.gradients.is_empty() {
        return Ok(Found { gradients: next.gradients, ..sum });
    }
    for (sum, next) in sum.gradients.iter_mut().zip(next.gradients) {
        *sum = sum.add(&next)?;
    }
    Ok(sum)
}

/// Norm of all gradients together: the root of the sum of their squares, in f64 over the tensors.
///
/// # Errors
/// Where the device fails.
pub fn norm(gradients: &[Tensor]) -> Result<f64> {
    let squares = gradients.iter().map(|g| Ok(f64::from(g.square()?.sum((), false)?.item::<f32>()?)));
    Ok(squares.sum::<Result<f64>>()?.sqrt())
}
