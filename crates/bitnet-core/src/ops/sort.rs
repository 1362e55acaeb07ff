//! Order: sorting, the largest few, running sums.

use crate::{DType, Error, Result, Tensor, autograd::record, axes::resolve};
use std::cmp::Ordering;

/// A number and another one in the order of NumPy: NaN behind everything.
#[expect(clippy::eq_op, reason = "only NaN differs from itself")]
pub(crate) fn order<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

/// The row in order and where each element was; equal ones keep theirs. All `[C]`.
pub(crate) fn reference<T: Copy + PartialOrd>(x: &[T], descending: bool, y: &mut [T], ids: &mut [i64]) {
    for (i, id) in ids.iter_mut().enumerate() {
        *id = i as i64;
    }
    let by = |a: &i64, b: &i64| order(&x[*a as usize], &x[*b as usize]);
    if descending {
        ids.sort_by(|a, b| by(b, a));
    } else {
        ids.sort_by(by);
    }
    for (y, &id) in y.iter_mut().zip(ids.iter()) {
        *y = x[id as usize];
    }
}

/// `y[i] = x[0] + … + x[i]`, one after the other. Both `[n, width]`.
pub(crate) fn running_sums<X: Copy, Y: Copy + Default>(
    x: &[X],
    width: usize,
    y: &mut [Y],
    add: impl Fn(Y, X) -> Y,
) {
    let mut sums = vec![Y::default(); width];
    for (x, y) in x.chunks(width.max(1)).zip(y.chunks_mut(width.max(1))) {
        for ((sum, &x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum = add(*sum, x);
            *y = *sum;
        }
    }
}

impl Tensor {
    /// The elements in order along dimension `dim`, and where each was (int64). Equal ones keep their order, NaN is the largest.
    ///
    /// # Errors
    /// Where the dimension does not exist or the device fails.
    pub fn sort(&self, dim: isize, descending: bool) -> Result<(Self, Self)> {
        let dim = resolve("sort", dim, self.shape().rank())?;
        let last = self.shape().rank() - 1;
        let rows = self.detach().transpose(dim as isize, last as isize)?.contiguous()?;
        let mut y = Self::empty(self.device(), rows.shape(), self.dtype())?;
        let mut ids = Self::empty(self.device(), rows.shape(), DType::I64)?;
        let backend = self.device().backend();
        backend.sort(rows.view(), descending, y.view_mut("sort")?, ids.view_mut("sort")?)?;
        let back = |x: Self| x.transpose(dim as isize, last as isize);
        let (y, ids) = (back(y)?, back(ids)?);
        let y = record(y, [self], || {
            let (ids, from) = (ids.clone(), self.shape());
            move |g: &Self| {
                let zeros = Self::zeros(g.device(), from, g.dtype())?;
                Ok([Some(zeros.scatter_add(dim as isize, &ids, g)?)])
            }
        });
        Ok((y, ids))
    }

    /// Where the elements in order along dimension `dim` were (int64).
    ///
    /// # Errors
    /// As [`Tensor::sort`].
    pub fn argsort(&self, dim: isize, descending: bool) -> Result<Self> {
        Ok(self.detach().sort(dim, descending)?.1)
    }

    /// The `k` largest elements along dimension `dim`, from the largest, and where they were; the smallest ones with `largest` false.
    ///
    /// # Errors
    /// Where there are fewer than `k`, or as [`Tensor::sort`].
    pub fn topk(&self, k: usize, dim: isize, largest: bool) -> Result<(Self, Self)> {
        let at = resolve("topk", dim, self.shape().rank())?;
        let (values, ids) = self.sort(dim, largest)?;
        Ok((values.narrow(at, 0, k)?, ids.narrow(at, 0, k)?))
    }

    /// Running sums along dimension `dim`; of integers and truths as int64.
    ///
    /// # Errors
    /// Where the dimension does not exist or the device fails.
    pub fn cumsum(&self, dim: isize) -> Result<Self> {
        let dim = resolve("cumsum", dim, self.shape().rank())?;
        let dims = self.dims();
        let product = |dims: &[usize]| dims.iter().product::<usize>();
        let folded = [product(&dims[..dim]), dims[dim], product(&dims[dim + 1..])];
        let float = self.dtype().is_float();
        let wide = if float { DType::F32 } else { self.dtype() };
        let x = self.detach().to_dtype(wide)?.contiguous()?.reshape(folded)?;
        let mut y = Self::empty(self.device(), folded, if float { wide } else { DType::I64 })?;
        self.device().backend().cumsum(x.view(), y.view_mut("cumsum")?)?;
        let y = y.into_shape(self.shape())?;
        if !float {
            return Ok(y);
        }
        Ok(record(y.to_dtype(self.dtype())?, [self], || {
            move |g: &Self| {
                let all = g.sum(dim as isize, true)?;
                Ok([Some(all.sub(&g.cumsum(dim as isize)?)?.add(g)?)])
            }
        }))
    }

    /// Softmax along dimension `dim`: `e^x / Σ e^x`; NaN beside NaN or plus infinity, and of minus infinity alone.
    ///
    /// # Errors
    /// Where the dimension does not exist, the elements are not floats, or the device fails.
    pub fn softmax(&self, dim: isize) -> Result<Self> {
        let y = self.rowwise("softmax", dim, false)?;
        let result = y.detach();
        Ok(record(y, [self], || {
            move |g: &Self| {
                let weighted = g.mul(&result)?;
                let sum = weighted.sum(dim, true)?;
                Ok([Some(weighted.sub(&result.mul(&sum)?)?)])
            }
        }))
    }

    /// Logarithm of the softmax along dimension `dim`: `x - ln Σ e^x`.
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    pub fn log_softmax(&self, dim: isize) -> Result<Self> {
        let y = self.rowwise("log_softmax", dim, true)?;
        let result = y.detach();
        Ok(record(y, [self], || {
            move |g: &Self| {
                let sum = g.sum(dim, true)?;
                Ok([Some(g.sub(&result.exp()?.mul(&sum)?)?)])
            }
        }))
    }

    /// A softmax over rows along `dim`, in f32.
    fn rowwise(&self, op: &'static str, dim: isize, log: bool) -> Result<Self> {
        let dim = resolve(op, dim, self.shape().rank())? as isize;
        if !self.dtype().is_float() {
            return Err(Error::DType { op, expected: DType::F32, got: self.dtype() });
        }
        let rows = self.detach().to_dtype(DType::F32)?.transpose(dim, -1)?.contiguous()?;
        let mut y = Self::empty(self.device(), rows.shape(), DType::F32)?;
        self.device().backend().softmax(rows.view(), log, y.view_mut(op)?)?;
        y.transpose(dim, -1)?.to_dtype(self.dtype())
    }
}
