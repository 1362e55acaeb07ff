//! Why there is no report.

use std::path::{Path, PathBuf};
use std::{io, process::ExitStatus};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what its name promises.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it ends to make sense.
        source: serde_json::Error,
    },
    /// A receipt of another version.
    #[error("{}: a receipt of schema {got}; this program reads schema {expected}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is understood.
        expected: u32,
        /// What is there.
        got: u32,
    },
    /// Times that no clock gives.
    #[error("{}: {id}: expected samples that are positive numbers", path.display())]
    Samples {
        /// The file or folder.
        path: PathBuf,
        /// The benchmark.
        id: String,
    },
    /// No benchmark has left a result.
    #[error("{}: no results of criterion; run the benchmarks, or give another filter", path.display())]
    NoResults {
        /// Where results were looked for.
        path: PathBuf,
    },
    /// Two receipts that share no benchmark.
    #[error("the receipts have no benchmark in common: {before} benchmarks before, {after} after")]
    NothingInCommon {
        /// Benchmarks of the first.
        before: usize,
        /// Benchmarks of the second.
        after: usize,
    },
    /// The machine cannot be measured.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// The benchmarks did not come to their end.
    #[error("cargo bench: {status}")]
    Bench {
        /// How it ended.
        status: ExitStatus,
    },
}

/// Result of making a report.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the system says of a path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<'_> {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// What the parser says of a file.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + use<'_> {
        move |source| Self::Json { path: path.to_owned(), source }
    }
}
