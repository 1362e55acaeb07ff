//! Extents and strides of a tensor: plain values, never allocated.

use crate::{Error, Result};
use std::fmt;

/// Most dimensions that a tensor has.
pub const MAX_DIMS: usize = 8;

/// Extents of a tensor, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_DIMS],
    rank: usize,
}

impl Shape {
    /// A shape with these extents.
    ///
    /// # Panics
    /// With more than [`MAX_DIMS`] extents.
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= MAX_DIMS, "a tensor has at most {MAX_DIMS} dimensions, got {}", dims.len());
        let mut all = [1; MAX_DIMS];
        all[..dims.len()].copy_from_slice(dims);
        Self { dims: all, rank: dims.len() }
    }

    /// The extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of elements, or `None` where it does not fit in a `usize`.
    pub fn checked_len(&self) -> Option<usize> {
        self.dims().iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Number of elements of a shape that belongs to an existing tensor.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.dims().contains(&0)
    }

    /// Extent of the last dimension, 1 for a scalar.
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// Extents of the last two dimensions, which exist.
    pub(crate) fn last_two(&self) -> [usize; 2] {
        [self.dims[self.rank - 2], self.dims[self.rank - 1]]
    }

    /// Number of rows when all but the last dimension are folded into one.
    pub fn rows(&self) -> usize {
        self.dims().split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// With another extent of dimension `dim`, which exists.
    pub(crate) fn with(mut self, dim: usize, extent: usize) -> Self {
        self.dims[..self.rank][dim] = extent;
        self
    }

    /// Without dimension `dim`, which exists.
    pub(crate) fn without(&self, dim: usize) -> Self {
        let mut dims = [1; MAX_DIMS];
        let (outer, inner) = self.dims().split_at(dim);
        dims[..dim].copy_from_slice(outer);
        dims[dim..self.rank - 1].copy_from_slice(&inner[1..]);
        Self { dims, rank: self.rank - 1 }
    }

    /// With a dimension before dimension `dim`; there is room for one.
    pub(crate) fn insert(&self, dim: usize, extent: usize) -> Self {
        let mut dims = [1; MAX_DIMS];
        let (outer, inner) = self.dims().split_at(dim);
        dims[..dim].copy_from_slice(outer);
        dims[dim] = extent;
        dims[dim + 1..=self.rank].copy_from_slice(inner);
        Self { dims, rank: self.rank + 1 }
    }

    /// The dimensions in another order, a permutation of them.
    pub(crate) fn permute(&self, order: &[usize]) -> Self {
        let mut dims = [1; MAX_DIMS];
        for (dim, &from) in dims.iter_mut().zip(order) {
            *dim = self.dims()[from];
        }
        Self { dims, rank: self.rank }
    }

    /// The shape that two operands have together, by NumPy's rules: aligned at the last dimension, extents of 1 repeat.
    ///
    /// # Errors
    /// Where two extents differ and neither is 1.
    pub fn broadcast(op: &'static str, a: Self, b: Self) -> Result<Self> {
        let rank = a.rank.max(b.rank);
        let extent = |shape: &Self, i: usize| (i + shape.rank).checked_sub(rank).map_or(1, |i| shape.dims[i]);
        let mut dims = [1; MAX_DIMS];
        for (i, dim) in dims[..rank].iter_mut().enumerate() {
            *dim = match (extent(&a, i), extent(&b, i)) {
                (x, y) if x == y || y == 1 => x,
                (1, y) => y,
                _ => return Err(Error::Broadcast { op, a, b }),
            };
        }
        Ok(Self { dims, rank })
    }

    /// Strides, in elements, of contiguous rows.
    pub fn contiguous_strides(&self) -> Self {
        let mut strides = Self { dims: [1; MAX_DIMS], rank: self.rank };
        for i in (1..self.rank).rev() {
            // Beside an extent of zero the others may be as large as they like.
            strides.dims[i - 1] = strides.dims[i].saturating_mul(self.dims[i]);
        }
        strides
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self::new(&dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self::new(dims)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.dims()).finish()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_of_contiguous_rows_are_products_of_inner_extents() {
        assert_eq!(Shape::from([2, 3, 4]).contiguous_strides().dims(), &[12, 4, 1]);
    }

    #[test]
    fn extents_beside_a_zero_may_be_huge() {
        let shape = Shape::from([0, 1 << 32, 1 << 32, 1 << 32]);
        assert_eq!(shape.contiguous_strides().dims()[3], 1);
        assert!(shape.is_empty());
    }

    #[test]
    fn an_overflowing_length_is_none() {
        assert_eq!(Shape::from([usize::MAX, 2]).checked_len(), None);
    }
}
