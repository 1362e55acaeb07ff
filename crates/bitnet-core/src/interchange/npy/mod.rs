//! NumPy's `.npy` files, format 1.0 to 3.0 (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

mod array;
mod descr;
mod header;

pub use array::Array;
pub use descr::{Descr, Kind};
pub use header::{Header, MAX_HEADER};

use super::{
    InterchangeError,
    raw::{bytes_of, read_file, write_file},
};
use crate::{Device, Result, Tensor};
use std::path::Path;

/// Longest file that is read.
pub const MAX_BYTES: u64 = 64 << 30;

/// Reads a file. The elements become those of the tensor bit by bit; float64 becomes float32, and integers that tensors do not
/// have become int64. Arrays in Fortran's order are put into row-major order, big-endian elements are swapped.
///
/// # Errors
/// Where the file cannot be read or is longer than [`MAX_BYTES`], and as [`from_bytes`].
pub fn load(device: &Device, path: &Path) -> Result<Tensor> {
    from_bytes(device, &read_file(path, MAX_BYTES)?)
}

/// As [`load`], from the bytes of a file.
///
/// # Errors
/// Where the bytes are not those of one array of numbers or truths, a value is not exact in the element type of the tensor, or
/// the device has no memory left.
pub fn from_bytes(device: &Device, bytes: &[u8]) -> Result<Tensor> {
    Array::parse(bytes)?.to_tensor(device)
}

/// Writes a file of format 1.0 in C order, as `numpy.save` does.
///
/// # Errors
/// Where the elements are bfloat16, which NumPy does not have, or the file cannot be written.
pub fn save(path: &Path, x: &Tensor) -> Result<()> {
    Ok(write_file(path, &to_bytes(x)?)?)
}

/// As [`save`], into memory.
///
/// # Errors
/// Where the elements are bfloat16, which NumPy does not have.
pub fn to_bytes(x: &Tensor) -> Result<Vec<u8>> {
    let descr = Descr::of(x.dtype())
        .ok_or(InterchangeError::NoEquivalent { format: "the .npy format", dtype: x.dtype() })?;
    let mut bytes = Header { descr, fortran_order: false, shape: x.dims().to_vec() }.to_bytes();
    bytes.extend(bytes_of(x)?);
    Ok(bytes)
}
