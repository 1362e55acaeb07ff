//! Fixtures with something changed.

use super::testdata;
use bitnet_model::{
    Checkpoint, Error,
    checkpoint::Options,
    weights::{
        LoadMode,
        gguf::{Gguf, Metadata, Spec, Writer},
    },
};
use std::{fs, path::Path};
use tempfile::TempDir;

/// Tensors with their bytes, in the order of the file.
pub type Tensors = Vec<(Spec, Vec<u8>)>;

/// Writes a fixture again with changed metadata and tensors.
pub fn write_changed(fixture: &str, path: &Path, change: impl FnOnce(&mut Metadata, &mut Tensors)) {
    let source = Gguf::open(testdata(fixture), LoadMode::Mmap).unwrap();
    let mut metadata = source.metadata().clone();
    let bytes = |t| source.bytes(t).as_bytes().to_vec();
    let mut tensors: Tensors = source.tensors().iter().map(|t| (Spec::from(t), bytes(t))).collect();
    change(&mut metadata, &mut tensors);
    let specs: Vec<Spec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let mut writer = Writer::create(path, &metadata, &specs).unwrap();
    tensors.iter().for_each(|(_, bytes)| writer.tensor(bytes).unwrap());
    writer.finish().unwrap();
}

/// As [`write_changed`], and opens it.
pub fn changed(fixture: &str, change: impl FnOnce(&mut Metadata, &mut Tensors)) -> Result<Checkpoint, Error> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("changed.gguf");
    write_changed(fixture, &path, change);
    Checkpoint::open(&path, Options { load_mode: LoadMode::Read, ..Options::default() })
}

/// A copy of a folder with another `config.json`.
pub fn folder(
    fixture: &str,
    change: impl FnOnce(&mut serde_json::Value),
    into: &Path,
) -> Result<Checkpoint, Error> {
    for entry in fs::read_dir(testdata(fixture)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, into.join(path.file_name().unwrap())).unwrap();
    }
    let path = into.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    // The goldens beside a fixture are no weights.
    for name in ["golden.safetensors", "trace.safetensors"] {
        let _ = fs::remove_file(into.join(name));
    }
    Checkpoint::open(into, Options::default())
}
