//! Errors of linear algebra.

use bitnet_core::{DType, Shape};

/// Why a matrix was refused. `matrix` counts the matrices of the batch in row-major order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The elements are not f32.
    #[error("{op}: expected float32 elements, got {got}; cast the tensor to float32 first")]
    NotF32 {
        /// The op.
        op: &'static str,
        /// What it was given.
        got: DType,
    },
    /// The tensor has fewer than two dimensions.
    #[error("{op}: expected matrices [..., M, N], got shape {got}")]
    NotMatrices {
        /// The op.
        op: &'static str,
        /// What it was given.
        got: Shape,
    },
    /// The matrices are not square.
    #[error("{op}: expected square matrices [..., N, N], got shape {got}")]
    NotSquare {
        /// The op.
        op: &'static str,
        /// What it was given.
        got: Shape,
    },
    /// The matrices have no elements and the op has no meaning for them.
    #[error("{op}: not defined for matrices without elements, got shape {got}")]
    Empty {
        /// The op.
        op: &'static str,
        /// What it was given.
        got: Shape,
    },
    /// An element is NaN or infinite.
    #[error("{op}: element [{row}, {col}] of matrix {matrix} is {value}; expected finite numbers")]
    NotFinite {
        /// The op.
        op: &'static str,
        /// Which matrix.
        matrix: usize,
        /// Its row.
        row: usize,
        /// Its column.
        col: usize,
        /// What is there.
        value: f32,
    },
    /// A matrix has no inverse, or none that f64 can tell from rounding.
    #[error("{op}: matrix {matrix} is singular: pivot {pivot} is {value:e}, which is zero up to rounding")]
    Singular {
        /// The op.
        op: &'static str,
        /// Which matrix.
        matrix: usize,
        /// Which pivot, counted from 0.
        pivot: usize,
        /// Its value.
        value: f64,
    },
    /// A matrix is not positive definite.
    #[error("{op}: matrix {matrix} is not positive definite: pivot {pivot} is not positive")]
    NotPositiveDefinite {
        /// The op.
        op: &'static str,
        /// Which matrix.
        matrix: usize,
        /// Which pivot, counted from 0.
        pivot: usize,
    },
    /// An iteration did not converge.
    #[error("{op}: matrix {matrix}: the iteration did not converge")]
    NoConvergence {
        /// The op.
        op: &'static str,
        /// Which matrix.
        matrix: usize,
    },
    /// A tolerance is negative or NaN.
    #[error("{op}: the tolerance {tolerance} is negative or not a number")]
    Tolerance {
        /// The op.
        op: &'static str,
        /// What was asked for.
        tolerance: f64,
    },
    /// The shapes do not fit together, or a result could not be stored.
    #[error(transparent)]
    Tensor(#[from] bitnet_core::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
