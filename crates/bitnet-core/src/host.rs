//! The default of every op: bring the operands to the host, run the op there on the reference tier, put the result back.

use crate::{
    Result,
    backend::{Backend, CodesMut, CodesView},
    device::Device,
    dtype::DType,
    ops::Codes,
    packed::{PackedTensor, PackedView},
    tensor::Tensor,
    view::{View, ViewMut},
};
use std::sync::OnceLock;

/// The device that defines the results: the scalar tier on one thread.
pub fn reference() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| Device::open("cpu/scalar", Some(1)).expect("every machine has the scalar tier"))
}

/// A copy of `x` on the host, with everything that its buffer holds.
pub(crate) fn fetch<B: Backend + ?Sized>(from: &B, x: View<'_>) -> Result<Tensor> {
    let whole = x.whole_bytes();
    let mut bytes = vec![0u8; whole.shape().len()];
    from.download(whole, &mut bytes)?;
    let mut copy = Tensor::empty(reference(), whole.shape(), DType::U8)?;
    reference().backend().upload(&bytes, copy.view_mut("fetch")?)?;
    Ok(copy.viewed(x.layout(), x.dtype()))
}

/// A copy of a stored matrix on the host.
pub(crate) fn fetch_packed<B: Backend + ?Sized>(from: &B, w: PackedView<'_>) -> Result<PackedTensor> {
    let data = fetch(from, w.data)?;
    match w.scales {
        Some(scales) => PackedTensor::ternary(w.rows, w.cols, data, fetch(from, scales)?),
        None => PackedTensor::stored(w.format, w.rows, w.cols, data),
    }
}

/// A copy of quantized activations on the host.
pub(crate) fn fetch_codes<B: Backend + ?Sized>(from: &B, x: CodesView<'_>) -> Result<Codes> {
    Ok(Codes { codes: fetch(from, x.codes)?, scales: fetch(from, x.scales)?, sums: fetch(from, x.sums)? })
}

/// Runs `op` on the reference device with a copy of `y` and puts the copy back.
pub(crate) fn run<B: Backend + ?Sized>(
    device: &B,
    y: ViewMut<'_>,
    op: impl FnOnce(&dyn Backend, ViewMut<'_>) -> Result<()>,
) -> Result<()> {
    device.count_fallback();
    let mut copy = fetch(device, y.as_view())?;
    op(reference().backend(), copy.view_mut("host")?)?;
    put_back(device, &copy, y)
}

/// [`Backend::quantize_activation`] on the host; it has three results.
pub(crate) fn quantize_activation<B: Backend + ?Sized>(
    device: &B,
    x: View<'_>,
    y: CodesMut<'_>,
) -> Result<()> {
    device.count_fallback();
    let codes = Codes::quantize(&fetch(device, x)?)?;
    put_back(device, &codes.codes, y.codes)?;
    put_back(device, &codes.scales, y.scales)?;
    put_back(device, &codes.sums, y.sums)
}

/// [`Backend::sort`] on the host; it has two results.
pub(crate) fn sort<B: Backend + ?Sized>(
    device: &B,
    x: View<'_>,
    descending: bool,
    y: ViewMut<'_>,
    ids: ViewMut<'_>,
) -> Result<()> {
    device.count_fallback();
    let (mut sorted, mut places) = (fetch(device, y.as_view())?, fetch(device, ids.as_view())?);
    let x = fetch(device, x)?;
    reference().backend().sort(x.view(), descending, sorted.view_mut("sort")?, places.view_mut("sort")?)?;
    put_back(device, &sorted, y)?;
    put_back(device, &places, ids)
}

/// Puts back everything that the buffer of `y` holds.
fn put_back<B: Backend + ?Sized>(device: &B, copy: &Tensor, y: ViewMut<'_>) -> Result<()> {
    let whole = copy.view().whole_bytes();
    device.upload(whole.as_bytes("host")?, y.into_whole_bytes())
}
