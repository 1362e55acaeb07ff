//! Elements as bytes, whatever their type, and files of bounded length.

use super::{InterchangeError, atomic::atomic_write};
use crate::{DType, Device, Result, Shape, Tensor, shape::MAX_DIMS};
use std::{fs, path::Path};

/// The elements in row-major order. Truths are 0 or 1.
pub(super) fn bytes_of(x: &Tensor) -> Result<Vec<u8>> {
    use crate::{Bool, buffer::as_bytes};
    use half::{bf16, f16};
    Ok(match x.dtype() {
        DType::F32 => as_bytes(&x.to_vec::<f32>()?).to_vec(),
        DType::F16 => as_bytes(&x.to_vec::<f16>()?).to_vec(),
        DType::BF16 => as_bytes(&x.to_vec::<bf16>()?).to_vec(),
        DType::I8 => as_bytes(&x.to_vec::<i8>()?).to_vec(),
        DType::U8 => x.to_vec::<u8>()?,
        DType::I32 => as_bytes(&x.to_vec::<i32>()?).to_vec(),
        DType::I64 => as_bytes(&x.to_vec::<i64>()?).to_vec(),
        DType::Bool => x.to_vec::<Bool>()?.into_iter().map(|truth| u8::from(truth.get())).collect(),
    })
}

/// A tensor of as many bytes as its shape needs.
pub(super) fn tensor_of(device: &Device, dims: &[usize], dtype: DType, bytes: &[u8]) -> Result<Tensor> {
    let mut y = Tensor::empty(device, checked_shape(dims)?, dtype)?;
    device.backend().upload(bytes, y.view_mut("interchange")?)?;
    Ok(y)
}

/// A shape of as many dimensions as a tensor can have, whose strides can be counted even where it has no elements.
pub(super) fn checked_shape(dims: &[usize]) -> Result<Shape, InterchangeError> {
    if dims.len() > MAX_DIMS {
        return Err(InterchangeError::Rank { rank: dims.len(), max: MAX_DIMS });
    }
    let strides = dims.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent.max(1)));
    match strides {
        Some(_) => Ok(Shape::new(dims)),
        None => Err(InterchangeError::Extents { dims: dims.to_vec() }),
    }
}

/// A whole file of at most `limit` bytes.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, InterchangeError> {
    let bytes = fs::metadata(path).map_err(InterchangeError::io(path))?.len();
    if bytes > limit {
        let what = path.display().to_string();
        return Err(InterchangeError::TooLong { what, bytes: bytes.into(), limit });
    }
    fs::read(path).map_err(InterchangeError::io(path))
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), InterchangeError> {
    atomic_write(path, |file| file.write(bytes))
}
