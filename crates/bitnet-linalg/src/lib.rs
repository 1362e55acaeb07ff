//! Linear algebra on stacks of matrices, named and defined as in `numpy.linalg`.
//!
//! An operand is an f32 tensor `[..., M, N]`; the leading dimensions count independent matrices. Every matrix is widened to
//! f64, worked on by one thread and rounded to f32 once, at the end, so that results depend neither on the number of threads
//! nor on the place in the batch. A result beyond the range of f32 is an infinity. The decompositions but `lu` are those of the crate
//! faer. Results record no gradients. Signs (and, for equal values, order) of singular and eigenvectors are those that the decomposition happens to find.
//!
//! Every function refuses elements that are not f32, fewer than two dimensions, and elements that are NaN or infinite.

mod decompose;
mod eigen;
mod error;
mod least_squares;
mod matrices;
mod norm;
mod solve;

pub use decompose::{cholesky, lu, qr, svd, svdvals};
pub use eigen::{Eig, eig, eigh};
pub use error::{Error, Result};
pub use least_squares::{Lstsq, lstsq, matrix_rank, pinv};
pub use norm::{MatrixNorm, cond, matrix_norm};
pub use solve::{det, inverse, slogdet, solve};
