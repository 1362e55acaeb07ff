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

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn arrays_of_any_order_become_tensors_and_come_back() {
        let device = Device::open("cpu/scalar", Some(1)).unwrap();
        let array = arr2(&[[1i32, 2, 3], [4, 5, 6]]);
        let x = Tensor::try_from((&device, array.t())).unwrap();
        assert_eq!((x.dims(), x.to_vec::<i32>().unwrap()), (vec![3, 2], vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(ArrayD::<i32>::try_from(&x).unwrap(), array.t().into_dyn());
        assert!(to_array::<f32>(&x).is_err());
    }
}
