//! The default of every op: bring the operands to the host, run the op there on the reference tier, put the result back.

use crate::{
    Error, Result,
    backend::{Backend, CodesView},
    device::Device,
    dtype::DType,
    layout::Layout,
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
    let mut bytes = vec![0u8; x.buffer().len()];
    from.download(x.bytes_at(&Layout::contiguous([bytes.len()])), &mut bytes)?;
    let mut copy = Tensor::empty(reference(), [bytes.len()], DType::U8)?;
    reference().backend().upload(&bytes, copy.view_mut("fetch")?)?;
    Ok(copy.viewed(*x.layout(), x.dtype()))
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
    run_all(device, [y], |cpu, [y]| op(cpu, y))
}

/// As [`run`], of an op with several results.
pub(crate) fn run_all<B: Backend + ?Sized, const N: usize>(
    device: &B,
    ys: [ViewMut<'_>; N],
    op: impl FnOnce(&dyn Backend, [ViewMut<'_>; N]) -> Result<()>,
) -> Result<()> {
    device.count_fallback();
    let copies: Result<Vec<_>> = ys.iter().map(|y| fetch(device, y.as_view())).collect();
    let mut copies = copies?;
    let views: Result<Vec<_>> = copies.iter_mut().map(|copy| copy.view_mut("host")).collect();
    let Ok(views) = views?.try_into() else { unreachable!("as many copies as results") };
    op(reference().backend(), views)?;
    copies.iter().zip(ys).try_for_each(|(copy, y)| put_back(device, copy, y))
}

/// Puts back everything that the buffer of `y` holds.
fn put_back<B: Backend + ?Sized>(device: &B, copy: &Tensor, y: ViewMut<'_>) -> Result<()> {
    let bytes =
        copy.view().buffer().bytes().ok_or(Error::NotOnHost { op: "host", device: "of the copy".into() })?;
    device.upload(bytes, y.bytes_at(&Layout::contiguous([bytes.len()])))
}
