//! The header of a safetensors file: `u64 length, JSON, data`, and `name -> { dtype, shape, data_offsets }` in the JSON.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo as Declared;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::Refusal;
use super::unique::Unique;

/// The format's own limit.
const MAX_HEADER: usize = 100_000_000;
pub(super) const METADATA_KEY: &str = "__metadata__";

/// A tensor of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, as in `model.norm.weight`.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Type of the values.
    pub dtype: Dtype,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

/// Reads and checks the header of a whole file; the tensors come in the order of their data.
///
/// # Errors
/// The rule that the file breaks.
pub fn parse_header(file: &[u8]) -> Result<Vec<TensorInfo>, Refusal> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(Refusal::TooShort { len: file.len() });
    };
    let needed = u64::from_le_bytes(*length);
    let length = match usize::try_from(needed) {
        Ok(length) if length <= MAX_HEADER => length,
        _ => return Err(Refusal::HeaderTooLong { got: needed, limit: MAX_HEADER }),
    };
    let Some((json, data)) = rest.split_at_checked(length) else {
        return Err(Refusal::HeaderTruncated { needed, left: rest.len() });
    };
    if json.first() != Some(&b'{') {
        return Err(Refusal::HeaderStart);
    }
    let Tensors(mut declared) = serde_json::from_slice(json).map_err(Refusal::Header)?;
    declared.sort_by_key(|(_, tensor)| tensor.data_offsets);
    place(declared, 8 + length, data.len())
}

/// The tensors of a header in their order; the metadata must be a map of strings and is not kept.
struct Tensors(Vec<(String, Declared)>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Tensors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
        let (mut names, mut tensors) = (HashSet::new(), Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("key {name:?} occurs twice")));
            }
            if name == METADATA_KEY {
                map.next_value::<Unique<String>>()?;
            } else {
                let tensor =
                    map.next_value().map_err(|e| A::Error::custom(format_args!("tensor {name:?}: {e}")))?;
                tensors.push((name, tensor));
            }
        }
        Ok(Tensors(tensors))
    }
}

fn place(declared: Vec<(String, Declared)>, start: usize, len: usize) -> Result<Vec<TensorInfo>, Refusal> {
    let mut expected = 0;
    let mut tensors = Vec::with_capacity(declared.len());
    for (name, tensor) in declared {
        let (begin, end) = tensor.data_offsets;
        if begin != expected {
            return Err(Refusal::Offset { name, expected, got: begin });
        }
        let given = end.checked_sub(begin).ok_or_else(|| Refusal::Backwards { name: name.clone(), end })?;
        let needed =
            size(tensor.dtype, &tensor.shape).ok_or_else(|| Refusal::Overflow { name: name.clone() })?;
        if needed != given {
            return Err(Refusal::Size { name, needed, given });
        }
        if end > len {
            return Err(Refusal::OutOfFile { name, end, len });
        }
        expected = end;
        let range = start + begin..start + end;
        tensors.push(TensorInfo { name, shape: tensor.shape, dtype: tensor.dtype, range });
    }
    if expected == len { Ok(tensors) } else { Err(Refusal::Trailing { left: len - expected }) }
}

/// Number of bytes of a tensor, if they are a whole number that fits.
pub(super) fn size(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let count = shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension))?;
    let bits = count.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
