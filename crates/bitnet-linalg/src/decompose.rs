//! Matrices as products of simpler ones.

use crate::{Error, Result, matrices::Matrices};
use bitnet_core::Tensor;
use faer::{
    Mat, MatRef, Side,
    linalg::{
        cholesky::llt::factor::LltError,
        solvers::{Llt, Svd},
    },
};

/// `a = q r` with orthonormal columns in `q` and an upper triangular `r`. `a: [..., M, N]` → `q: [..., M, K]`,
/// `r: [..., K, N]` with `K = min(M, N)`. Computed in f64 and rounded once.
///
/// # Errors
/// As for every function of [this crate](crate).
pub fn qr(a: &Tensor) -> Result<(Tensor, Tensor)> {
    let a = Matrices::read("qr", a)?;
    let (mut q, mut r) = (a.stack(&[a.rows, a.rank()]), a.stack(&[a.rank(), a.cols]));
    for (_, x) in a.iter().filter(|_| a.rank() > 0) {
        let factors = x.qr();
        q.push(factors.compute_thin_Q().as_ref());
        r.push(factors.thin_R());
    }
    Ok((q.finish()?, r.finish()?))
}

/// `a = u diag(s) vt` with orthonormal columns in `u` and rows in `vt`, and `s` descending. `a: [..., M, N]` →
/// `u: [..., M, K]`, `s: [..., K]`, `vt: [..., K, N]` with `K = min(M, N)`. Computed in f64 and rounded once.
///
/// # Errors
/// Where the iteration does not converge, and as for every function of [this crate](crate).
pub fn svd(a: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let a = Matrices::read("svd", a)?;
    let k = a.rank();
    let (mut u, mut s, mut vt) = (a.stack(&[a.rows, k]), a.stack(&[k]), a.stack(&[k, a.cols]));
    for (matrix, x) in a.iter().filter(|_| k > 0) {
        let factors = thin_svd(a.op, matrix, x)?;
        u.push(factors.U());
        s.extend(factors.S().column_vector().iter().copied());
        vt.push(factors.V().transpose());
    }
    Ok((u.finish()?, s.finish()?, vt.finish()?))
}

/// The singular values of each matrix, descending. `a: [..., M, N]` → `[..., min(M, N)]`. Computed in f64 and rounded once.
///
/// # Errors
/// As [`svd`].
pub fn svdvals(a: &Tensor) -> Result<Tensor> {
    let a = Matrices::read("svdvals", a)?;
    let mut s = a.stack(&[a.rank()]);
    for (matrix, x) in a.iter() {
        s.extend(singular_values(a.op, matrix, x)?);
    }
    s.finish()
}

/// The lower triangular `l` with positive diagonal for which `a = l lᵀ`. `a: [..., N, N]` → `[..., N, N]`. Only the lower
/// triangle of `a` is read. Computed in f64 and rounded once.
///
/// # Errors
/// Where a matrix is not square or not positive definite, and as for every function of [this crate](crate).
pub fn cholesky(a: &Tensor) -> Result<Tensor> {
    let a = Matrices::read_square("cholesky", a)?;
    let mut l = a.stack(&[a.rows, a.rows]);
    for (matrix, x) in a.iter() {
        l.push(llt(a.op, matrix, x)?.L());
    }
    l.finish()
}

/// `a = p l u` by elimination with partial pivoting: a permutation `p`, a lower triangular `l` with ones on the diagonal, an
/// upper triangular `u`. `a: [..., M, N]` → `p: [..., M, M]`, `l: [..., M, K]`, `u: [..., K, N]` with `K = min(M, N)`, as
/// `scipy.linalg.lu`. Singular matrices have zeros on the diagonal of `u`. Computed in f64 and rounded once.
///
/// # Errors
/// As for every function of [this crate](crate).
pub fn lu(a: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let a = Matrices::read("lu", a)?;
    let (m, k) = (a.rows, a.rank());
    let (mut p, mut l, mut u) = (a.stack(&[m, m]), a.stack(&[m, k]), a.stack(&[k, a.cols]));
    for (_, x) in a.iter() {
        let (from, factors) = eliminated(x);
        let lower = |i, j| if i == j { 1.0 } else { factors[(i, j)] };
        p.push(Mat::from_fn(m, m, |i, j| f64::from(u8::from(from[j] == i))).as_ref());
        l.push(Mat::from_fn(m, k, |i, j| if i < j { 0.0 } else { lower(i, j) }).as_ref());
        u.push(Mat::from_fn(k, a.cols, |i, j| if i > j { 0.0 } else { factors[(i, j)] }).as_ref());
    }
    Ok((p.finish()?, l.finish()?, u.finish()?))
}

/// Which row stands where after the exchanges, and both factors in one matrix. A column of zeros is left as it is: a library that divides
/// by every pivot makes NaN of it.
fn eliminated(x: MatRef<'_, f64>) -> (Vec<usize>, Mat<f64>) {
    let (rows, cols) = (x.nrows(), x.ncols());
    let (mut from, mut a): (Vec<usize>, _) = ((0..rows).collect(), x.to_owned());
    for k in 0..rows.min(cols) {
        let larger = |best: usize, i: usize| if a[(i, k)].abs() > a[(best, k)].abs() { i } else { best };
        let pivot = (k + 1..rows).fold(k, larger);
        from.swap(k, pivot);
        for j in 0..cols {
            (a[(k, j)], a[(pivot, j)]) = (a[(pivot, j)], a[(k, j)]);
        }
        if a[(k, k)] == 0.0 {
            continue;
        }
        for i in k + 1..rows {
            a[(i, k)] /= a[(k, k)];
            for j in k + 1..cols {
                a[(i, j)] -= a[(i, k)] * a[(k, j)];
            }
        }
    }
    (from, a)
}

pub(crate) fn thin_svd(op: &'static str, matrix: usize, x: MatRef<'_, f64>) -> Result<Svd<f64>> {
    x.thin_svd().map_err(|_| Error::NoConvergence { op, matrix })
}

/// The singular values of one matrix, descending.
pub(crate) fn singular_values(op: &'static str, matrix: usize, x: MatRef<'_, f64>) -> Result<Vec<f64>> {
    if x.nrows() == 0 || x.ncols() == 0 {
        return Ok(Vec::new());
    }
    x.singular_values().map_err(|_| Error::NoConvergence { op, matrix })
}

fn llt(op: &'static str, matrix: usize, x: MatRef<'_, f64>) -> Result<Llt<f64>> {
    let refuse =
        |LltError::NonPositivePivot { index: pivot }| Error::NotPositiveDefinite { op, matrix, pivot };
    x.llt(Side::Lower).map_err(refuse)
}
