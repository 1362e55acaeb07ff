//! A Hugging Face folder: `config.json` beside `model.safetensors`, or beside shards and their index.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value};

use super::{Refusal, TensorInfo, parse_header, parse_index};
use crate::weights::mmap::{FileBytes, FileSlice, LoadMode, regular_file};
use crate::{Error, Result};

/// Longest index and `config.json` that are read; real ones are a few hundred kilobytes at most.
const MAX_JSON: usize = 32 << 20;
pub(in crate::weights) const CONFIG: &str = "config.json";
pub(in crate::weights) const SINGLE: &str = "model.safetensors";
pub(in crate::weights) const INDEX: &str = "model.safetensors.index.json";

/// A tensor of a folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Type of the values.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its bytes, little-endian; they need not be aligned for the type.
    pub bytes: FileSlice,
}

/// An opened folder: headers are checked and in memory, tensor data is in the files.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    config_text: String,
    config: Map<String, Value>,
    tensors: HashMap<String, Entry>,
    /// Names in the order of the files.
    names: Vec<String>,
    file_len: usize,
}

impl Folder {
    /// Opens a folder.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Safetensors`] with the rule that a file or the index breaks.
    pub fn open(path: impl AsRef<Path>, mode: LoadMode) -> Result<Self> {
        let path = path.as_ref();
        let config_path = path.join(CONFIG);
        let config_text = read_text(&config_path)?;
        // Its depth is bounded by the parser.
        let config =
            serde_json::from_str(&config_text).map_err(|e| refuse(config_path, Refusal::Config(e)))?;
        let (tensors, names) = (HashMap::new(), Vec::new());
        let mut folder = Self { path: path.to_owned(), config_text, config, tensors, names, file_len: 0 };
        let index = path.join(INDEX);
        if index.exists() {
            folder.open_shards(&index, mode)?;
        } else {
            folder.open_file(&path.join(SINGLE), mode)?;
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The fields of `config.json`.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The text of `config.json`, which is an object of bounded size and depth.
    pub fn config_text(&self) -> &str {
        &self.config_text
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// All names in the order of the files.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Bytes of all tensor files.
    pub fn file_len(&self) -> usize {
        self.file_len
    }

    fn open_shards(&mut self, index: &Path, mode: LoadMode) -> Result<()> {
        let shards = parse_index(&read_text(index)?).map_err(|refusal| refuse(index, refusal))?;
        if !shards.contains_key(SINGLE) && self.path.join(SINGLE).exists() {
            return Err(refuse(index, Refusal::TwoModels));
        }
        for (shard, tensors) in shards {
            let file = self.path.join(&shard);
            if !file.exists() {
                let tensor = tensors.into_iter().next().unwrap_or_default();
                return Err(refuse(index, Refusal::MissingShard { shard, tensor }));
            }
            let found = self.open_file(&file, mode)?;
            check_shard(shard, &tensors, &found).map_err(|refusal| refuse(index, refusal))?;
        }
        Ok(())
    }

    /// Adds the tensors of a file and returns their names.
    fn open_file(&mut self, path: &Path, mode: LoadMode) -> Result<BTreeSet<String>> {
        let file = FileBytes::open(path, mode)?;
        let infos = parse_header(&file).map_err(|refusal| refuse(path, refusal))?;
        let found = infos.iter().map(|info| info.name.clone()).collect();
        for TensorInfo { name, shape, dtype, range } in infos {
            self.names.push(name.clone());
            self.tensors.insert(name, Entry { dtype, shape, bytes: file.slice(range) });
        }
        self.file_len += file.len();
        Ok(found)
    }
}

/// A shard holds what the index says and nothing else; so no tensor is in two shards.
fn check_shard(shard: String, said: &BTreeSet<String>, found: &BTreeSet<String>) -> Result<(), Refusal> {
    if let Some(tensor) = said.difference(found).next() {
        return Err(Refusal::NotInShard { tensor: tensor.clone(), shard });
    }
    match found.difference(said).next() {
        Some(tensor) => Err(Refusal::NotInIndex { tensor: tensor.clone(), shard }),
        None => Ok(()),
    }
}

fn refuse(path: impl Into<PathBuf>, refusal: Refusal) -> Error {
    Error::Safetensors { path: path.into(), refusal: Box::new(refusal) }
}

/// Reads a text file of bounded length.
fn read_text(path: &Path) -> Result<String> {
    let file = regular_file(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_JSON as u64 + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() > MAX_JSON {
        return Err(refuse(path, Refusal::JsonTooLong { limit: MAX_JSON }));
    }
    String::from_utf8(bytes).map_err(|_| refuse(path, Refusal::NotUtf8))
}
