//! Views: other shapes of the same elements, without a copy.

use super::Tensor;
use crate::{Axes, Layout, Result, Shape, autograd::record, axes::resolve};
use std::borrow::Cow;

impl Tensor {
    /// The same elements in the same row-major order under another shape.
    ///
    /// # Errors
    /// Where the number of elements differs, or the view is strided so that only a copy has that shape; see
    /// [`Tensor::contiguous`].
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let y = self.with_layout(self.layout().reshape(shape)?);
        let from = self.shape();
        Ok(record(y, [self], || move |g: &Self| Ok([Some(g.contiguous()?.reshape(from)?)])))
    }

    /// All dimensions from `first` to `last` as one.
    ///
    /// # Errors
    /// Where a dimension does not exist, or as [`Tensor::reshape`].
    pub fn flatten(&self, first: isize, last: isize) -> Result<Self> {
        let rank = self.shape().rank();
        let (first, last) = (resolve("flatten", first, rank)?, resolve("flatten", last, rank)?);
        let dims = self.dims();
        let end = last.max(first) + 1;
        let run: usize = dims[first..end].iter().product();
        self.reshape(&[&dims[..first], &[run], &dims[end..]].concat()[..])
    }

    /// The dimensions in another order: dimension `i` of the result is dimension `order[i]`.
    ///
    /// # Errors
    /// Where `order` is not a permutation of the dimensions.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let y = self.with_layout(self.layout().permute(order)?);
        Ok(record(y, [self], || {
            let mut inverse = vec![0; order.len()];
            for (i, &from) in order.iter().enumerate() {
                inverse[from] = i;
            }
            move |g: &Self| Ok([Some(g.permute(&inverse)?)])
        }))
    }

    /// Two dimensions exchanged.
    ///
    /// # Errors
    /// Where one does not exist.
    pub fn transpose(&self, first: isize, second: isize) -> Result<Self> {
        let rank = self.shape().rank();
        let (first, second) = (resolve("transpose", first, rank)?, resolve("transpose", second, rank)?);
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(first, second);
        self.permute(&order)
    }

    /// The last two dimensions exchanged.
    ///
    /// # Errors
    /// Where there are fewer than two.
    pub fn t(&self) -> Result<Self> {
        self.transpose(-2, -1)
    }

    /// `len` entries of dimension `dim` from `start`.
    ///
    /// # Errors
    /// Where the range lies outside the dimension.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        self.slice(dim, start, start.saturating_add(len), 1)
    }

    /// Every `step`-th of the entries `start..end` of dimension `dim`.
    ///
    /// # Errors
    /// Where the range lies outside the dimension or the step is zero.
    pub fn slice(&self, dim: usize, start: usize, end: usize, step: usize) -> Result<Self> {
        let y = self.with_layout(self.layout().slice(dim, start, end, step)?);
        let from = self.shape();
        Ok(record(y, [self], || {
            move |g: &Self| {
                let mut whole = Self::zeros(g.device(), from, g.dtype())?;
                let place = whole.layout().slice(dim, start, end, step)?;
                whole.write_strided(place, g)?;
                Ok([Some(whole)])
            }
        }))
    }

    /// Entry `index` of dimension `dim`, without that dimension; negative ones count from the end.
    ///
    /// # Errors
    /// Where the dimension or the entry does not exist.
    pub fn at(&self, dim: isize, index: isize) -> Result<Self> {
        let dim = resolve("at", dim, self.shape().rank())?;
        let extent = self.dims()[dim];
        let start = if index < 0 { index + extent as isize } else { index };
        let start = usize::try_from(start).unwrap_or(extent);
        self.narrow(dim, start, 1)?.squeeze(dim as isize)
    }

    /// Without dimension `dim`, whose extent is 1.
    ///
    /// # Errors
    /// Where it does not exist or has another extent.
    pub fn squeeze(&self, dim: isize) -> Result<Self> {
        let dim = resolve("squeeze", dim, self.shape().rank())?;
        let y = self.with_layout(self.layout().squeeze(dim)?);
        Ok(record(y, [self], || move |g: &Self| Ok([Some(g.unsqueeze(dim as isize)?)])))
    }

    /// With a dimension of extent 1 that becomes dimension `dim`.
    ///
    /// # Errors
    /// Where it would lie outside, or there are too many dimensions.
    pub fn unsqueeze(&self, dim: isize) -> Result<Self> {
        let dim = resolve("unsqueeze", dim, self.shape().rank() + 1)?;
        let y = self.with_layout(self.layout().unsqueeze(dim)?);
        Ok(record(y, [self], || move |g: &Self| Ok([Some(g.squeeze(dim as isize)?)])))
    }

    /// The elements repeated along new outer dimensions and dimensions of extent 1.
    ///
    /// # Errors
    /// Where an extent is neither 1 nor the one asked for.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let y = self.with_layout(self.layout().broadcast_to(shape)?);
        let from = self.shape();
        Ok(record(y, [self], || move |g: &Self| Ok([Some(g.sum_to(from)?)])))
    }

    /// Where the elements lie when they are repeated as by [`Tensor::broadcast_to`].
    pub(crate) fn broadcast_layout(&self, shape: Shape) -> Result<Cow<'_, Layout>> {
        if self.shape() == shape {
            return Ok(Cow::Borrowed(self.layout()));
        }
        Ok(Cow::Owned(self.layout().broadcast_to(shape)?))
    }

    /// The entries where two dimensions have the same index, as one dimension in place of the first.
    ///
    /// # Errors
    /// Where the dimensions do not exist or their extents differ.
    pub fn diagonal(&self, first: isize, second: isize) -> Result<Self> {
        let rank = self.shape().rank();
        let (first, second) = (resolve("diagonal", first, rank)?, resolve("diagonal", second, rank)?);
        let y = self.with_layout(self.layout().diagonal(first, second)?);
        let from = self.shape();
        Ok(record(y, [self], || {
            move |g: &Self| {
                let mut whole = Self::zeros(g.device(), from, g.dtype())?;
                let place = whole.layout().diagonal(first, second)?;
                whole.write_strided(place, g)?;
                Ok([Some(whole)])
            }
        }))
    }

    /// The sum over what [`Tensor::broadcast_to`] repeated to come here from `shape`.
    ///
    /// # Errors
    /// Where `shape` does not broadcast to this shape, or the device fails.
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape == self.shape() {
            return Ok(self.clone());
        }
        let new = self.shape().rank().saturating_sub(shape.rank());
        let repeated = |&i: &usize| i < new || shape.dims()[i - new] != self.dims()[i];
        let axes: Vec<isize> = (0..self.shape().rank()).filter(repeated).map(|i| i as isize).collect();
        self.sum(Axes::from(&axes[..]), true)?.reshape(shape)
    }

    /// Parts of dimension `dim` with these extents, which add up to its own.
    ///
    /// # Errors
    /// Where the dimension does not exist or the extents do not add up.
    pub fn split(&self, dim: isize, extents: &[usize]) -> Result<Vec<Self>> {
        let dim = resolve("split", dim, self.shape().rank())?;
        let total = extents.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
        if total != Some(self.dims()[dim]) {
            let reason = format!("parts {extents:?} of an extent of {}", self.dims()[dim]);
            return Err(crate::Error::Argument { op: "split", reason });
        }
        let mut start = 0;
        let part = |&len: &usize| {
            start += len;
            self.narrow(dim, start - len, len)
        };
        extents.iter().map(part).collect()
    }
}
