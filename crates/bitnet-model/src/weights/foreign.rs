//! Recognises what people pass instead of a model, so that the refusal can say what to do.

use std::fmt;
use std::path::Path;

/// What a path that is not a model seems to be; its text says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// No bytes at all.
    Empty,
    /// The text that stands for a file in Git LFS.
    LfsPointer,
    /// A web page: usually an error or login page under the name of a download.
    WebPage,
    /// Python pickle, or PyTorch's archive around one: reading it can run code.
    Pickle,
    /// An ONNX graph.
    Onnx,
    /// A GGML file from before GGUF.
    OldGgml,
    /// A compressed file.
    Compressed,
    /// Keras or HDF5 weights.
    Hdf5,
    /// A NumPy array or archive of arrays.
    Numpy,
    /// A safetensors file without its folder.
    Safetensors,
    /// A JSON file beside the model.
    Json,
    /// A folder with weights but without `config.json`.
    NoConfig,
    /// A folder whose only weights are pickles.
    PickleFolder,
    /// A folder of GGUF files.
    GgufFolder,
    /// A folder with `config.json` and no weights.
    NoWeights,
    /// A folder without anything that belongs to a model.
    OtherFolder,
    /// None of the above.
    Other,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the file is empty; download it again",
            Self::LfsPointer => {
                "a Git LFS pointer, not the file itself; run `git lfs pull` where it was cloned"
            }
            Self::WebPage => "a web page, probably an error page; download the file again",
            Self::Pickle => "a Python pickle, which can run code; save the weights as .safetensors",
            Self::Onnx => "an ONNX graph; use the model's safetensors or GGUF files",
            Self::OldGgml => "a GGML file older than GGUF; convert the original checkpoint again",
            Self::Compressed => "a compressed file; unpack it first",
            Self::Hdf5 => "an HDF5 file; save the weights as .safetensors",
            Self::Numpy => "a NumPy file; save the weights as .safetensors",
            Self::Safetensors => {
                "a safetensors file alone; pass the folder that holds it, its config.json and its tokenizer"
            }
            Self::Json => "a JSON file; pass the folder that it is in",
            Self::NoConfig => "the folder has weights but no config.json; download that too",
            Self::PickleFolder => {
                "the folder's weights are Python pickles, which can run code; save them as .safetensors"
            }
            Self::GgufFolder => "the folder has GGUF files; pass one of them",
            Self::NoWeights => "the folder has a config.json but neither model.safetensors nor its index",
            Self::OtherFolder => "the folder has neither config.json nor weights",
            Self::Other => "expected a GGUF file, or a folder with config.json and .safetensors files",
        })
    }
}

const MAGIC: [(&[u8], Found); 16] = [
    (b"version https://git-lfs", Found::LfsPointer),
    (b"PK\x03\x04", Found::Pickle),
    (b"\x80\x02", Found::Pickle),
    (b"\x80\x03", Found::Pickle),
    (b"\x80\x04", Found::Pickle),
    (b"\x80\x05", Found::Pickle),
    (b"lmgg", Found::OldGgml),
    (b"fmgg", Found::OldGgml),
    (b"tjgg", Found::OldGgml),
    (b"\x1f\x8b", Found::Compressed),
    (b"\x28\xb5\x2f\xfd", Found::Compressed),
    (b"\xfd7zXZ", Found::Compressed),
    (b"\x89HDF", Found::Hdf5),
    (b"\x93NUMPY", Found::Numpy),
    (b"{", Found::Json),
    (b"[", Found::Json),
];

/// Names a file that is neither GGUF nor safetensors from its name and first bytes.
pub(super) fn file(path: &Path, head: &[u8]) -> Found {
    if head.is_empty() {
        return Found::Empty;
    }
    let named = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    if named("onnx") {
        return Found::Onnx;
    }
    if named("npz") {
        return Found::Numpy;
    }
    let text = head.trim_ascii_start();
    if text.starts_with(b"<") {
        return Found::WebPage;
    }
    MAGIC
        .iter()
        .find(|(magic, found)| head.starts_with(magic) || (*found == Found::Json && text.starts_with(magic)))
        .map(|&(_, found)| found)
        .or_else(|| (head.get(8) == Some(&b'{')).then_some(Found::Safetensors))
        .unwrap_or(Found::Other)
}

/// Names a folder that is not a checkpoint from the names in it.
pub(super) fn folder(names: &[String]) -> Found {
    let any = |extensions: &[&str]| {
        names.iter().any(|name| {
            Path::new(name).extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e))
        })
    };
    let config = names.iter().any(|name| name == "config.json");
    if any(&["safetensors"]) && !config {
        Found::NoConfig
    } else if any(&["gguf"]) {
        Found::GgufFolder
    } else if any(&["bin", "pt", "pth", "ckpt"]) {
        Found::PickleFolder
    } else if config {
        Found::NoWeights
    } else {
        Found::OtherFolder
    }
}
