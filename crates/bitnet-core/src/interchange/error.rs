//! Errors of reading and writing the formats of others.

use crate::dtype::DType;
use std::path::PathBuf;

/// Why a file or an array was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterchangeError {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is longer than what is read.
    #[error("{what}: {bytes} bytes; the limit is {limit}")]
    TooLong {
        /// What is too long.
        what: String,
        /// How long it is.
        bytes: u128,
        /// How long it may be.
        limit: u64,
    },
    /// The bytes do not start as a `.npy` file does.
    #[error("not a .npy file: it does not start with \\x93NUMPY")]
    NotNpy,
    /// A `.npy` file of another version.
    #[error("version {major} of the .npy format; 1, 2 and 3 are known")]
    NpyVersion {
        /// The version.
        major: u8,
    },
    /// A field of the header of a `.npy` file is wrong.
    #[error("the field `{field}` of the .npy header: {reason}")]
    NpyField {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The elements are not as many as the header says.
    #[error("the field `shape` of the .npy header asks for {wanted} bytes of elements, the file has {got}")]
    NpyLength {
        /// Bytes that the shape needs.
        wanted: usize,
        /// Bytes that follow the header.
        got: usize,
    },
    /// An element has no exact value of the element type that it is read as.
    #[error("element {index} is {value}, which {dtype} cannot hold exactly")]
    Lossy {
        /// Which one, in the order of the file.
        index: usize,
        /// Its value.
        value: String,
        /// The element type.
        dtype: DType,
    },
    /// The format has no name for an element type.
    #[error("{format} has no {dtype}; cast the tensor first")]
    NoEquivalent {
        /// The format.
        format: &'static str,
        /// The element type.
        dtype: DType,
    },
    /// More dimensions than a tensor can have.
    #[error("{rank} dimensions; a tensor has at most {max}")]
    Rank {
        /// How many.
        rank: usize,
        /// How many there may be.
        max: usize,
    },
    /// Extents whose product overflows.
    #[error("the extents {dims:?} are more than can be counted")]
    Extents {
        /// The extents.
        dims: Vec<usize>,
    },
    /// Two arrays of one name.
    #[error("the name {name:?} is given twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// One array of many is refused.
    #[error("{name:?}: {source}")]
    Member {
        /// Its name.
        name: String,
        /// Why.
        source: Box<crate::Error>,
    },
    /// A file in an archive that is no array.
    #[error("{name:?} is not a .npy file")]
    NotAnArray {
        /// Its name.
        name: String,
    },
    /// An archive is not as it should be.
    #[error("the .npz archive: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// A safetensors file is not as it should be.
    #[error("the safetensors header: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// An element type that tensors do not have.
    #[error("element type {dtype} is none that tensors have")]
    UnknownDType {
        /// Its name in the file.
        dtype: String,
    },
    /// A device that DLPack has no number for.
    #[error("DLPack has no device type for {device}")]
    UnknownDevice {
        /// Name of the device.
        device: String,
    },
}

impl InterchangeError {
    /// Attaches the path to an error of the operating system.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
