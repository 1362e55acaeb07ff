//! Strided elements into contiguous rows, and one element type into another.

use crate::{Bool, DType, Result, Tensor, autograd::record};
use half::{bf16, f16};

/// An element that any other can be made from.
pub(crate) trait Cast: crate::Element {
    /// From a number; integers truncate towards zero and stop at their ends, NaN is zero.
    fn from_f32(x: f32) -> Self;
    /// From an integer; the low bits where it does not fit.
    fn from_i64(x: i64) -> Self;
    /// As a number, if it is a float.
    fn float(self) -> Option<f32>;
    /// As an integer, if it is one or a truth.
    fn integer(self) -> i64;
}

macro_rules! casts {
    (float: $($t:ty, $from:expr, $to:expr);*) => {$(
        impl Cast for $t {
            #[inline(always)]
            fn from_f32(x: f32) -> Self { $from(x) }
            #[inline(always)]
            fn from_i64(x: i64) -> Self { $from(x as f32) }
            #[inline(always)]
            fn float(self) -> Option<f32> { Some($to(self)) }
            #[inline(always)]
            fn integer(self) -> i64 { $to(self) as i64 }
        }
    )*};
    (integer: $($t:ty),*) => {$(
        impl Cast for $t {
            #[inline(always)]
            fn from_f32(x: f32) -> Self { x as Self }
            #[inline(always)]
            fn from_i64(x: i64) -> Self { x as Self }
            #[inline(always)]
            fn float(self) -> Option<f32> { None }
            #[inline(always)]
            fn integer(self) -> i64 { self.into() }
        }
    )*};
}
casts!(float: f32, |x| x, |x| x; f16, f16::from_f32_const, f16::to_f32_const; bf16, bf16::from_f32_const, bf16::to_f32_const);
casts!(integer: i8, u8, i32, i64);

impl Cast for Bool {
    fn from_f32(x: f32) -> Self {
        Self::from(x != 0.0)
    }

    fn from_i64(x: i64) -> Self {
        Self::from(x != 0)
    }

    fn float(self) -> Option<f32> {
        None
    }

    fn integer(self) -> i64 {
        i64::from(self.get())
    }
}

/// Rows of `width` bytes, one after the other in `x`, to places `pitch` bytes apart in `y`.
#[inline(always)]
pub(crate) fn rows(x: &[u8], width: usize, y: &mut [u8], pitch: usize) {
    for (x, y) in x.chunks_exact(width).zip(y.chunks_mut(pitch)) {
        y[..width].copy_from_slice(x);
    }
}

/// What ordinary stores need to stay in order: nothing.
#[inline(always)]
pub(crate) fn fence() {}

/// `y = x` as another type. Both `[C]`.
pub(crate) fn cast<X: Cast, Y: Cast>(x: &[X], y: &mut [Y]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x.float().map_or_else(|| Y::from_i64(x.integer()), Y::from_f32);
    }
}

impl Tensor {
    /// The elements in contiguous rows: itself where they are, a copy otherwise.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        self.copy()
    }

    /// A copy in contiguous rows with memory of its own.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn copy(&self) -> Result<Self> {
        let mut y = Self::empty(self.device(), self.shape(), self.dtype())?;
        self.device().backend().copy(self.view(), y.view_mut("copy")?)?;
        Ok(record(y, [self], || |g: &Self| Ok([Some(g.clone())])))
    }

    /// The elements as another type, itself where it is the same. Floats to integers truncate towards zero and stop at the ends of the
    /// type (NaN is 0), integers keep their low bits, and truths are 0 and 1. Everything but zero is true, NaN too.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let x = self.detach().contiguous()?;
        let mut y = Self::empty(x.device(), x.shape(), dtype)?;
        x.device().backend().cast(x.view(), y.view_mut("to_dtype")?)?;
        if !dtype.is_float() {
            return Ok(y);
        }
        let from = self.dtype();
        Ok(record(y, [self], || move |g: &Self| Ok([Some(g.to_dtype(from)?)])))
    }

    /// A copy on another device, or itself where it is there.
    ///
    /// # Errors
    /// Where a device fails or has no memory left.
    pub fn to_device(&self, device: &crate::Device) -> Result<Self> {
        if self.device().is_same(device) {
            return Ok(self.clone());
        }
        let x = self.detach().contiguous()?;
        let mut bytes = vec![0; x.bytes()];
        x.device().backend().download(x.view(), &mut bytes)?;
        let mut y = Self::empty(device, x.shape(), x.dtype())?;
        device.backend().upload(&bytes, y.view_mut("to_device")?)?;
        let from = self.device().clone();
        Ok(record(y, [self], || move |g: &Self| Ok([Some(g.to_device(&from)?)])))
    }
}
