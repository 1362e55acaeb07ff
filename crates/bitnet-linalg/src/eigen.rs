//! Eigenvalues and eigenvectors.

use crate::{Error, Result, matrices::Matrices};
use bitnet_core::Tensor;
use faer::{Side, c64, linalg::solvers::Eigen};

/// Eigenvalues and right eigenvectors of real matrices, which may be complex: `a (vectors) = (vectors) diag(values)`.
#[derive(Debug)]
pub struct Eig {
    /// Real parts of the eigenvalues, `[..., N]`.
    pub re: Tensor,
    /// Imaginary parts of the eigenvalues, `[..., N]`.
    pub im: Tensor,
    /// Real parts of the eigenvectors, `[..., N, N]`; a column belongs to an eigenvalue and has unit length.
    pub vectors_re: Tensor,
    /// Imaginary parts of the eigenvectors, `[..., N, N]`.
    pub vectors_im: Tensor,
}

/// Eigenvalues, ascending, and orthonormal eigenvectors of symmetric matrices: `a v = v diag(w)`. `a: [..., N, N]` →
/// `w: [..., N]`, `v: [..., N, N]`. Only the lower triangle of `a` is read. Computed in f64 and rounded once.
///
/// # Errors
/// Where a matrix is not square or the iteration does not converge, and as for every function of [this crate](crate).
pub fn eigh(a: &Tensor) -> Result<(Tensor, Tensor)> {
    let a = Matrices::read_square("eigh", a)?;
    let (mut w, mut v) = (a.stack(&[a.rows]), a.stack(&[a.rows, a.rows]));
    for (matrix, x) in a.iter().filter(|_| a.rows > 0) {
        let failed = |_| Error::NoConvergence { op: a.op, matrix };
        let factors = x.self_adjoint_eigen(Side::Lower).map_err(failed)?;
        w.extend(factors.S().column_vector().iter().copied());
        v.push(factors.U());
    }
    Ok((w.finish()?, v.finish()?))
}

/// Eigenvalues and eigenvectors of any square matrices, in the order in which they are found; complex ones come in
/// neighbouring conjugate pairs. `a: [..., N, N]`. Computed in f64 and rounded once.
///
/// # Errors
/// Where a matrix is not square or the iteration does not converge, and as for every function of [this crate](crate).
pub fn eig(a: &Tensor) -> Result<Eig> {
    let a = Matrices::read_square("eig", a)?;
    let n = a.rows;
    let (mut re, mut im) = (a.stack(&[n]), a.stack(&[n]));
    let (mut vectors_re, mut vectors_im) = (a.stack(&[n, n]), a.stack(&[n, n]));
    for (matrix, x) in a.iter().filter(|_| n > 0) {
        let factors = x.eigen().map_err(|_| Error::NoConvergence { op: a.op, matrix })?;
        let values = factors.S().column_vector();
        re.extend(values.iter().map(|z| z.re));
        im.extend(values.iter().map(|z| z.im));
        let vectors = unit_columns(&factors);
        vectors_re.extend(vectors.iter().map(|z| z.re));
        vectors_im.extend(vectors.iter().map(|z| z.im));
    }
    let [re, im] = [re.finish()?, im.finish()?];
    Ok(Eig { re, im, vectors_re: vectors_re.finish()?, vectors_im: vectors_im.finish()? })
}

/// The eigenvectors row by row, each divided by its length.
fn unit_columns(factors: &Eigen<f64>) -> Vec<c64> {
    let vectors = factors.U();
    let lengths: Vec<f64> = vectors.col_iter().map(|v| v.norm_l2()).collect();
    vectors
        .row_iter()
        .flat_map(|row| row.iter().zip(&lengths).map(|(z, n)| z / n).collect::<Vec<_>>())
        .collect()
}
