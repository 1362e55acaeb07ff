//! Dense products of matrices in f32, by a general matrix multiplication library. Results are within rounding of the exact ones;
//! unlike the ops of inference they are not the same bits on every instruction set.

use crate::{DType, Error, Result, Shape, Tensor, autograd::record};

/// `a · b` by NumPy's rules: matrices in the last two dimensions, the others broadcast together, a vector is a row on the left and a
/// column on the right. Halves and brain floats are multiplied in f32.
///
/// # Errors
/// Where the inner extents differ, the others do not broadcast, the types differ or are not floats, or the device fails.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
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

/// Extents of the batch, and of the matrix.
fn parts(x: &Tensor) -> (Shape, usize, usize) {
    let dims = x.dims();
    let (batch, matrix) = dims.split_at(dims.len() - 2);
    (Shape::new(batch), matrix[0], matrix[1])
}

/// As [`matmul`] of at least two dimensions each.
fn matrices(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let op = "matmul";
    let ((a_batch, m, k), (b_batch, inner, n)) = (parts(a), parts(b));
    if k != inner {
        let expected = b.shape().with(b.shape().rank() - 2, k);
        return Err(Error::Shape { op, expected, got: b.shape() });
    }
    let batch = Shape::broadcast(op, a_batch, b_batch)?;
    let shape = |rows, cols| Shape::new(&[batch.dims(), &[rows, cols]].concat());
    let f32_of =
        |x: &Tensor, rows, cols| x.detach().to_dtype(DType::F32)?.broadcast_layout(shape(rows, cols));
    let (x, z) = (f32_of(a, m, k)?, f32_of(b, k, n)?);
    let mut y = Tensor::empty(a.device(), shape(m, n), DType::F32)?;
    a.device().backend().matmul(x.view(), z.view(), y.view_mut(op)?)?;
    Ok(record(y.to_dtype(a.dtype())?, [a, b], || {
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
