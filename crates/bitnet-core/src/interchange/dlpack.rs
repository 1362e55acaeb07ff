//! What DLPack says of an array in memory (<https://dmlc.github.io/dlpack/latest/c_api.html>), without its C structs: whoever
//! talks to a C consumer fills a `DLTensor` from this and keeps the tensor alive meanwhile.

use super::InterchangeError;
use crate::{DType, Result, Tensor};

/// Devices by the first part of their name, with DLPack's number.
const DEVICE_TYPES: [(&str, i32); 4] = [("cpu", 1), ("cuda", 2), ("vulkan", 7), ("metal", 8)];

/// The fields of a `DLTensor`, named and numbered as DLPack does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Address of the buffer, where the host has one and it has elements. Valid as long as the tensor lives.
    pub data: Option<usize>,
    /// `DLDeviceType`: 1 for the host, 2 for CUDA, 7 for Vulkan, 8 for Metal.
    pub device_type: i32,
    /// Which of the devices of this type.
    pub device_id: i32,
    /// `DLDataTypeCode`: 0 for integers, 1 for unsigned ones, 2 for floats, 4 for bfloat16, 6 for truths.
    pub code: u8,
    /// Bits of one element.
    pub bits: u8,
    /// Elements that are taken together: 1.
    pub lanes: u16,
    /// Extents, outermost first.
    pub shape: Vec<i64>,
    /// Distance between neighbours along each dimension, in elements.
    pub strides: Vec<i64>,
    /// Bytes from `data` to the first element.
    pub byte_offset: u64,
}

impl Description {
    /// Describes a tensor as it lies in memory; views are not copied.
    ///
    /// # Errors
    /// Where DLPack has no number for the device.
    pub fn of(x: &Tensor) -> Result<Self> {
        let view = x.view();
        let layout = view.layout();
        let (device_type, device_id) = device(x.device().name())?;
        let (code, bits) = (type_code(x.dtype()), 8 * x.dtype().size() as u8);
        let address =
            view.buffer().bytes().filter(|_| !x.shape().is_empty()).map(|bytes| bytes.as_ptr().addr());
        Ok(Self {
            data: address,
            device_type,
            device_id,
            code,
            bits,
            lanes: 1,
            shape: signed(x.shape().dims()),
            strides: signed(layout.strides()),
            byte_offset: (layout.offset() * x.dtype().size()) as u64,
        })
    }
}

/// Type and number of a device by its name: `cpu/avx2`, `cuda:1`.
fn device(name: &str) -> Result<(i32, i32), InterchangeError> {
    let unknown = || InterchangeError::UnknownDevice { device: name.into() };
    let (kind, id) = name.split_once(':').unwrap_or((name, "0"));
    let kind = kind.split('/').next().unwrap_or(kind);
    let (_, device_type) = DEVICE_TYPES.into_iter().find(|(known, _)| *known == kind).ok_or_else(unknown)?;
    Ok((device_type, id.parse().map_err(|_| unknown())?))
}

fn type_code(dtype: DType) -> u8 {
    match dtype {
        DType::I8 | DType::I32 | DType::I64 => 0,
        DType::U8 => 1,
        DType::F32 | DType::F16 => 2,
        DType::BF16 => 4,
        DType::Bool => 6,
    }
}

fn signed(extents: &[usize]) -> Vec<i64> {
    extents.iter().map(|&extent| extent as i64).collect()
}
