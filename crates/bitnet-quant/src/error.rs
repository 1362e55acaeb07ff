//! Errors of this crate.

use crate::Format;

/// Why bytes, codes or floats were refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The format cannot hold a matrix of this shape.
    #[error("{format} cannot hold {rows} x {cols} values: expected {rule}")]
    Shape {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// What shapes it can hold.
        rule: &'static str,
    },
    /// A slice has the wrong length.
    #[error("{format}: expected {expected} {what}, got {got}")]
    Length {
        /// The format.
        format: Format,
        /// What was counted.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A two-bit field holds 3, which stands for no ternary value.
    #[error("{format}: byte {byte} holds code 3, which no ternary weight has (damaged, or another layout)")]
    Code {
        /// The format.
        format: Format,
        /// Which byte.
        byte: usize,
    },
    /// A scale cannot be used.
    #[error("{format}: scale {index} is {value}; expected {rule}")]
    Scale {
        /// The format.
        format: Format,
        /// Which scale.
        index: usize,
        /// Its value.
        value: f32,
        /// What it may be.
        rule: &'static str,
    },
    /// The format has fewer scales than the matrix has different ones.
    #[error("{format} holds one scale {holds}, but this matrix has one {has}; choose another format")]
    Scales {
        /// The format.
        format: Format,
        /// What one scale of the format belongs to.
        holds: &'static str,
        /// What one scale of the matrix belongs to.
        has: &'static str,
    },
    /// The format does not do what was asked of it.
    #[error("{format}: {what} is not defined")]
    Undefined {
        /// The format.
        format: Format,
        /// What was asked.
        what: &'static str,
    },
    /// No format has this name.
    #[error("unknown format `{name}`; expected one of {known}")]
    Name {
        /// What was asked for.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
