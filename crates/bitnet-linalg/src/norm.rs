//! Norms and condition numbers of matrices.

use crate::{Error, Result, decompose::singular_values, matrices::Matrices};
use bitnet_core::Tensor;
use faer::MatRef;

/// A norm of matrices, as the `ord` of `numpy.linalg.matrix_norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixNorm {
    /// Square root of the sum of squares.
    Frobenius,
    /// Sum of the singular values.
    Nuclear,
    /// Largest singular value.
    Two,
    /// Largest sum of absolute values in a column.
    One,
    /// Largest sum of absolute values in a row.
    Infinity,
}

/// A norm of each matrix; 0 for one without elements. `a: [..., M, N]` → `[...]`. Computed in f64 and rounded once.
///
/// # Errors
/// Where the iteration for singular values does not converge, and as for every function of [this crate](crate).
pub fn matrix_norm(a: &Tensor, norm: MatrixNorm) -> Result<Tensor> {
    let a = Matrices::read("matrix_norm", a)?;
    let mut y = a.stack(&[]);
    for (matrix, x) in a.iter() {
        y.extend([match norm {
            MatrixNorm::Frobenius => x.norm_l2(),
            MatrixNorm::Nuclear => singular_values(a.op, matrix, x)?.iter().sum(),
            MatrixNorm::Two => singular_values(a.op, matrix, x)?.first().copied().unwrap_or(0.0),
            MatrixNorm::One => largest_column(x),
            MatrixNorm::Infinity => largest_column(x.transpose()),
        }]);
    }
    y.finish()
}

/// Largest over smallest singular value of each matrix; infinite where the smallest is 0. `a: [..., M, N]` → `[...]`. Computed
/// in f64 and rounded once.
///
/// # Errors
/// Where the matrices have no elements, the iteration does not converge, and as for every function of [this crate](crate).
pub fn cond(a: &Tensor) -> Result<Tensor> {
    let shape = a.shape();
    let a = Matrices::read("cond", a)?;
    if a.rank() == 0 {
        return Err(Error::Empty { op: a.op, got: shape });
    }
    let mut y = a.stack(&[]);
    for (matrix, x) in a.iter() {
        let s = singular_values(a.op, matrix, x)?;
        let (largest, smallest) = (s[0], s[s.len() - 1]);
        y.extend([if smallest == 0.0 { f64::INFINITY } else { largest / smallest }]);
    }
    y.finish()
}

fn largest_column(x: MatRef<'_, f64>) -> f64 {
    x.col_iter().map(|col| col.iter().map(|x| x.abs()).sum()).fold(0.0, f64::max)
}
