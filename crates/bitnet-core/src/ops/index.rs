//! Elements picked and placed by index: `index_select`, `gather`, `scatter_add`.

use super::{expect_device, expect_shape};
use crate::{DType, Error, Result, Shape, Tensor, autograd::record, axes::resolve};

/// `y[o, i, w] = x[o, ids[i], w]` of `x: [outer, n, width]`.
pub(crate) fn select_rows<T: Copy>(x: &[T], n: usize, width: usize, ids: &[i64], y: &mut [T]) {
    let outers = y.chunks_exact_mut((ids.len() * width).max(1)).zip(x.chunks_exact((n * width).max(1)));
    for (y, x) in outers {
        for (y, &id) in y.chunks_exact_mut(width.max(1)).zip(ids) {
            y.copy_from_slice(&x[id as usize * width..][..width]);
        }
    }
}

/// `y[o, i, w] = x[o, ids[o, i, w], w]` of `x: [outer, n, width]` and `m` entries.
pub(crate) fn gather<T: Copy>(x: &[T], n: usize, width: usize, ids: &[i64], m: usize, y: &mut [T]) {
    for (at, (y, &id)) in y.iter_mut().zip(ids).enumerate() {
        let (outer, inner) = (at / (m * width), at % width);
        *y = x[(outer * n + id as usize) * width + inner];
    }
}

/// `y[o, ids[o, i, w], w] += x[o, i, w]` of `y: [outer, n, width]` and `m` entries, in their order.
pub(crate) fn scatter_add<T: Copy>(
    x: &[T],
    ids: &[i64],
    m: usize,
    (n, width): (usize, usize),
    y: &mut [T],
    add: impl Fn(T, T) -> T,
) {
    for (at, (&x, &id)) in x.iter().zip(ids).enumerate() {
        let (outer, inner) = (at / (m * width), at % width);
        let y = &mut y[(outer * n + id as usize) * width + inner];
        *y = add(*y, x);
    }
}

/// A tensor as `[outer, n, width]` around dimension `dim`.
fn around(shape: Shape, dim: usize) -> [usize; 3] {
    let product = |dims: &[usize]| dims.iter().product();
    let dims = shape.dims();
    [product(&dims[..dim]), dims[dim], product(&dims[dim + 1..])]
}

/// Refuses indices that are not int64 below `extent`, or on another device than `x`.
fn expect_indices(op: &'static str, x: &Tensor, ids: &Tensor, extent: usize) -> Result<()> {
    expect_device(op, x.device(), ids.device())?;
    if ids.dtype() != DType::I64 {
        return Err(Error::DType { op, expected: DType::I64, got: ids.dtype() });
    }
    let wrong = ids.to_vec::<i64>()?.into_iter().find(|&id| id < 0 || id as u64 >= extent as u64);
    wrong.map_or(Ok(()), |id| {
        Err(Error::Argument { op, reason: format!("index {id} of an extent of {extent}") })
    })
}

impl Tensor {
    /// The entries `ids` (`[M]`, int64) of dimension `dim`, in that order.
    ///
    /// # Errors
    /// Where the dimension or an entry does not exist, `ids` is not a vector of int64 or on another device, or the device fails.
    pub fn index_select(&self, dim: isize, ids: &Self) -> Result<Self> {
        let op = "index_select";
        let dim = resolve(op, dim, self.shape().rank())?;
        let [outer, n, width] = around(self.shape(), dim);
        expect_shape(op, ids, [ids.shape().len()])?;
        expect_indices(op, self, ids, n)?;
        let count = ids.shape().len();
        let (x, ids) = (self.detach().contiguous()?.reshape([outer, n, width])?, ids.contiguous()?);
        let mut y = Self::empty(self.device(), [outer, count, width], self.dtype())?;
        self.device().backend().index_select(x.view(), ids.view(), y.view_mut(op)?)?;
        let y = y.into_shape(self.shape().with(dim, count))?;
        let from = self.shape();
        Ok(record(y, [self], || {
            move |g: &Self| {
                let mut along = vec![1; from.rank()];
                along[dim] = count;
                let spread = ids.reshape(&along[..])?.broadcast_to(g.shape())?;
                let zeros = Self::zeros(g.device(), from, g.dtype())?;
                Ok([Some(zeros.scatter_add(dim as isize, &spread, g)?)])
            }
        }))
    }

    /// For each entry of `ids` (int64, of this shape but in dimension `dim`) the element that it names along `dim`.
    ///
    /// # Errors
    /// Where shapes differ elsewhere, devices differ, an entry does not exist, or the device fails.
    pub fn gather(&self, dim: isize, ids: &Self) -> Result<Self> {
        let op = "gather";
        let dim = resolve(op, dim, self.shape().rank())?;
        let [outer, n, width] = around(self.shape(), dim);
        let count = ids.dims().get(dim).copied().unwrap_or(0);
        expect_shape(op, ids, self.shape().with(dim, count))?;
        expect_indices(op, self, ids, n)?;
        let x = self.detach().contiguous()?.reshape([outer, n, width])?;
        let ids = ids.contiguous()?;
        let flat = ids.reshape([outer, count, width])?;
        let mut y = Self::empty(self.device(), [outer, count, width], self.dtype())?;
        self.device().backend().gather(x.view(), flat.view(), y.view_mut(op)?)?;
        let (y, from) = (y.into_shape(ids.shape())?, self.shape());
        Ok(record(y, [self], || {
            move |g: &Self| {
                let zeros = Self::zeros(g.device(), from, g.dtype())?;
                Ok([Some(zeros.scatter_add(dim as isize, &ids, g)?)])
            }
        }))
    }

    /// This tensor with each element of `source` added to the element that `ids` (int64, of the same shape) names along `dim`. Several
    /// additions to one element happen in row-major order.
    ///
    /// # Errors
    /// Where shapes, devices or types differ, an entry does not exist, the elements are truths, or the device fails.
    pub fn scatter_add(&self, dim: isize, ids: &Self, source: &Self) -> Result<Self> {
        let op = "scatter_add";
        let dim = resolve(op, dim, self.shape().rank())?;
        let [outer, n, width] = around(self.shape(), dim);
        let count = ids.dims().get(dim).copied().unwrap_or(0);
        expect_shape(op, ids, self.shape().with(dim, count))?;
        expect_shape(op, source, ids.shape())?;
        expect_indices(op, self, ids, n)?;
        expect_device(op, self.device(), source.device())?;
        if source.dtype() != self.dtype() || self.dtype() == DType::Bool {
            return Err(Error::DType { op, expected: self.dtype(), got: source.dtype() });
        }
        let ids = ids.contiguous()?;
        let flat = ids.reshape([outer, count, width])?;
        let x = source.detach().contiguous()?.reshape([outer, count, width])?;
        let mut y = self.detach().copy()?.into_shape([outer, n, width])?;
        self.device().backend().scatter_add(x.view(), flat.view(), y.view_mut(op)?)?;
        let y = y.into_shape(self.shape())?;
        Ok(record(y, [self, source], || {
            move |g: &Self| Ok([Some(g.clone()), Some(g.gather(dim as isize, &ids)?)])
        }))
    }
}
