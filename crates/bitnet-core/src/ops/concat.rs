//! Several tensors as one.

use super::{expect_device, expect_shape};
use crate::{Error, Result, Tensor, autograd::record_all, axes::resolve};

/// Tensors one after the other along dimension `dim`.
///
/// # Errors
/// Where there are none, devices, types or the other extents differ, the dimension does not exist, or the device fails.
pub fn concat(tensors: &[&Tensor], dim: isize) -> Result<Tensor> {
    let op = "concat";
    let Some(first) = tensors.first() else {
        return Err(Error::Argument { op, reason: "no tensors".to_owned() });
    };
    let dim = resolve(op, dim, first.shape().rank())?;
    for x in tensors {
        let extent = x.dims().get(dim).copied().unwrap_or(0);
        expect_shape(op, x, first.shape().with(dim, extent))?;
        expect_device(op, first.device(), x.device())?;
        if x.dtype() != first.dtype() {
            return Err(Error::DType { op, expected: first.dtype(), got: x.dtype() });
        }
    }
    let extents: Vec<usize> = tensors.iter().map(|x| x.dims()[dim]).collect();
    let shape = first.shape().with(dim, extents.iter().sum());
    let mut y = Tensor::empty(first.device(), shape, first.dtype())?;
    let mut start = 0;
    for x in tensors {
        let place = y.layout().narrow(dim, start, x.dims()[dim])?;
        y.write_strided(place, x)?;
        start += x.dims()[dim];
    }
    Ok(record_all(y, tensors, || {
        move |g: &Tensor| Ok(g.split(dim as isize, &extents)?.into_iter().map(Some).collect())
    }))
}

/// Tensors of one shape along a new dimension that becomes dimension `dim`.
///
/// # Errors
/// As [`concat`](concat()).
pub fn stack(tensors: &[&Tensor], dim: isize) -> Result<Tensor> {
    let longer = tensors.iter().map(|x| x.unsqueeze(dim)).collect::<Result<Vec<_>>>()?;
    concat(&longer.iter().collect::<Vec<_>>(), dim)
}

impl Tensor {
    /// Overwrites the elements at `place`, a layout inside this tensor's buffer, with those of `x`.
    pub(crate) fn write_strided(&mut self, place: crate::Layout, x: &Self) -> Result<()> {
        let device = self.device().clone();
        let dst = self.view_mut("write")?.with_layout(&place);
        device.backend().copy(x.view(), dst)
    }

    /// The elements in reverse order along dimension `dim`.
    ///
    /// # Errors
    /// Where the dimension does not exist or the device fails.
    pub fn flip(&self, dim: isize) -> Result<Self> {
        let extent = self.dims()[resolve("flip", dim, self.shape().rank())?];
        let ids: Vec<i64> = (0..extent as i64).rev().collect();
        self.index_select(dim, &Self::from_slice(self.device(), [extent], &ids)?)
    }

    /// The elements on and below diagonal `k` of the last two dimensions, zeros above.
    ///
    /// # Errors
    /// Where there are fewer than two dimensions or the device fails.
    pub fn tril(&self, k: isize) -> Result<Self> {
        self.triangle(|row, col| row.add_scalar(k as f64)?.ge(col))
    }

    /// The elements on and above diagonal `k` of the last two dimensions, zeros below.
    ///
    /// # Errors
    /// Where there are fewer than two dimensions or the device fails.
    pub fn triu(&self, k: isize) -> Result<Self> {
        self.triangle(|row, col| row.add_scalar(k as f64)?.le(col))
    }

    fn triangle(&self, keep: impl Fn(&Self, &Self) -> Result<Self>) -> Result<Self> {
        let rank = self.shape().rank();
        let (rows, cols) = (resolve("triangle", -2, rank)?, resolve("triangle", -1, rank)?);
        let count =
            |i: usize| Self::arange(self.device(), 0.0, self.dims()[i] as f64, 1.0, crate::DType::I64);
        let kept = keep(&count(rows)?.unsqueeze(1)?, &count(cols)?.unsqueeze(0)?)?;
        kept.where_cond(self, &self.zeros_like()?)
    }
}
