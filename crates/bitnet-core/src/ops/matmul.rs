//! Dense products of matrices in f32, by a general matrix multiplication library. Results are within rounding of the exact ones;
//! unlike the ops of inference they are not the same bits on every instruction set.

use super::expect_device;
use crate::{DType, Error, Result, Shape, Tensor, autograd::record, shape::MAX_DIMS};

/// `a · b` by NumPy's rules: matrices in the last two dimensions, the others broadcast together, a vector is a row on the left and a
/// column on the right. Halves and brain floats are multiplied in f32.
///
/// # Errors
/// Where the inner extents differ, the others do not broadcast, devices differ, the types differ or are not floats, or the device fails.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    expect_device("matmul", a.device(), b.device())?;
    expect_same_floats("matmul", a, b)?;
    match (a.shape().rank(), b.shape().rank()) {
        (0, _) | (_, 0) => {
            let reason = "a tensor without dimensions; use mul".to_owned();
            Err(Error::Argument { op: "matmul", reason })
        }
        (1, 1) => matmul(&a.unsqueeze(0)?, b)?.squeeze(0),
        (1, _) => matmul(&a.unsqueeze(0)?, b)?.squeeze(-2),
        (_, 1) => matrices(a, &b.unsqueeze(1)?)?.squeeze(-1),
        _ => matrices(a, b),
    }
}

fn expect_same_floats(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    if !a.dtype().is_float() {
        return Err(Error::DType { op, expected: DType::F32, got: a.dtype() });
    }
    if a.dtype() != b.dtype() {
        return Err(Error::DType { op, expected: a.dtype(), got: b.dtype() });
    }
    Ok(())
}

/// Extents of a batch of matrices.
fn of_matrices(batch: Shape, rows: usize, cols: usize) -> Shape {
    let (mut dims, rank) = ([cols; MAX_DIMS], batch.rank());
    dims[..rank].copy_from_slice(batch.dims());
    dims[rank] = rows;
    Shape::new(&dims[..rank + 2])
}

/// Extents that the batches of two operands have together.
fn batch_of(op: &'static str, a: &Tensor, b: &Tensor) -> Result<Shape> {
    let [a, b] = [a, b].map(|x| Shape::new(&x.shape().dims()[..x.shape().rank() - 2]));
    Shape::broadcast(op, a, b)
}

/// A constant in f32, where the operand is not f32 itself.
fn widened(x: &Tensor) -> Result<Option<Tensor>> {
    (x.dtype() != DType::F32).then(|| x.detach().to_dtype(DType::F32)).transpose()
}

/// As [`matmul`] of at least two dimensions each.
fn matrices(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let op = "matmul";
    let ([m, k], [inner, n]) = (a.shape().last_two(), b.shape().last_two());
    if k != inner {
        let expected = b.shape().with(b.shape().rank() - 2, k);
        return Err(Error::Shape { op, expected, got: b.shape() });
    }
    let (x, z) = (widened(a)?, widened(b)?);
    let (x, z) = (x.as_ref().unwrap_or(a), z.as_ref().unwrap_or(b));
    let mut y;
    if a.shape().rank() == 2 && b.shape().rank() == 2 {
        y = Tensor::empty(a.device(), [m, n], DType::F32)?;
        a.device().backend().matmul(x.view(), z.view(), y.view_mut(op)?)?;
    } else {
        let batch = batch_of(op, a, b)?;
        y = Tensor::empty(a.device(), of_matrices(batch, m, n), DType::F32)?;
        let left = x.broadcast_layout(of_matrices(batch, m, k))?;
        let right = z.broadcast_layout(of_matrices(batch, k, n))?;
        a.device().backend().matmul(x.view_as(&left), z.view_as(&right), y.view_mut(op)?)?;
    }
    let y = if a.dtype() == DType::F32 { y } else { y.to_dtype(a.dtype())? };
    Ok(record(y, [a, b], || {
        let (wanted, a, b) = ([a.is_trainable(), b.is_trainable()], a.detach(), b.detach());
        move |g: &Tensor| {
            let by_a = || matrices(g, &b.transpose(-2, -1)?)?.sum_to(a.shape());
            let by_b = || matrices(&a.transpose(-2, -1)?, g)?.sum_to(b.shape());
            Ok([wanted[0].then(by_a).transpose()?, wanted[1].then(by_b).transpose()?])
        }
    }))
}

/// `y = a · b` one product after the other, for devices without a kernel. `a: [M, K]`, `b: [K, N]`, `y: [M, N]`, contiguous.
pub fn reference(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], y: &mut [f32]) {
    for (row, y) in y.chunks_mut(n.max(1)).take(m).enumerate() {
        y.fill(0.0);
        for (i, a) in a[row * k..][..k].iter().enumerate() {
            for (y, b) in y.iter_mut().zip(&b[i * n..]) {
                *y += a * b;
            }
        }
    }
}

/// `y = x · b` of a row, each sum in the order of `b`'s rows, which lie `stride` elements apart. `x: [K]`, `b: [K, N]`, `y: [N]`.
#[inline(always)]
pub(crate) fn row(x: &[f32], b: &[f32], stride: usize, y: &mut [f32]) {
    y.fill(0.0);
    let (n, (fours, rest)) = (y.len(), x.as_chunks::<4>());
    for (i, x) in fours.iter().enumerate() {
        let b = &b[4 * i * stride..];
        let (b0, b1, b2, b3) = (&b[..n], &b[stride..][..n], &b[2 * stride..][..n], &b[3 * stride..][..n]);
        for c in 0..n {
            y[c] = y[c] + x[0] * b0[c] + x[1] * b1[c] + x[2] * b2[c] + x[3] * b3[c];
        }
    }
    for (i, x) in rest.iter().enumerate() {
        let b = &b[(4 * fours.len() + i) * stride..][..n];
        for c in 0..n {
            y[c] += x * b[c];
        }
    }
}
