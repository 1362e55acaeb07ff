//! Writes a safetensors file from front to back.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::PathBuf;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::Refusal;
use super::header::{METADATA_KEY, size};
use crate::weights::stream::TensorStream;
use crate::{Error, Result};

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name, as in `model.norm.weight`.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Type of the values.
    pub dtype: Dtype,
}

impl Spec {
    /// Puts tensors into the order of Hugging Face's writer, in which all of them are aligned: widest type first, then by name.
    pub fn sort(specs: &mut [Self]) {
        specs.sort_by(|a, b| (Reverse(a.dtype), &a.name).cmp(&(Reverse(b.dtype), &b.name)));
    }
}

/// Writes the header at once, then the tensors one by one. The file appears under its name at [`finish`](Self::finish); dropping
/// the writer before leaves nothing behind. The same input gives the same bytes.
pub struct Writer(TensorStream);

impl Writer {
    /// Starts a file with these tensors, marked as PyTorch's, without which transformers 4 refuses a file.
    ///
    /// # Errors
    /// [`Error::Safetensors`] if a name repeats or is the metadata's, a size overflows, or a tensor would not be aligned (see
    /// [`Spec::sort`]); [`Error::Io`].
    pub fn create(path: impl Into<PathBuf>, tensors: &[Spec]) -> Result<Self> {
        let path = path.into();
        let refuse = |refusal| Error::Safetensors { path: path.clone(), refusal: Box::new(refusal) };
        let (head, sizes) = head(tensors).map_err(refuse)?;
        TensorStream::create(path, &head, sizes, 1).map(Self)
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// [`Error::WrittenSize`] if it is not of the size that was announced; [`Error::Io`].
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.tensor(bytes)
    }

    /// Writes some bytes of the next tensor; it is complete with the last of them.
    ///
    /// # Errors
    /// [`Error::WrittenSize`] if they are more than the tensor has; [`Error::Io`].
    pub fn part(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.part(bytes)
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// [`Error::WrittenSize`] if bytes are missing; [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// Length and header, padded so that the data starts at a multiple of eight.
fn head(tensors: &[Spec]) -> Result<(Vec<u8>, Vec<usize>), Refusal> {
    let mut entries = Map::new();
    entries.insert(METADATA_KEY.into(), json!({ "format": "pt" }));
    let (mut start, mut sizes, mut names) = (0, Vec::new(), HashSet::from([METADATA_KEY]));
    for spec in tensors {
        if !names.insert(&spec.name) {
            return Err(Refusal::DuplicateTensor { name: spec.name.clone() });
        }
        let end = end(spec, start)?;
        let entry = json!({ "dtype": spec.dtype, "shape": spec.shape, "data_offsets": [start, end] });
        entries.insert(spec.name.clone(), entry);
        sizes.push(end - start);
        start = end;
    }
    let mut text = Value::Object(entries).to_string();
    let padded = text.len().next_multiple_of(8);
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    Ok(([&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat(), sizes))
}

/// Where a tensor ends that starts at `start`.
fn end(Spec { name, shape, dtype }: &Spec, start: usize) -> Result<usize, Refusal> {
    let overflow = || Refusal::Overflow { name: name.clone() };
    let end = start.checked_add(size(*dtype, shape).ok_or_else(overflow)?).ok_or_else(overflow)?;
    if start.is_multiple_of(dtype.bitsize().div_ceil(8)) {
        Ok(end)
    } else {
        Err(Refusal::Misaligned { name: name.clone(), dtype: *dtype, offset: start })
    }
}
