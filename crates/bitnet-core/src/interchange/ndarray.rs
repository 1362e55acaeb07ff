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
    use ndarray::{Array, Ix2, arr0, arr2};

    fn device() -> Device {
        Device::open("cpu/scalar", Some(1)).unwrap()
    }

    #[test]
    fn arrays_of_any_order_become_tensors_and_come_back() {
        let device = device();
        let array = arr2(&[[1i32, 2, 3], [4, 5, 6]]);
        let x = Tensor::try_from((&device, array.t())).unwrap();
        assert_eq!((x.dims(), x.to_vec::<i32>().unwrap()), (&[3, 2][..], vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(ArrayD::<i32>::try_from(&x).unwrap(), array.t().into_dyn());
        assert!(to_array::<f32>(&x).is_err());
    }
    #[test]
    fn arrays_of_no_elements_and_of_no_dimensions_keep_their_shape() {
        let empty = from_array(&device(), &Array::<f32, Ix2>::zeros((3, 0))).unwrap();
        assert_eq!((empty.dims(), to_array::<f32>(&empty).unwrap().shape()), (&[3, 0][..], &[3, 0][..]));
        let number = from_array(&device(), &arr0(2.5f32)).unwrap();
        assert_eq!(to_array::<f32>(&number).unwrap(), arr0(2.5f32).into_dyn());
    }

    #[test]
    fn arrays_of_more_dimensions_than_a_tensor_has_are_refused() {
        assert!(from_array(&device(), &ArrayD::<f32>::zeros(IxDyn(&[1; 12]))).is_err());
    }

    #[test]
    fn views_that_are_not_contiguous_become_arrays_in_their_order() {
        let x = Tensor::from_slice(&device(), [2, 3], &[1i64, 2, 3, 4, 5, 6]).unwrap();
        let columns = x.t().unwrap().narrow(0, 1, 2).unwrap();
        assert_eq!(to_array::<i64>(&columns).unwrap(), arr2(&[[2, 5], [3, 6]]).into_dyn());
    }
}
