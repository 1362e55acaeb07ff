//! Arrays of the crate ndarray. Elements are copied: an array cannot borrow from a pool.

use crate::{Device, Element, Error, Result, Shape, Tensor};
use ndarray::{ArrayBase, ArrayD, ArrayView, Data, Dimension, IxDyn};

use super::raw::checked_shape;

/// A copy of an array on a device, whatever the array's order in memory.
///
/// # Errors
/// Where the array has more dimensions than a tensor can have or the device has no memory left.
pub fn from_array<T, S, D>(device: &Device, array: &ArrayBase<S, D>) -> Result<Tensor>
where
    T: Element,
    S: Data<Elem = T>,
    D: Dimension,
{
    let shape: Shape = checked_shape(array.shape())?;
    match array.as_slice() {
        Some(rows) => Tensor::from_slice(device, shape, rows),
        None => Tensor::from_slice(device, shape, &array.iter().copied().collect::<Vec<T>>()),
    }
}

/// A copy of a tensor in row-major order.
///
/// # Errors
/// Where the element type differs or the device fails.
pub fn to_array<T: Element>(x: &Tensor) -> Result<ArrayD<T>> {
    let array = ArrayD::from_shape_vec(IxDyn(x.shape().dims()), x.to_vec::<T>()?);
    array.map_err(|e| Error::Argument { op: "to_array", reason: e.to_string() })
}

impl<T: Element, D: Dimension> TryFrom<(&Device, ArrayView<'_, T, D>)> for Tensor {
    type Error = Error;

    fn try_from((device, array): (&Device, ArrayView<'_, T, D>)) -> Result<Self> {
        from_array(device, &array)
    }
}

impl<T: Element> TryFrom<&Tensor> for ArrayD<T> {
    type Error = Error;

    fn try_from(x: &Tensor) -> Result<Self> {
        to_array(x)
    }
}
