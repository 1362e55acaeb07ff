//! Where the elements of a tensor lie in its buffer.

use crate::{
    Error, Result,
    shape::{MAX_DIMS, Shape},
};

/// Shape, strides and offset, all in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    strides: Shape,
    offset: usize,
}

impl Layout {
    /// Contiguous rows from the start of the buffer.
    pub fn contiguous(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self { shape, strides: shape.contiguous_strides(), offset: 0 }
    }

    /// Where there is no element, the offset is 0: that of a part of nothing could lie past any end.
    fn placed(shape: Shape, strides: Shape, offset: impl FnOnce() -> usize) -> Self {
        let offset = if shape.is_empty() { 0 } else { offset() };
        Self { shape, strides, offset }
    }

    /// Extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Extents as a slice, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// Distance between neighbours along each dimension.
    pub fn strides(&self) -> &[usize] {
        self.strides.dims()
    }

    /// Index of the first element, 0 where there is none.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the elements lie in row-major order without holes.
    pub fn is_contiguous(&self) -> bool {
        let mut dense = 1usize;
        for (&dim, &stride) in self.shape.dims().iter().zip(self.strides.dims()).rev() {
            if dim != 1 && stride != dense {
                return self.shape.is_empty();
            }
            // Beside an extent of zero the others may be as large as they like.
            dense = dense.saturating_mul(dim);
        }
        true
    }

    /// The same elements, in the same row-major order, under another shape.
    ///
    /// # Errors
    /// Where the number of elements differs, or the strides cannot be regrouped without a copy.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.checked_len() != Some(self.shape.len()) {
            return Err(Error::Shape { op: "reshape", expected: self.shape, got: shape });
        }
        if self.is_contiguous() {
            return Ok(Self { offset: self.offset, ..Self::contiguous(shape) });
        }
        let strides = self.regrouped(shape.dims()).ok_or(Error::NotContiguous { op: "reshape" })?;
        Ok(Self { shape, strides: Shape::new(&strides), offset: self.offset })
    }

    /// Strides under which the elements of a layout that is not empty have the extents `dims`, where there are some.
    fn regrouped(&self, dims: &[usize]) -> Option<Vec<usize>> {
        let runs = self.runs();
        let mut runs = runs.iter().rev();
        let (mut left, mut stride) = (1, 1);
        let mut strides = vec![0; dims.len()];
        for (&dim, place) in dims.iter().zip(&mut strides).rev() {
            if left == 1 && dim != 1 {
                (left, stride) = *runs.next()?;
            }
            if left % dim != 0 {
                return None;
            }
            *place = stride;
            (left, stride) = (left / dim, stride * dim);
        }
        Some(strides)
    }

    /// Extent and stride of every run of dimensions that one stride walks through, outermost first, without extents of one.
    fn runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::with_capacity(self.shape.rank());
        for (&dim, &stride) in self.shape.dims().iter().zip(self.strides.dims()) {
            match runs.last_mut() {
                _ if dim == 1 => {}
                Some(outer) if outer.1 == stride * dim => *outer = (outer.0 * dim, stride),
                _ => runs.push((dim, stride)),
            }
        }
        runs
    }

    /// The dimensions in another order: dimension `i` of the result is dimension `order[i]`.
    ///
    /// # Errors
    /// Where `order` is not a permutation of the dimensions.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let rank = self.shape.rank();
        let mut seen = [false; MAX_DIMS];
        for &axis in order {
            if axis >= rank || std::mem::replace(&mut seen[axis], true) {
                return Err(Error::Axis { op: "permute", axis: axis as isize, rank });
            }
        }
        if order.len() != rank {
            let reason = format!("{} axes for {rank} dimensions", order.len());
            return Err(Error::Argument { op: "permute", reason });
        }
        let (shape, strides) = (self.shape.permute(order), self.strides.permute(order));
        Ok(Self { shape, strides, offset: self.offset })
    }

    /// The elements repeated along new outer dimensions and dimensions of extent 1, by NumPy's rules.
    ///
    /// # Errors
    /// Where an extent is neither 1 nor the one asked for.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape == self.shape {
            return Ok(*self);
        }
        let refused = Error::Broadcast { op: "broadcast_to", a: self.shape, b: shape };
        let Some(new) = shape.rank().checked_sub(self.shape.rank()) else { return Err(refused) };
        let mut strides = [0; MAX_DIMS];
        for (i, (&dim, &stride)) in self.shape.dims().iter().zip(self.strides.dims()).enumerate() {
            match shape.dims()[new + i] {
                wanted if wanted == dim => strides[new + i] = stride,
                _ if dim == 1 => {}
                _ => return Err(refused),
            }
        }
        Ok(Self::placed(shape, Shape::new(&strides[..shape.rank()]), || self.offset))
    }

    /// Every `step`-th of the entries `start..end` of dimension `dim`.
    ///
    /// # Errors
    /// As [`Layout::narrow`], or where the step is zero.
    pub fn slice(&self, dim: usize, start: usize, end: usize, step: usize) -> Result<Self> {
        let len = end.saturating_sub(start);
        let mut narrowed = self.narrow(dim, start, len)?;
        if step == 0 {
            return Err(Error::Argument { op: "slice", reason: "a step of zero".to_owned() });
        }
        // One entry has no neighbour, and a step as large as that keeps no other.
        if len > step {
            narrowed.strides = narrowed.strides.with(dim, narrowed.strides.dims()[dim].saturating_mul(step));
        }
        narrowed.shape = narrowed.shape.with(dim, len.div_ceil(step));
        Ok(narrowed)
    }

    /// With a dimension of extent 1 before dimension `dim`.
    ///
    /// # Errors
    /// Where `dim` is more than the number of dimensions or there are [`MAX_DIMS`] already.
    pub fn unsqueeze(&self, dim: usize) -> Result<Self> {
        let rank = self.shape.rank();
        if dim > rank || rank == MAX_DIMS {
            return Err(Error::Axis { op: "unsqueeze", axis: dim as isize, rank });
        }
        let (shape, strides) = (self.shape.insert(dim, 1), self.strides.insert(dim, 1));
        Ok(Self { shape, strides, offset: self.offset })
    }

    /// Without dimension `dim`, whose extent is 1.
    ///
    /// # Errors
    /// Where it does not exist or has another extent.
    pub fn squeeze(&self, dim: usize) -> Result<Self> {
        match self.shape.dims().get(dim) {
            Some(1) => {}
            Some(_) => {
                return Err(Error::Shape {
                    op: "squeeze",
                    expected: self.shape.with(dim, 1),
                    got: self.shape,
                });
            }
            None => {
                return Err(Error::Axis { op: "squeeze", axis: dim as isize, rank: self.shape.rank() });
            }
        }
        let (shape, strides) = (self.shape.without(dim), self.strides.without(dim));
        Ok(Self { shape, strides, offset: self.offset })
    }

    /// The entries where two dimensions have the same index, as one dimension in place of the first.
    ///
    /// # Errors
    /// Where the dimensions are not two, or their extents differ.
    pub fn diagonal(&self, first: usize, second: usize) -> Result<Self> {
        let (dims, strides) = (self.shape.dims(), self.strides.dims());
        if first == second || first.max(second) >= dims.len() {
            return Err(Error::Axis { op: "diagonal", axis: second as isize, rank: dims.len() });
        }
        if dims[first] != dims[second] {
            let expected = self.shape.with(second, dims[first]);
            return Err(Error::Shape { op: "diagonal", expected, got: self.shape });
        }
        // Beside an extent of zero they may be as large as they like.
        let both = strides[first].saturating_add(strides[second]);
        let strides = self.strides.with(first, both).without(second);
        Ok(Self { shape: self.shape.without(second), strides, offset: self.offset })
    }

    /// `len` entries of dimension `dim` from `start`.
    ///
    /// # Errors
    /// Where the dimension does not exist or the range lies outside it.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        let extent = self.shape.dims().get(dim).copied().unwrap_or(0);
        if dim >= self.shape.rank() || start.checked_add(len).is_none_or(|end| end > extent) {
            return Err(Error::Range { op: "narrow", start, len, extent });
        }
        let offset = || self.offset + start * self.strides.dims()[dim];
        Ok(Self::placed(self.shape.with(dim, len), self.strides, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_rows_stay_contiguous_and_columns_do_not() {
        let all = Layout::contiguous([4, 6]);
        assert!(all.narrow(0, 1, 2).unwrap().is_contiguous());
        assert!(!all.narrow(1, 1, 2).unwrap().is_contiguous());
    }

    #[test]
    fn a_range_past_the_end_is_refused() {
        assert!(Layout::contiguous([4]).narrow(0, 3, 2).is_err());
        assert!(Layout::contiguous([4]).narrow(0, usize::MAX, 2).is_err());
    }

    #[test]
    fn a_view_of_nothing_lies_at_the_start() {
        let nothing = Layout::contiguous([0, 3]).narrow(1, 1, 2).unwrap();
        assert_eq!((nothing.dims(), nothing.offset()), (&[0, 2][..], 0));
        assert_eq!(Layout::contiguous([4, 3]).narrow(0, 4, 0).unwrap().offset(), 0);
        let row = Layout::contiguous([4, 3]).narrow(0, 2, 1).unwrap();
        assert_eq!(row.broadcast_to([0, 3]).unwrap().offset(), 0);
        let huge = Layout::contiguous([0, 1 << 40, 1 << 40]);
        let part = huge.narrow(1, 1 << 39, 7).unwrap().slice(2, 5, 1 << 39, 1 << 38).unwrap();
        assert_eq!((part.dims(), part.offset()), (&[0, 7, 2][..], 0));
        assert!(Layout::contiguous([0, 1 << 62, 1 << 62]).diagonal(1, 2).is_ok());
    }

    #[test]
    fn a_step_past_the_end_keeps_the_first_entry() {
        let rows = Layout::contiguous([4, 6]).slice(0, 1, 4, usize::MAX).unwrap();
        assert_eq!((rows.dims(), rows.strides(), rows.offset()), (&[1, 6][..], &[6, 1][..], 6));
        assert!(rows.is_contiguous());
        let nothing = Layout::contiguous([4]).slice(0, 2, 2, usize::MAX).unwrap();
        assert_eq!(nothing.dims(), &[0]);
    }

    #[test]
    fn reshape_regroups_strides_where_it_can() {
        let columns = Layout::contiguous([4, 3, 2]).permute(&[1, 0, 2]).unwrap();
        assert!(columns.reshape([3, 8]).is_err());
        assert_eq!(columns.reshape([3, 2, 2, 1, 2]).unwrap().strides(), &[2, 12, 6, 2, 1]);
        let repeated = Layout::contiguous([3, 1]).broadcast_to([3, 4]).unwrap();
        assert_eq!(repeated.reshape([3, 2, 2]).unwrap().strides(), &[1, 0, 0]);
        assert!(repeated.reshape([12]).is_err());
    }

    #[test]
    fn reshape_keeps_the_offset() {
        let row = Layout::contiguous([2, 6]).narrow(0, 1, 1).unwrap().reshape([2, 3]).unwrap();
        assert_eq!((row.offset(), row.shape().dims()), (6, &[2, 3][..]));
    }
}
