//! The GGUF container, versions 2 and 3, little-endian (ggml, `docs/gguf.md`).
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 keys
//! keys    x { string key, u32 type, value }
//! tensors x { string name, u32 rank, rank x u64 dimension (innermost first), u32 type, u64 offset }
//! padding to the alignment, then the data; offsets count from here
//! ```

mod codec;
mod cursor;
mod layout;
mod metadata;
mod reader;
mod refusal;
mod types;
mod value;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use layout::TensorInfo;
pub use metadata::Metadata;
pub use refusal::Refusal;
pub use value::{Array, FromValue, Strings, Value};
pub use writer::{Spec, Writer};

use super::mmap::{FileBytes, FileSlice, LoadMode};
use crate::{Error, Result};

pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// The specification's limit for keys.
const MAX_KEY: u64 = 65535;
/// llama.cpp stops at 64; some of its forks at 128.
const MAX_TENSOR_NAME: u64 = 256;
/// Longest string; a chat template or a model card is far shorter.
const MAX_STRING: u64 = 1 << 26;
/// Most elements of an array; the largest vocabularies and their merges have less than a million.
const MAX_ARRAY: u64 = 1 << 24;

/// An open GGUF file: metadata and tensor infos are checked and in memory, tensor data is in the file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    bytes: FileBytes,
    parsed: reader::Parsed,
    index: HashMap<String, usize>,
}

impl Gguf {
    /// Opens and checks a file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Gguf`] with the rule that the file breaks.
    pub fn open(path: impl AsRef<Path>, mode: LoadMode) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, FileBytes::open(path, mode)?)
    }

    /// Checks bytes that came from anywhere; `path` is their name in messages.
    ///
    /// # Errors
    /// [`Error::Gguf`] with the rule that the bytes break.
    pub fn parse(path: impl Into<PathBuf>, bytes: FileBytes) -> Result<Self> {
        let path = path.into();
        match reader::parse(&bytes) {
            Ok(parsed) => {
                let index =
                    parsed.tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
                Ok(Self { path, bytes, parsed, index })
            }
            Err(refusal) => Err(refuse(path, refusal)),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of the container.
    pub fn version(&self) -> u32 {
        self.parsed.version
    }

    /// What tensor offsets are multiples of.
    pub fn alignment(&self) -> usize {
        self.parsed.alignment
    }

    /// Length of the file in bytes.
    pub fn file_len(&self) -> usize {
        self.bytes.len()
    }

    /// All key-value pairs in the order of the file.
    pub fn metadata(&self) -> &Metadata {
        &self.parsed.metadata
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Gguf`] naming the file and the key, if it is missing or of another type.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.metadata().get(key).map_err(|refusal| refuse(&self.path, refusal))
    }

    /// The value of a key, `None` if it is missing.
    ///
    /// # Errors
    /// [`Error::Gguf`] naming the file and the key, if it is of another type.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        self.metadata().find(key).map_err(|refusal| refuse(&self.path, refusal))
    }

    /// All tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.parsed.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&index| &self.parsed.tensors[index])
    }

    /// The bytes of a tensor of this file.
    pub fn bytes(&self, tensor: &TensorInfo) -> FileSlice {
        self.bytes.slice(tensor.range.clone())
    }
}

fn refuse(path: impl Into<PathBuf>, refusal: Refusal) -> Error {
    Error::Gguf { path: path.into(), refusal: Box::new(refusal) }
}
