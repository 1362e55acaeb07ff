//! What a backend receives: a place in a buffer, a layout and an element type. A view never owns.

use crate::{
    Error, Result,
    buffer::{Buffer, elements, elements_mut},
    dtype::{DType, Element},
    layout::Layout,
    shape::Shape,
};
use std::ops::Range;

/// A tensor to read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    buffer: &'a Buffer,
    layout: &'a Layout,
    dtype: DType,
}

impl<'a> View<'a> {
    pub(crate) fn new(buffer: &'a Buffer, layout: &'a Layout, dtype: DType) -> Self {
        Self { buffer, layout, dtype }
    }

    /// Extents.
    pub fn shape(&self) -> Shape {
        self.layout.shape()
    }

    /// Where the elements lie.
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The bytes behind it.
    pub fn buffer(&self) -> &'a Buffer {
        self.buffer
    }

    /// The bytes of the buffer at a place.
    pub(crate) fn bytes_at(self, place: &'a Layout) -> Self {
        View { layout: place, dtype: DType::U8, ..self }
    }

    /// The elements of the whole buffer on the host, to be read by the layout.
    ///
    /// # Errors
    /// Where the element type differs or the bytes are not on the host.
    pub(crate) fn whole<T: Element>(&self, op: &'static str) -> Result<&'a [T]> {
        expect_dtype::<T>(op, self.dtype)?;
        let bytes = self.buffer.bytes().ok_or_else(|| not_on_host(op))?;
        elements(bytes, 0..bytes.len() / size_of::<T>())
    }

    /// The elements of contiguous rows on the host.
    ///
    /// # Errors
    /// Where the element type differs, the rows are strided or the bytes are not on the host.
    pub fn as_slice<T: Element>(&self, op: &'static str) -> Result<&'a [T]> {
        let range = contiguous_range::<T>(op, self.layout, self.dtype)?;
        elements(self.buffer.bytes().ok_or_else(|| not_on_host(op))?, range)
    }

    /// The bytes of contiguous rows on the host.
    ///
    /// # Errors
    /// Where the rows are strided or the bytes are not on the host.
    pub fn as_bytes(&self, op: &'static str) -> Result<&'a [u8]> {
        let range = byte_range(op, self.layout, self.dtype)?;
        elements(self.buffer.bytes().ok_or_else(|| not_on_host(op))?, range)
    }
}

/// A tensor to write; nobody else sees its buffer meanwhile.
#[derive(Debug)]
pub struct ViewMut<'a> {
    buffer: &'a mut Buffer,
    layout: &'a Layout,
    dtype: DType,
}

impl<'a> ViewMut<'a> {
    pub(crate) fn new(buffer: &'a mut Buffer, layout: &'a Layout, dtype: DType) -> Self {
        Self { buffer, layout, dtype }
    }

    /// Extents.
    pub fn shape(&self) -> Shape {
        self.layout.shape()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the elements lie.
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Another place in the same buffer.
    pub(crate) fn with_layout(self, layout: &'a Layout) -> Self {
        Self { layout, ..self }
    }

    /// The bytes of the buffer at a place.
    pub(crate) fn bytes_at(self, place: &'a Layout) -> Self {
        Self { layout: place, dtype: DType::U8, ..self }
    }

    /// The elements of the whole buffer on the host, to be written by the layout.
    ///
    /// # Errors
    /// Where the element type differs, or the bytes are read-only or not on the host.
    pub(crate) fn into_whole<T: Element>(self, op: &'static str) -> Result<&'a mut [T]> {
        expect_dtype::<T>(op, self.dtype)?;
        let bytes = self.buffer.bytes_mut().ok_or_else(|| not_on_host(op))?;
        let len = bytes.len() / size_of::<T>();
        elements_mut(bytes, 0..len)
    }

    /// As [`Buffer::discard`], of a part of the bytes of contiguous rows; nothing where they are strided.
    pub(crate) fn discard(self, part: Range<usize>) -> usize {
        let Ok(range) = contiguous_range::<u8>("discard", self.layout, self.dtype) else { return 0 };
        self.buffer.discard(range.start + part.start..range.start + part.end)
    }

    /// The same place for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { buffer: self.buffer, layout: self.layout, dtype: self.dtype }
    }

    /// The same place, to read.
    pub fn as_view(&self) -> View<'_> {
        View { buffer: self.buffer, layout: self.layout, dtype: self.dtype }
    }

    /// The elements of contiguous rows on the host.
    ///
    /// # Errors
    /// Where the element type differs, the rows are strided, or the bytes are read-only or not on the host.
    pub fn into_slice<T: Element>(self, op: &'static str) -> Result<&'a mut [T]> {
        let range = contiguous_range::<T>(op, self.layout, self.dtype)?;
        elements_mut(self.buffer.bytes_mut().ok_or_else(|| not_on_host(op))?, range)
    }

    /// The bytes of contiguous rows on the host.
    ///
    /// # Errors
    /// Where the rows are strided, or the bytes are read-only or not on the host.
    pub fn into_bytes(self, op: &'static str) -> Result<&'a mut [u8]> {
        let range = byte_range(op, self.layout, self.dtype)?;
        elements_mut(self.buffer.bytes_mut().ok_or_else(|| not_on_host(op))?, range)
    }
}

fn byte_range(op: &'static str, layout: &Layout, dtype: DType) -> Result<Range<usize>> {
    if !layout.is_contiguous() {
        return Err(Error::NotContiguous { op });
    }
    let start = layout.offset() * dtype.size();
    Ok(start..start + layout.shape().len() * dtype.size())
}

fn contiguous_range<T: Element>(op: &'static str, layout: &Layout, dtype: DType) -> Result<Range<usize>> {
    expect_dtype::<T>(op, dtype)?;
    if !layout.is_contiguous() {
        return Err(Error::NotContiguous { op });
    }
    Ok(layout.offset()..layout.offset() + layout.shape().len())
}

fn expect_dtype<T: Element>(op: &'static str, dtype: DType) -> Result<()> {
    if dtype == T::DTYPE { Ok(()) } else { Err(Error::DType { op, expected: T::DTYPE, got: dtype }) }
}

fn not_on_host(op: &'static str) -> Error {
    Error::NotOnHost { op, device: "of the tensor".into() }
}
