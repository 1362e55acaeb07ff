//! Containers of weights: GGUF files and Hugging Face folders, read without being believed.

pub mod foreign;
pub mod gguf;
mod mmap;
pub mod safetensors;
mod stream;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};
use gguf::Gguf;
use safetensors::{CONFIG, Folder, INDEX, SINGLE};

pub use mmap::{FileBytes, FileSlice, LoadMode};

/// First bytes of a file that say what it is.
const HEAD: usize = 512;

/// An opened container.
#[derive(Debug)]
pub enum Source {
    /// A GGUF file.
    Gguf(Gguf),
    /// A Hugging Face folder.
    Folder(Folder),
}

impl Source {
    /// Opens a path: a GGUF file, or a folder with `config.json` and safetensors.
    ///
    /// # Errors
    /// [`Error::NotAModel`] saying what it is instead, and what [`Gguf::open`] and [`Folder::open`] refuse.
    pub fn open(path: impl AsRef<Path>, mode: LoadMode) -> Result<Self> {
        let path = path.as_ref();
        if fs::metadata(path).map_err(Error::io(path))?.is_dir() {
            return Self::open_folder(path, mode);
        }
        let head = head(path).map_err(Error::io(path))?;
        // A file that claims to be one is read as one, so that the refusal says which rule it breaks.
        if head.starts_with(gguf::MAGIC) || path.extension().is_some_and(|e| e == "gguf") {
            return Ok(Self::Gguf(Gguf::open(path, mode)?));
        }
        Err(Error::NotAModel { path: path.to_owned(), found: foreign::file(path, &head) })
    }

    /// Opens a GGUF that is part of the program.
    ///
    /// # Errors
    /// What [`Gguf::parse`] refuses.
    pub fn embedded(bytes: &'static [u8]) -> Result<Self> {
        Ok(Self::Gguf(Gguf::parse("embedded model", FileBytes::from(bytes))?))
    }

    fn open_folder(path: &Path, mode: LoadMode) -> Result<Self> {
        let entries = fs::read_dir(path).map_err(Error::io(path))?;
        let names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        let has = |name: &str| names.iter().any(|n| n == name);
        if has(CONFIG) && (has(SINGLE) || has(INDEX)) {
            return Ok(Self::Folder(Folder::open(path, mode)?));
        }
        Err(Error::NotAModel { path: path.to_owned(), found: foreign::folder(&names) })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(gguf) => gguf.path(),
            Self::Folder(folder) => folder.path(),
        }
    }

    /// Bytes of all files with weights.
    pub fn file_len(&self) -> usize {
        match self {
            Self::Gguf(gguf) => gguf.file_len(),
            Self::Folder(folder) => folder.file_len(),
        }
    }
}

/// Bytes of the files with weights at a path, without opening them; 0 where there are none.
pub fn stored_bytes(path: &Path) -> usize {
    let len = |path: &Path| fs::metadata(path).map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
    if !path.is_dir() {
        return len(path);
    }
    let files = fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|f| f.extension().is_some_and(|e| e == "safetensors")).map(|f| len(&f)).sum()
}

fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    if fs::metadata(path)?.is_file() {
        File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
        return Ok(head);
    }
    Err(std::io::Error::other("neither a regular file nor a folder"))
}
