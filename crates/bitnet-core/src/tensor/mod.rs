//! Tensors: a buffer, a layout and an element type. Views share the buffer, arithmetic makes a new one.

mod arithmetic;
mod create;
mod display;
mod views;

use crate::{
    Error, Result,
    autograd::Record,
    buffer::{Buffer, Owner, as_bytes, as_bytes_mut, elements},
    device::Device,
    dtype::{DType, Element},
    layout::Layout,
    shape::Shape,
    view::{View, ViewMut},
};
use std::sync::Arc;

/// An n-dimensional array on a device. Cloning shares the elements.
#[derive(Clone)]
pub struct Tensor {
    buffer: Arc<Buffer>,
    layout: Layout,
    dtype: DType,
    device: Device,
    record: Option<Arc<Record>>,
}

impl Tensor {
    /// A tensor whose elements are whatever the pool's memory held before.
    ///
    /// # Errors
    /// Where the device has no memory left or the size overflows.
    pub fn empty(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        let bytes = shape.checked_len().and_then(|n| n.checked_mul(dtype.size()));
        let bytes =
            bytes.ok_or(Error::Range { op: "empty", start: 0, len: usize::MAX, extent: usize::MAX })?;
        let buffer = Arc::new(Buffer::alloc(device.pool(), bytes)?);
        Ok(Self { buffer, layout: Layout::contiguous(shape), dtype, device: device.clone(), record: None })
    }

    /// A copy of `data` on the device.
    ///
    /// # Errors
    /// Where the lengths differ or the device has no memory left.
    pub fn from_slice<T: Element>(device: &Device, shape: impl Into<Shape>, data: &[T]) -> Result<Self> {
        let shape = shape.into();
        if shape.checked_len() != Some(data.len()) {
            return Err(Error::Shape { op: "from_slice", expected: shape, got: Shape::from([data.len()]) });
        }
        let mut y = Self::empty(device, shape, T::DTYPE)?;
        device.backend().upload(as_bytes(data), y.view_mut("from_slice")?)?;
        Ok(y)
    }

    /// A read-only tensor over memory of the host that `owner` keeps alive, such as a mapped file. Nothing is copied.
    ///
    /// # Errors
    /// Where the bytes are too few or not aligned for the elements.
    pub fn from_owner<T: Element>(device: &Device, shape: impl Into<Shape>, owner: Owner) -> Result<Self> {
        let layout = Layout::contiguous(shape);
        let len = layout.shape().checked_len();
        let len = len.ok_or(Error::Range { op: "from_owner", start: 0, len: usize::MAX, extent: 0 })?;
        elements::<T>((*owner).as_ref(), 0..len)?;
        let buffer = Arc::new(Buffer::from_owner(owner));
        Ok(Self { buffer, layout, dtype: T::DTYPE, device: device.clone(), record: None })
    }

    /// Extents.
    pub fn shape(&self) -> Shape {
        self.layout.shape()
    }

    /// Extents as a slice, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.layout.dims()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes that its elements take.
    pub fn bytes(&self) -> usize {
        self.shape().len() * self.dtype.size()
    }

    /// Where the elements lie in the buffer.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the elements lie in row-major order without holes.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// Whether something upstream is trainable.
    pub fn is_trainable(&self) -> bool {
        self.record.is_some()
    }

    /// Whether other tensors share the buffer.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.buffer) > 1
    }

    /// The same elements, as a constant.
    pub fn detach(&self) -> Self {
        Self { record: None, ..self.clone() }
    }

    pub(crate) fn record(&self) -> Option<&Arc<Record>> {
        self.record.as_ref()
    }

    pub(crate) fn with_record(mut self, record: Arc<Record>) -> Self {
        self.record = Some(record);
        self
    }

    /// The same buffer, read in another way.
    pub(crate) fn viewed(&self, layout: Layout, dtype: DType) -> Self {
        Self { layout, dtype, ..self.detach() }
    }

    /// A constant view of the same elements.
    pub(crate) fn with_layout(&self, layout: Layout) -> Self {
        Self { layout, ..self.detach() }
    }

    /// As [`Tensor::reshape`], keeping the only handle so that the result can be written in place, where nothing is differentiated.
    ///
    /// # Errors
    /// As [`Tensor::reshape`].
    pub fn into_shape(mut self, shape: impl Into<Shape>) -> Result<Self> {
        if self.is_trainable() {
            return self.reshape(shape);
        }
        self.layout = self.layout.reshape(shape)?;
        Ok(self)
    }

    /// The bytes of contiguous rows as a tensor of bytes, sharing them.
    ///
    /// # Errors
    /// Where the rows are strided.
    pub fn to_bytes_view(&self) -> Result<Self> {
        if !self.layout.is_contiguous() {
            return Err(Error::NotContiguous { op: "to_bytes_view" });
        }
        let (start, len) = (self.layout.offset() * self.dtype.size(), self.bytes());
        let layout = Layout::contiguous([self.buffer.len()]).narrow(0, start, len)?;
        Ok(Self { layout, dtype: DType::U8, ..self.detach() })
    }

    /// The tensor for a backend to read.
    pub fn view(&self) -> View<'_> {
        View::new(&self.buffer, &self.layout, self.dtype)
    }

    /// The tensor for a backend to read by another layout.
    pub(crate) fn view_as<'a>(&'a self, layout: &'a Layout) -> View<'a> {
        View::new(&self.buffer, layout, self.dtype)
    }

    /// The tensor for a backend to write.
    ///
    /// # Errors
    /// Where others share the buffer or it is read-only.
    pub fn view_mut(&mut self, op: &'static str) -> Result<ViewMut<'_>> {
        let buffer =
            Arc::get_mut(&mut self.buffer).filter(|b| b.is_writable()).ok_or(Error::Shared { op })?;
        Ok(ViewMut::new(buffer, &self.layout, self.dtype))
    }

    /// The elements of contiguous rows on the host.
    ///
    /// # Errors
    /// Where the element type differs, the rows are strided or the device is not the host.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        self.view().as_slice("as_slice")
    }

    /// A copy of the elements on the host, in row-major order.
    ///
    /// # Errors
    /// Where the element type differs or the device fails.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.dtype != T::DTYPE {
            return Err(Error::DType { op: "to_vec", expected: T::DTYPE, got: self.dtype });
        }
        let rows = self.detach().contiguous()?;
        let mut out = vec![T::default(); self.shape().len()];
        self.device.backend().download(rows.view(), as_bytes_mut(&mut out))?;
        Ok(out)
    }

    /// The only element.
    ///
    /// # Errors
    /// Where there are none or more, or as [`Tensor::to_vec`].
    pub fn item<T: Element>(&self) -> Result<T> {
        match self.to_vec()?[..] {
            [item] => Ok(item),
            _ => Err(Error::Shape { op: "item", expected: Shape::new(&[]), got: self.shape() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> Device {
        Device::open("cpu/scalar", Some(1)).unwrap()
    }

    #[test]
    fn views_share_their_elements() {
        let x = Tensor::from_slice(&cpu(), [2, 3], &[1f32, 2., 3., 4., 5., 6.]).unwrap();
        assert_eq!(x.narrow(0, 1, 1).unwrap().to_vec::<f32>().unwrap(), [4., 5., 6.]);
        assert_eq!(x.reshape([3, 2]).unwrap().as_slice::<f32>().unwrap(), x.as_slice::<f32>().unwrap());
    }

    #[test]
    fn a_shared_tensor_is_not_written_in_place() {
        let mut x = Tensor::zeros(&cpu(), [4], DType::F32).unwrap();
        let other = x.clone();
        assert!(matches!(x.view_mut("test"), Err(Error::Shared { .. })));
        drop(other);
        assert!(x.view_mut("test").is_ok());
    }

    #[test]
    fn memory_of_an_owner_is_read_without_a_copy() {
        let owner: Owner = Arc::new(vec![1u8, 2, 3]);
        let x = Tensor::from_owner::<u8>(&cpu(), [3], owner.clone()).unwrap();
        assert_eq!(x.as_slice::<u8>().unwrap().as_ptr(), (*owner).as_ref().as_ptr());
        assert!(Tensor::from_owner::<u8>(&cpu(), [4], owner).is_err());
    }

    #[test]
    fn a_dropped_tensor_gives_its_bytes_back() {
        let device = cpu();
        let x = Tensor::zeros(&device, [1000], DType::F32).unwrap();
        assert!(device.pool().stats().live >= 4000);
        drop(x);
        assert_eq!(device.pool().stats().live, 0);
    }
}
