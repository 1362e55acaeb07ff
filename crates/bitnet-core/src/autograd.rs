//! Reverse-mode differentiation: an op on a trainable tensor leaves a record, and [`Tensor::backward`] walks the records from the
//! last to the first. Where nothing is trainable nothing is recorded.

use crate::{Error, Result, Tensor};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// From the gradient of a result to the gradients of what it was made of; none where one is not asked for.
type Vjp = Box<dyn Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// How a tensor came about. A later one has a larger number, so that the numbers are a topological order.
pub(crate) struct Record {
    id: u64,
    inputs: Vec<Option<Arc<Record>>>,
    /// None for a leaf.
    vjp: Option<Vjp>,
}

impl Record {
    fn new(inputs: Vec<Option<Arc<Record>>>, vjp: Option<Vjp>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self { id: NEXT.fetch_add(1, Relaxed), inputs, vjp })
    }

    /// The record of a trainable leaf.
    pub(crate) fn leaf() -> Arc<Self> {
        Self::new(Vec::new(), None)
    }
}

impl Drop for Record {
    /// Takes long chains apart in a loop; dropping them by recursion would need a stack as long as the chain.
    fn drop(&mut self) {
        let mut pending: Vec<_> = self.inputs.drain(..).flatten().collect();
        self.vjp = None;
        while let Some(record) = pending.pop() {
            if let Some(mut last) = Arc::into_inner(record) {
                pending.extend(last.inputs.drain(..).flatten());
            }
        }
    }
}

/// Marks `y` as made of `inputs`, if one of them is trainable. `make` gives the function from the gradient of `y` to those of
/// the inputs; what it keeps must be detached.
#[inline]
pub(crate) fn record<const N: usize, F>(y: Tensor, inputs: [&Tensor; N], make: impl FnOnce() -> F) -> Tensor
where
    F: Fn(&Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
{
    record_all(y, &inputs, || {
        let vjp = make();
        move |gradient: &Tensor| Ok(Vec::from(vjp(gradient)?))
    })
}

/// As [`record`], for any number of inputs.
#[inline]
pub(crate) fn record_all<F>(y: Tensor, inputs: &[&Tensor], make: impl FnOnce() -> F) -> Tensor
where
    F: Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
{
    if !inputs.iter().any(|x| x.is_trainable()) {
        return y;
    }
    let inputs = inputs.iter().map(|x| x.record().cloned()).collect();
    y.with_record(Record::new(inputs, Some(Box::new(make()))))
}

/// `f(inputs)` of which nothing is kept on the way: for the gradients it is computed again, which takes time and saves memory (Chen et al. 2016,
/// arXiv:1604.06174). Only `inputs` have gradients, nothing else that `f` knows.
///
/// # Errors
/// What `f` returns.
pub fn recompute<F>(inputs: &[Tensor], f: F) -> Result<Tensor>
where
    F: Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
{
    let constants: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    let y = f(&constants)?.detach();
    Ok(record_all(y, &inputs.iter().collect::<Vec<_>>(), || {
        move |dy: &Tensor| {
            let leaves = constants.iter().map(Tensor::trainable).collect::<Result<Vec<_>>>()?;
            let gradients = f(&leaves)?.backward_from(dy)?;
            Ok(leaves.iter().map(|leaf| gradients.of(leaf).ok().cloned()).collect())
        }
    }))
}

/// The gradients that [`Tensor::backward`] found, of every trainable leaf.
#[derive(Debug, Default)]
pub struct Gradients(HashMap<u64, Tensor>);

impl Gradients {
    /// The gradient of a leaf, of its shape.
    ///
    /// # Errors
    /// Where `x` is not a trainable leaf that the differentiated tensor depends on.
    pub fn of(&self, x: &Tensor) -> Result<&Tensor> {
        let found = x.record().and_then(|record| self.0.get(&record.id));
        found.ok_or(Error::Argument {
            op: "gradient",
            reason: "the tensor is not a trainable leaf that the result depends on".to_owned(),
        })
    }
}

impl Tensor {
    /// The same elements as a trainable leaf: what is computed from it can be differentiated by it.
    ///
    /// # Errors
    /// Where the elements are not floats.
    pub fn trainable(&self) -> Result<Self> {
        if !self.dtype().is_float() {
            return Err(Error::DType { op: "trainable", expected: crate::DType::F32, got: self.dtype() });
        }
        Ok(self.detach().with_record(Record::leaf()))
    }

    /// Gradients of this tensor, which has one element, by every trainable leaf that it depends on.
    ///
    /// # Errors
    /// Where there are more elements, nothing is trainable, or the device fails.
    pub fn backward(&self) -> Result<Gradients> {
        if self.shape().len() != 1 {
            let expected = crate::Shape::new(&[]);
            return Err(Error::Shape { op: "backward", expected, got: self.shape() });
        }
        self.backward_from(&Self::ones(self.device(), self.shape(), self.dtype())?)
    }

    /// Gradients of the sum of this tensor's elements, each times its element of `seed`, by every trainable leaf.
    ///
    /// # Errors
    /// Where the shapes or devices differ, nothing is trainable, or the device fails.
    pub fn backward_from(&self, seed: &Self) -> Result<Gradients> {
        crate::ops::expect_shape("backward", seed, self.shape())?;
        crate::ops::expect_device("backward", self.device(), seed.device())?;
        let Some(last) = self.record() else {
            let reason = "nothing that the tensor was made of is trainable".to_owned();
            return Err(Error::Argument { op: "backward", reason });
        };
        let mut gradients = Gradients::default();
        let mut pending = BTreeMap::from([(last.id, (last.clone(), seed.detach()))]);
        while let Some((id, (record, gradient))) = pending.pop_last() {
            let Some(vjp) = &record.vjp else {
                gradients.0.insert(id, gradient);
                continue;
            };
            for (input, part) in record.inputs.iter().zip(vjp(&gradient)?) {
                if let (Some(input), Some(part)) = (input, part) {
                    add(&mut pending, input, part)?;
                }
            }
        }
        Ok(gradients)
    }
}

/// Adds `part` to the gradient of a record that is still to be visited.
fn add(pending: &mut BTreeMap<u64, (Arc<Record>, Tensor)>, input: &Arc<Record>, part: Tensor) -> Result<()> {
    let sum = match pending.remove(&input.id) {
        Some((_, so_far)) => so_far.add(&part)?,
        None => part,
    };
    pending.insert(input.id, (input.clone(), sum));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device};

    fn leaf(values: &[f32]) -> Tensor {
        Tensor::from_slice(crate::host::reference(), [values.len()], values).unwrap().trainable().unwrap()
    }

    #[test]
    fn paths_that_meet_add_up() {
        let x = leaf(&[2.0, 3.0]);
        let y = x.mul(&x).unwrap().add(&x).unwrap().sum((), false).unwrap();
        assert_eq!(y.backward().unwrap().of(&x).unwrap().to_vec::<f32>().unwrap(), [5.0, 7.0]);
    }

    #[test]
    fn nothing_is_recorded_where_nothing_is_trainable() {
        let x = leaf(&[1.0]).detach();
        let y = x.mul(&x).unwrap();
        assert!(!y.is_trainable());
        assert!(y.backward().is_err());
    }

    #[test]
    fn a_tensor_that_the_result_does_not_depend_on_has_no_gradient() {
        let (x, other) = (leaf(&[1.0]), leaf(&[1.0]));
        let gradients = x.exp().unwrap().backward().unwrap();
        assert!(gradients.of(&x).is_ok());
        assert!(gradients.of(&other).is_err());
    }

    #[test]
    fn a_value_that_a_gradient_needs_cannot_be_written_in_place() {
        let x = leaf(&[1.0]);
        let mut y = x.exp().unwrap();
        let z = y.square().unwrap();
        assert!(matches!(y.view_mut("test"), Err(Error::Shared { .. })));
        drop(z);
    }

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let mut x = leaf(&[1.0]);
        for _ in 0..200_000 {
            x = x.reshape([1]).unwrap();
        }
        drop(x);
    }

    #[test]
    fn what_is_computed_again_has_the_same_gradients() {
        let (a, b) = (leaf(&[2.0, 3.0]), leaf(&[5.0, 7.0]));
        let f = |x: &[Tensor]| x[0].mul(&x[1])?.exp()?.mul(&x[0]);
        let kept = f(&[a.clone(), b.clone()]).unwrap().sum((), false).unwrap().backward().unwrap();
        let again =
            recompute(&[a.clone(), b.clone()], f).unwrap().sum((), false).unwrap().backward().unwrap();
        for x in [&a, &b] {
            let of = |gradients: &Gradients| gradients.of(x).unwrap().to_vec::<f32>().unwrap();
            assert_eq!(of(&again), of(&kept));
        }
    }

    #[test]
    fn integers_are_not_trainable() {
        let device = Device::open("cpu", Some(1)).unwrap();
        assert!(Tensor::zeros(&device, [1], DType::I64).unwrap().trainable().is_err());
    }
}
