//! Writes a GGUF file from front to back.

use std::collections::HashSet;
use std::path::PathBuf;

use bitnet_quant::Format;

use super::{MAGIC, MAX_KEY, MAX_TENSOR_NAME, Metadata, Refusal, TensorInfo, codec, layout, refuse, types};
#[cfg(doc)]
use crate::Error;
use crate::Result;
use crate::weights::stream::TensorStream;

const VERSION: u32 = 3;

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Outermost dimension first: `[out, in]` for a matrix.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub format: Format,
}

impl From<&TensorInfo> for Spec {
    fn from(tensor: &TensorInfo) -> Self {
        Self { name: tensor.name.clone(), shape: tensor.shape.clone(), format: tensor.format }
    }
}

/// Writes metadata and tensor infos at once, then the tensors one by one. The file appears under its name at
/// [`finish`](Self::finish); dropping the writer before leaves nothing behind. The same input gives the same bytes.
pub struct Writer(TensorStream);

impl Writer {
    /// Starts a file with these pairs and the infos of these tensors; `general.alignment` is obeyed.
    ///
    /// # Errors
    /// [`Error::Gguf`] if a name repeats, is empty or too long, a shape does not suit its format or GGUF has no number for the
    /// format; [`Error::Io`].
    pub fn create(path: impl Into<PathBuf>, metadata: &Metadata, tensors: &[Spec]) -> Result<Self> {
        let path = path.into();
        let (head, sizes, alignment) = head(metadata, tensors).map_err(|refusal| refuse(&path, refusal))?;
        TensorStream::create(path, &head, sizes, alignment).map(Self)
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

fn head(metadata: &Metadata, tensors: &[Spec]) -> Result<(Vec<u8>, Vec<usize>, usize), Refusal> {
    let alignment = metadata.alignment()?;
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        check_name("a key", key, MAX_KEY)?;
        codec::write_string(key, &mut out);
        out.extend(value.type_id().to_le_bytes());
        value.write(&mut out);
    }
    let sizes = write_infos(tensors, alignment, &mut out)?;
    out.resize(out.len().next_multiple_of(alignment), 0);
    Ok((out, sizes, alignment))
}

fn check_name(what: &'static str, name: &str, limit: u64) -> Result<(), Refusal> {
    let got = name.len() as u64;
    if (1..=limit).contains(&got) { Ok(()) } else { Err(Refusal::NameLength { what, got, limit }) }
}

fn write_infos(tensors: &[Spec], alignment: usize, out: &mut Vec<u8>) -> Result<Vec<usize>, Refusal> {
    let mut names = HashSet::new();
    let mut offset = 0_usize;
    let mut sizes = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        check_name("a tensor name", &tensor.name, MAX_TENSOR_NAME)?;
        if !names.insert(&tensor.name) {
            return Err(Refusal::DuplicateTensor { name: tensor.name.clone() });
        }
        let size = write_info(tensor, offset, out).map_err(|refusal| refusal.in_tensor(&tensor.name))?;
        let padded = size.checked_next_multiple_of(alignment);
        offset = padded.and_then(|padded| offset.checked_add(padded)).ok_or(Refusal::Overflow)?;
        sizes.push(size);
    }
    Ok(sizes)
}

fn write_info(tensor: &Spec, offset: usize, out: &mut Vec<u8>) -> Result<usize, Refusal> {
    layout::check_shape(&tensor.shape)?;
    let size = layout::size(&tensor.shape, tensor.format)?;
    codec::write_string(&tensor.name, out);
    out.extend((tensor.shape.len() as u32).to_le_bytes());
    tensor.shape.iter().rev().for_each(|&dimension| out.extend((dimension as u64).to_le_bytes()));
    out.extend(types::id(tensor.format)?.to_le_bytes());
    out.extend((offset as u64).to_le_bytes());
    Ok(size)
}
