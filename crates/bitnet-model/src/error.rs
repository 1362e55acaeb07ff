//! What can go wrong between a path and a model.

use std::io;
use std::path::PathBuf;

use bitnet_core::interchange::InterchangeError;

use crate::weights::{foreign, gguf, safetensors};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal or failure; the message names the file and what is wrong in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// File or folder that was being read or written.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// A GGUF file breaks the format's rules or needs something that is not supported.
    #[error("{}: {refusal}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// The rule.
        refusal: Box<gguf::Refusal>,
    },
    /// A safetensors file or index breaks the format's rules.
    #[error("{}: {refusal}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The rule.
        refusal: Box<safetensors::Refusal>,
    },
    /// The bytes that were given for a tensor are not as many as its shape and type say.
    #[error(
        "{}: tensor {index} of {count} takes {expected} bytes, {given} were written",
        path.display()
    )]
    WrittenSize {
        /// The file that was being written.
        path: PathBuf,
        /// Which tensor; `count` if there were more than announced.
        index: usize,
        /// Number of tensors that were announced.
        count: usize,
        /// Bytes of the tensor.
        expected: usize,
        /// Bytes that came.
        given: usize,
    },
    /// The path leads to something else than a model.
    #[error("{}: not a model: {found}", path.display())]
    NotAModel {
        /// The file or folder.
        path: PathBuf,
        /// What it seems to be.
        found: foreign::Found,
    },
    /// An error about something inside of a file or folder.
    #[error("{}: {error}", path.display())]
    At {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong in it.
        error: Box<Error>,
    },
    /// A field of a configuration says something that no decoder here can be built from.
    #[error("{field} is {value}; expected {rule}")]
    Config {
        /// Name of the field or metadata key.
        field: String,
        /// What it says.
        value: String,
        /// What it may say.
        rule: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("tensor {name:?} is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the architecture has no place for: another model, or one with parts that would be ignored.
    #[error(
        "tensor {name:?} has no place in a {family} decoder; running the model without it would give wrong text"
    )]
    UnexpectedTensor {
        /// Its name.
        name: String,
        /// The architecture.
        family: &'static str,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor {name:?} has shape {got:?}; the configuration says {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// Outermost dimension first.
        expected: Vec<usize>,
        /// Outermost dimension first.
        got: Vec<usize>,
    },
    /// A tensor is stored in a type that does not fit its place.
    #[error("tensor {name:?} is stored as {got}; expected {expected}")]
    TensorType {
        /// Its name.
        name: String,
        /// What fits.
        expected: &'static str,
        /// The stored type.
        got: String,
    },
    /// The bytes of a tensor break the rules of their format.
    #[error("tensor {name:?}: {error}")]
    Tensor {
        /// Its name.
        name: String,
        /// The rule.
        error: bitnet_quant::Error,
    },
    /// A tensor holds a number that cannot be used.
    #[error("tensor {name:?}: value {index} is {value}; expected {rule}")]
    TensorValue {
        /// Its name.
        name: String,
        /// Which of its values.
        index: usize,
        /// What it says.
        value: f32,
        /// What it may say.
        rule: &'static str,
    },
    /// Whoever asked for the work wants it no more.
    #[error("stopped; nothing was written")]
    Stopped,
    /// The tokenizer or chat template is not what it should be.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::Error),
    /// A device refused.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
}

impl Error {
    /// Says in which file or folder it went wrong, if it does not say so yet.
    #[must_use]
    pub fn at(self, path: impl Into<PathBuf>) -> Self {
        match self {
            Self::Io { .. }
            | Self::Gguf { .. }
            | Self::Safetensors { .. }
            | Self::NotAModel { .. }
            | Self::WrittenSize { .. }
            | Self::At { .. } => self,
            error => Self::At { path: path.into(), error: Box::new(error) },
        }
    }

    /// Attaches the path to an error of the operating system.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}

impl From<InterchangeError> for Error {
    fn from(error: InterchangeError) -> Self {
        match error {
            InterchangeError::Io { path, source: error } => Self::Io { path, error },
            error => Self::Core(error.into()),
        }
    }
}
