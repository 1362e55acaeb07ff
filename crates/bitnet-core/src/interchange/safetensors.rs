//! Named tensors in safetensors files (<https://github.com/huggingface/safetensors>).

use super::{
    InterchangeError,
    raw::{bytes_of, read_file, tensor_of, write_file},
};
use crate::{DType, Device, Result, Tensor};
use safetensors::{
    Dtype, SafeTensorError, SafeTensors,
    tensor::{TensorView, serialize},
};
use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use std::{collections::HashSet, fmt, path::Path};

/// Longest file that is read.
pub const MAX_BYTES: u64 = 64 << 30;

/// Reads the tensors of a file in the order of their elements.
///
/// # Errors
/// Where the file cannot be read or is longer than [`MAX_BYTES`], and as [`from_bytes`].
pub fn load(device: &Device, path: &Path) -> Result<Vec<(String, Tensor)>> {
    from_bytes(device, &read_file(path, MAX_BYTES)?)
}

/// As [`load`], from the bytes of a file.
///
/// # Errors
/// Where the header is not one of safetensors or gives a name twice, a tensor has elements or dimensions that tensors of this
/// crate do not have, or the device has no memory left.
pub fn from_bytes(device: &Device, bytes: &[u8]) -> Result<Vec<(String, Tensor)>> {
    let (len, metadata) = SafeTensors::read_metadata(bytes).map_err(InterchangeError::from)?;
    refuse_duplicates(&bytes[8..8 + len])?;
    let stored = SafeTensors::deserialize(bytes).map_err(InterchangeError::from)?;
    let read = |name: String| {
        let found = stored.tensor(&name).map_err(InterchangeError::from)?;
        let x = tensor(device, &found)
            .map_err(|e| InterchangeError::Member { name: name.clone(), source: Box::new(e) })?;
        Ok((name, x))
    };
    metadata.offset_keys().into_iter().map(read).collect()
}

/// Writes named tensors. The format sorts them by the size of their elements and by name.
///
/// # Errors
/// Where a name is given twice or the file cannot be written.
pub fn save(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    Ok(write_file(path, &to_bytes(tensors)?)?)
}

/// As [`save`], into memory.
///
/// # Errors
/// Where a name is given twice.
pub fn to_bytes(tensors: &[(&str, &Tensor)]) -> Result<Vec<u8>> {
    let mut names = HashSet::new();
    if let Some((name, _)) = tensors.iter().find(|(name, _)| !names.insert(*name)) {
        return Err(InterchangeError::Duplicate { name: (*name).into() }.into());
    }
    let bytes = tensors.iter().map(|(_, x)| bytes_of(x)).collect::<Result<Vec<_>>>()?;
    let view = |((name, x), bytes): (&(&str, &Tensor), _)| {
        Ok((name.to_string(), TensorView::new(dtype_of(x.dtype()), x.dims().to_vec(), bytes)?))
    };
    let views = tensors.iter().zip(bytes.iter().map(Vec::as_slice)).map(view);
    let views = views.collect::<Result<Vec<_>, SafeTensorError>>().map_err(InterchangeError::from)?;
    Ok(serialize(views, None).map_err(InterchangeError::from)?)
}

fn tensor(device: &Device, found: &TensorView<'_>) -> Result<Tensor> {
    let dtype = DType::ALL.into_iter().find(|&dtype| dtype_of(dtype) == found.dtype());
    let dtype =
        dtype.ok_or_else(|| InterchangeError::UnknownDType { dtype: format!("{:?}", found.dtype()) })?;
    tensor_of(device, found.shape(), dtype, found.data())
}

fn dtype_of(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::Bool => Dtype::BOOL,
    }
}

/// The crate safetensors lets the last of two equal names win; which one a reader gets would be up to the reader.
fn refuse_duplicates(header: &[u8]) -> Result<(), InterchangeError> {
    let mut json = serde_json::Deserializer::from_slice(header);
    let twice = json.deserialize_map(Names).map_err(SafeTensorError::JsonError)?;
    twice.map_or(Ok(()), |name| Err(InterchangeError::Duplicate { name }))
}

/// Visits the names of an object and returns one that is there twice.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut twice = None;
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            if seen.contains(&name) {
                twice = Some(name);
            } else {
                seen.insert(name);
            }
        }
        Ok(twice)
    }
}
