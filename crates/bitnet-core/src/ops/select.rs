//! A choice between two tensors, element by element: NumPy's `where`.

use super::expect_device;
use crate::{Bool, DType, Error, Result, Shape, Tensor, autograd::record};

/// `y = if condition { a } else { b }` of elements of any type. All `[C]`.
pub(crate) fn reference<T: Copy>(condition: &[Bool], a: &[T], b: &[T], y: &mut [T]) {
    for (((y, c), &a), &b) in y.iter_mut().zip(condition).zip(a).zip(b) {
        *y = if c.get() { a } else { b };
    }
}

/// The elements of `a` where `condition` is true, of `b` elsewhere; all three broadcast together.
///
/// # Errors
/// Where the condition is not of truths, devices or the types of `a` and `b` differ, shapes do not broadcast, or the device fails.
pub fn select(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let op = "select";
    [condition, b].into_iter().try_for_each(|x| expect_device(op, a.device(), x.device()))?;
    if condition.dtype() != DType::Bool {
        return Err(Error::DType { op, expected: DType::Bool, got: condition.dtype() });
    }
    if a.dtype() != b.dtype() {
        return Err(Error::DType { op, expected: a.dtype(), got: b.dtype() });
    }
    let shape = Shape::broadcast(op, Shape::broadcast(op, a.shape(), b.shape())?, condition.shape())?;
    let mut y = Tensor::empty(a.device(), shape, a.dtype())?;
    let (c, x, z) =
        (condition.broadcast_layout(shape)?, a.broadcast_layout(shape)?, b.broadcast_layout(shape)?);
    let (c, x, z) = (condition.view_as(&c), a.view_as(&x), b.view_as(&z));
    a.device().backend().select(c, x, z, y.view_mut(op)?)?;
    Ok(record(y, [a, b], || {
        let (condition, a_shape, b_shape) = (condition.clone(), a.shape(), b.shape());
        move |g: &Tensor| {
            let zero = g.zeros_like()?;
            let (da, db) = (select(&condition, g, &zero)?, select(&condition, &zero, g)?);
            Ok([Some(da.sum_to(a_shape)?), Some(db.sum_to(b_shape)?)])
        }
    }))
}
