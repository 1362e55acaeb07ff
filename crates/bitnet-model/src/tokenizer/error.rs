//! Errors of this module.

use crate::template;
use std::path::PathBuf;

/// Why a tokenizer was refused, or a text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
    /// A file is larger than any real one.
    #[error("{}: {bytes} bytes; the limit is {limit}", path.display())]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file is not what its name says.
    #[error("{file}: {reason}")]
    Json {
        /// The file.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Part of a tokenizer is of a kind that is not known here.
    #[error("{field} is {value}; expected {expected}")]
    Unknown {
        /// Field of the file, or metadata key.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// A metadata key is missing.
    #[error("metadata key {key:?} is missing; {fix}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// Two lists of a vocabulary have different lengths.
    #[error("{key} has {got} entries; expected {expected}, one for each token")]
    Count {
        /// The key.
        key: &'static str,
        /// Tokens of the vocabulary.
        expected: usize,
        /// Entries of the list.
        got: usize,
    },
    /// A token is longer than any real one.
    #[error("token {id} is {bytes} bytes long; the limit is {limit}")]
    TokenTooLong {
        /// The token.
        id: usize,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Two tokens have one text.
    #[error("tokens {first} and {second} have the same text {text:?}")]
    Duplicate {
        /// One of them.
        first: u32,
        /// The other.
        second: u32,
        /// Their text.
        text: String,
    },
    /// A byte token does not name a byte.
    #[error("token {id}, {text:?}, is marked as a byte; expected <0x00> to <0xFF>")]
    ByteToken {
        /// The token.
        id: usize,
        /// Its text.
        text: String,
    },
    /// A merge names a token that does not exist.
    #[error("merge {index}, {merge:?}, names a token that is not in the vocabulary")]
    Merge {
        /// Which merge.
        index: usize,
        /// Its text.
        merge: String,
    },
    /// An id lies outside of the vocabulary.
    #[error("{key} is {id}, but the vocabulary has {len} tokens")]
    Id {
        /// The key.
        key: &'static str,
        /// What it says.
        id: u32,
        /// Tokens of the vocabulary.
        len: usize,
    },
    /// A text is too long.
    #[error("a text of {bytes} bytes; the limit is {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A text has more whitespace in a row than the splitter can take.
    #[error("{run} whitespace characters in a row; the limit is {limit}")]
    Blank {
        /// How many.
        run: usize,
        /// The limit.
        limit: usize,
    },
    /// A text that would become a control token however it is cut.
    #[error("the text {word:?} is a control token of this model and nothing else")]
    ControlWord {
        /// The text.
        word: String,
    },
    /// Merging failed.
    #[error("the text cannot be encoded: {reason}")]
    Encode {
        /// What the library says.
        reason: String,
    },
    /// The model has no chat template.
    #[error("the model has no chat template; use `bitnet run`, or a model that was trained for chat")]
    NoTemplate,
    /// The chat template is broken or refuses.
    #[error(transparent)]
    Template(#[from] template::Error),
}
