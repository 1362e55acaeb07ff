//! Linear systems, inverses and determinants, by elimination with partial pivoting.

use crate::{
    Error, Result,
    matrices::{Matrices, Pairs, Stack},
};
use bitnet_core::{Shape, Tensor};
use faer::{
    MatRef,
    linalg::solvers::{DenseSolveCore, PartialPivLu, Solve},
};

/// The `x` for which `a x = b`. `a: [..., N, N]`; `b: [N]` is one vector, `b: [..., N, K]` are matrices; the leading
/// dimensions broadcast, as in `numpy.linalg.solve`. Returns `[..., N]` or `[..., N, K]`. Computed in f64 and rounded once.
///
/// # Errors
/// Where a matrix is not square or is singular (also where a pivot is nothing but the rounding errors that made it, for which
/// NumPy returns noise), the shapes do not fit, and as for every function of [this crate](crate).
pub fn solve(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let op = "solve";
    let device = a.device();
    let one = b.shape().rank() == 1;
    let (a, b) = (
        Matrices::read_square(op, a)?,
        if one { Matrices::read_vector(op, b)? } else { Matrices::read(op, b)? },
    );
    same_rows(&a, &b)?;
    let pairs = Pairs::new(op, &a.batch, &b.batch)?;
    let factors: Vec<_> = a.iter().map(|(matrix, x)| regular(op, matrix, x)).collect::<Result<_>>()?;
    let inner = if one { vec![b.rows] } else { vec![b.rows, b.cols] };
    let mut y = Stack::new(device, &pairs.batch, &inner);
    for (i, j) in pairs.indices {
        y.push(factors[i].solve(b.get(j)).as_ref());
    }
    y.finish()
}

/// The inverse of each matrix. `a: [..., N, N]` → `[..., N, N]`. Computed in f64 and rounded once.
///
/// # Errors
/// As [`solve`].
pub fn inverse(a: &Tensor) -> Result<Tensor> {
    let a = Matrices::read_square("inverse", a)?;
    let mut y = a.stack(&[a.rows, a.rows]);
    for (matrix, x) in a.iter() {
        y.push(regular(a.op, matrix, x)?.inverse().as_ref());
    }
    y.finish()
}

/// The determinant of each matrix. `a: [..., N, N]` → `[...]`. Computed in f64 and rounded once; that of a matrix `[0, 0]` is 1.
///
/// # Errors
/// Where a matrix is not square, and as for every function of [this crate](crate).
pub fn det(a: &Tensor) -> Result<Tensor> {
    let a = Matrices::read_square("det", a)?;
    let mut y = a.stack(&[]);
    for (_, x) in a.iter() {
        let (sign, pivots) = sign_and_pivots(x);
        y.extend([sign * product(&pivots)]);
    }
    y.finish()
}

/// The sign of each determinant (-1, 0 or 1) and the natural logarithm of its absolute value (minus infinity for 0).
/// `a: [..., N, N]` → `[...]` twice. Computed in f64 and rounded once.
///
/// # Errors
/// As [`det`].
pub fn slogdet(a: &Tensor) -> Result<(Tensor, Tensor)> {
    let a = Matrices::read_square("slogdet", a)?;
    let (mut signs, mut logs) = (a.stack(&[]), a.stack(&[]));
    for (_, x) in a.iter() {
        let (sign, pivots) = sign_and_pivots(x);
        let zero = pivots.contains(&0.0);
        signs.extend([if zero { 0.0 } else { pivots.iter().fold(sign, |s, p| s * p.signum()) }]);
        logs.extend([pivots.iter().map(|p| p.abs().ln()).sum()]);
    }
    Ok((signs.finish()?, logs.finish()?))
}

pub(crate) fn same_rows(a: &Matrices, b: &Matrices) -> Result<()> {
    if a.rows == b.rows {
        return Ok(());
    }
    let (expected, got) = (Shape::from([a.rows, b.cols]), Shape::from([b.rows, b.cols]));
    Err(bitnet_core::Error::Shape { op: a.op, expected, got }.into())
}

/// The factors of a matrix that has an inverse.
fn regular(op: &'static str, matrix: usize, x: MatRef<'_, f64>) -> Result<PartialPivLu<f64>> {
    let factors = x.partial_piv_lu();
    match (0..x.nrows()).find(|&pivot| is_rounding(&factors, pivot)) {
        Some(pivot) => Err(Error::Singular { op, matrix, pivot, value: factors.U()[(pivot, pivot)] }),
        None => Ok(factors),
    }
}

/// Whether a pivot is no larger than the bound on the rounding errors of the products that were subtracted to make it
/// (Higham, Accuracy and Stability of Numerical Algorithms, theorem 9.3). Unlike a bound by the largest element, this does not
/// refuse a matrix for having rows of very different scales.
fn is_rounding(factors: &PartialPivLu<f64>, pivot: usize) -> bool {
    let (l, u) = (factors.L(), factors.U());
    let made_of: f64 = (0..pivot).map(|k| (l[(pivot, k)] * u[(k, pivot)]).abs()).sum();
    u[(pivot, pivot)].abs() <= l.nrows() as f64 * f64::EPSILON * made_of
}

/// The sign of the permutation and the pivots.
fn sign_and_pivots(x: MatRef<'_, f64>) -> (f64, Vec<f64>) {
    let factors = x.partial_piv_lu();
    let (to, _) = factors.P().arrays();
    let mut pivots: Vec<f64> = (0..x.nrows()).map(|i| factors.U()[(i, i)]).collect();
    // Behind a pivot of zero everything was divided by it.
    let zero = pivots.iter().position(|&pivot| pivot == 0.0).unwrap_or(pivots.len());
    pivots.iter_mut().skip(zero + 1).for_each(|pivot| *pivot = 1.0);
    (sign(to), pivots)
}

/// 1 for a permutation of an even number of exchanges, -1 for an odd one.
fn sign(permutation: &[usize]) -> f64 {
    let mut seen = vec![false; permutation.len()];
    let mut sign = 1.0;
    for start in 0..permutation.len() {
        let mut at = permutation[start];
        while !seen[start] && at != start {
            seen[at] = true;
            at = permutation[at];
            sign = -sign;
        }
    }
    sign
}

/// The product, whose factors may lie outside of the range of f64 on the way.
fn product(factors: &[f64]) -> f64 {
    let step = |(mantissa, exponent): (f64, i32), &factor: &f64| {
        let (mantissa, more) = libm::frexp(mantissa * factor);
        (mantissa, exponent + more)
    };
    let (mantissa, exponent) = factors.iter().fold((1.0, 0), step);
    libm::ldexp(mantissa, exponent)
}
