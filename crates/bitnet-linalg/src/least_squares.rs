//! Pseudo-inverses, ranks and least squares, by the singular values that count.

use crate::{
    Error, Result,
    decompose::{singular_values, thin_svd},
    matrices::{Matrices, Pairs, Stack},
    solve::same_rows,
};
use bitnet_core::Tensor;
use faer::{Mat, MatRef, linalg::solvers::Svd};

/// The least-squares solutions of `a x = b`.
#[derive(Debug)]
pub struct Lstsq {
    /// Of all `x` with the least `|a x - b|` the shortest, `[..., N, K]`, or `[..., N]` where `b` was a vector.
    pub solution: Tensor,
    /// Rank of each `a` (int64), with the batch of `a`.
    pub rank: Tensor,
    /// Singular values of each `a`, descending, `[..., min(M, N)]`.
    pub singular_values: Tensor,
}

/// The Moore-Penrose inverse of each matrix. Singular values up to `rcond` times the largest count as zero; without `rcond`
/// it is `max(M, N)` times the epsilon of f32. `a: [..., M, N]` → `[..., N, M]`. Computed in f64 and rounded once.
///
/// # Errors
/// Where `rcond` is negative or NaN, the iteration does not converge, and as for every function of [this crate](crate).
pub fn pinv(a: &Tensor, rcond: Option<f64>) -> Result<Tensor> {
    let a = Matrices::read("pinv", a)?;
    let rcond = tolerance(a.op, rcond)?.unwrap_or_else(|| resolution(&a));
    let mut y = a.stack(&[a.cols, a.rows]);
    for (matrix, x) in a.iter().filter(|_| a.rank() > 0) {
        let factors = thin_svd(a.op, matrix, x)?;
        y.push(apply_inverse(&factors, rcond, Mat::<f64>::identity(a.rows, a.rows).as_ref()).as_ref());
    }
    y.finish()
}

/// Number of singular values above `tol`, which is absolute; without it, above the largest times `max(M, N)` times the epsilon
/// of f32. `a: [..., M, N]` → int64 `[...]`.
///
/// # Errors
/// Where `tol` is negative or NaN, the iteration does not converge, and as for every function of [this crate](crate).
pub fn matrix_rank(a: &Tensor, tol: Option<f64>) -> Result<Tensor> {
    let a = Matrices::read("matrix_rank", a)?;
    let tol = tolerance(a.op, tol)?;
    let rank = |(matrix, x)| {
        let s = singular_values(a.op, matrix, x)?;
        let tol = tol.unwrap_or_else(|| largest(&s) * resolution(&a));
        Ok(count_above(&s, tol))
    };
    a.integers(&a.iter().map(rank).collect::<Result<Vec<_>>>()?)
}

/// The `x` with the least `|a x - b|`, of several the shortest. `a: [..., M, N]`; `b: [M]` is one vector, `b: [..., M, K]` are
/// matrices; the leading dimensions broadcast. `rcond` as in [`pinv`]. Computed in f64 and rounded once.
///
/// # Errors
/// Where the shapes do not fit, and as [`pinv`].
pub fn lstsq(a: &Tensor, b: &Tensor, rcond: Option<f64>) -> Result<Lstsq> {
    let op = "lstsq";
    let (device, one) = (a.device(), b.shape().rank() == 1);
    let (a, b) =
        (Matrices::read(op, a)?, if one { Matrices::read_vector(op, b)? } else { Matrices::read(op, b)? });
    same_rows(&a, &b)?;
    let rcond = tolerance(op, rcond)?.unwrap_or_else(|| resolution(&a));
    let pairs = Pairs::new(op, &a.batch, &b.batch)?;
    let factors = a.iter().filter(|_| a.rank() > 0).map(|(matrix, x)| thin_svd(op, matrix, x));
    let factors = factors.collect::<Result<Vec<_>>>()?;
    let inner = if one { vec![a.cols] } else { vec![a.cols, b.cols] };
    let mut solution = Stack::new(device, &pairs.batch, &inner);
    for (i, j) in pairs.indices {
        let zero = || Mat::zeros(a.cols, b.cols);
        solution.push(factors.get(i).map_or_else(zero, |f| apply_inverse(f, rcond, b.get(j))).as_ref());
    }
    let (mut singular_values, mut rank) = (a.stack(&[a.rank()]), vec![0; a.len()]);
    for (factors, rank) in factors.iter().zip(&mut rank) {
        let s: Vec<f64> = factors.S().column_vector().iter().copied().collect();
        *rank = count_above(&s, largest(&s) * rcond);
        singular_values.extend(s);
    }
    Ok(Lstsq {
        solution: solution.finish()?,
        rank: a.integers(&rank)?,
        singular_values: singular_values.finish()?,
    })
}

/// `v diag(1/s) uᵀ b` over the singular values that count.
fn apply_inverse(factors: &Svd<f64>, rcond: f64, b: MatRef<'_, f64>) -> Mat<f64> {
    let s = factors.S().column_vector();
    let cutoff = s.iter().copied().fold(0.0, f64::max) * rcond;
    let mut y = factors.U().transpose() * b;
    for (i, &s) in s.iter().enumerate() {
        y.row_mut(i).iter_mut().for_each(|x| *x = if s > cutoff { *x / s } else { 0.0 });
    }
    factors.V() * y
}

fn largest(s: &[f64]) -> f64 {
    s.first().copied().unwrap_or(0.0)
}

fn count_above(s: &[f64], tol: f64) -> i64 {
    s.iter().filter(|&&s| s > tol).count() as i64
}

/// What the rounding of f32 elements can do to singular values, relative to the largest.
fn resolution(a: &Matrices) -> f64 {
    a.rows.max(a.cols) as f64 * f64::from(f32::EPSILON)
}

fn tolerance(op: &'static str, tolerance: Option<f64>) -> Result<Option<f64>> {
    match tolerance {
        Some(tolerance) if tolerance.is_nan() || tolerance < 0.0 => Err(Error::Tolerance { op, tolerance }),
        _ => Ok(tolerance),
    }
}
