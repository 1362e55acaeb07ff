//! What can go wrong in training.

use bitnet_core::interchange::InterchangeError;
use std::{io, path::PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal or failure; the message names what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tensors, devices or memory.
    #[error(transparent)]
    Core(Box<bitnet_core::Error>),
    /// A model or a tokenizer.
    #[error(transparent)]
    Model(Box<bitnet_model::Error>),
    /// A file of a checkpoint.
    #[error(transparent)]
    File(#[from] InterchangeError),
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The configuration is not one.
    #[error("{}: {reason}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where in it and why.
        reason: String,
    },
    /// A key of the configuration says something that cannot be done.
    #[error("{key} is {value}; expected {rule}")]
    Config {
        /// Section and name.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        rule: String,
    },
    /// Text or tokens that cannot be trained on.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A checkpoint that cannot be continued from.
    #[error("{}: {what} is {found}, but this run has {expected}; {advice}", path.display())]
    Checkpoint {
        /// The folder.
        path: PathBuf,
        /// Which part.
        what: String,
        /// What the checkpoint says.
        found: String,
        /// What it would have to say.
        expected: String,
        /// What to do.
        advice: &'static str,
    },
    /// The loss or its gradient stopped being a number.
    #[error(
        "the {what} was not finite in {count} steps in a row, up to step {step}; the weights are those before them. A lower learning rate, \
         a longer warm-up or a smaller clip norm may help"
    )]
    Diverged {
        /// Loss or gradient.
        what: &'static str,
        /// How often.
        count: u32,
        /// The last step.
        step: u64,
    },
}

impl Error {
    /// Attaches a path to an error of the system.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }

    pub(crate) fn data(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Data { path: path.into(), reason: reason.into() }
    }
}

impl From<bitnet_core::Error> for Error {
    fn from(error: bitnet_core::Error) -> Self {
        Self::Core(Box::new(error))
    }
}

impl From<bitnet_model::Error> for Error {
    fn from(error: bitnet_model::Error) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<bitnet_model::tokenizer::Error> for Error {
    fn from(error: bitnet_model::tokenizer::Error) -> Self {
        bitnet_model::Error::from(error).into()
    }
}
