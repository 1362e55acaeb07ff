//! Where the elements of a tensor lie in its buffer.

use crate::{Error, Result, shape::Shape};

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

    /// Extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Distance between neighbours along each dimension.
    pub fn strides(&self) -> &[usize] {
        self.strides.dims()
    }

    /// Index of the first element.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the elements lie in row-major order without holes.
    pub fn is_contiguous(&self) -> bool {
        let dense = self.shape.contiguous_strides();
        let mut dims = self.shape.dims().iter().zip(self.strides.dims()).zip(dense.dims());
        self.shape.is_empty() || dims.all(|((&d, s), want)| d == 1 || s == want)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// Where the layout is not contiguous or the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if !self.is_contiguous() {
            return Err(Error::NotContiguous { op: "reshape" });
        }
        if shape.checked_len() != Some(self.shape.len()) {
            return Err(Error::Shape { op: "reshape", expected: self.shape, got: shape });
        }
        Ok(Self { offset: self.offset, ..Self::contiguous(shape) })
    }

    /// `len` entries of dimension `dim` from `start`.
    ///
    /// # Errors
    /// Where the dimension does not exist or the range lies outside it.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        let extent = self.shape.dims().get(dim).copied().unwrap_or(0);
        let mut dims = self.shape.dims().to_vec();
        if dim >= dims.len() || start.checked_add(len).is_none_or(|end| end > extent) {
            return Err(Error::Range { op: "narrow", start, len, extent });
        }
        dims[dim] = len;
        let offset = self.offset + start * self.strides.dims()[dim];
        Ok(Self { shape: Shape::new(&dims), strides: self.strides, offset })
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
    fn reshape_keeps_the_offset() {
        let row = Layout::contiguous([2, 6]).narrow(0, 1, 1).unwrap().reshape([2, 3]).unwrap();
        assert_eq!((row.offset(), row.shape().dims()), (6, &[2, 3][..]));
    }
}
