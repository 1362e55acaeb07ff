//! The elements of a `.npy` file.

use super::{Descr, Header, Kind};
use crate::{
    DType, Device, Result, Tensor,
    buffer::as_bytes,
    interchange::{
        InterchangeError,
        raw::{checked_shape, tensor_of},
    },
};

/// A file whose header was read and whose elements are as many as it says.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    header: Header,
    data: &'a [u8],
}

impl<'a> Array<'a> {
    /// Reads the header of a whole file.
    ///
    /// # Errors
    /// As [`Header::parse`], and where the elements are fewer or more than the header says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InterchangeError> {
        let (header, data) = Header::parse(bytes)?;
        let len = header.shape.iter().try_fold(header.descr.size, |n, &extent| n.checked_mul(extent));
        let wanted = len.ok_or_else(|| InterchangeError::NpyField {
            field: "shape",
            reason: format!("{:?} has more elements than can be counted", header.shape),
        })?;
        if wanted != data.len() {
            return Err(InterchangeError::NpyLength { wanted, got: data.len() });
        }
        Ok(Self { header, data })
    }

    /// What the file says of its elements.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The elements in the order of the file, each with its least significant byte first and widened by zeros.
    fn words(&self) -> impl Iterator<Item = [u8; 8]> {
        let Descr { size, big_endian, .. } = self.header.descr;
        self.data.chunks_exact(size).map(move |element| {
            let mut word = [0; 8];
            word[..size].copy_from_slice(element);
            if big_endian {
                word[..size].reverse();
            }
            word
        })
    }

    /// Integers and truths in the order of the file, or `None` where the elements are floats.
    pub fn integers(&self) -> Option<impl Iterator<Item = i128>> {
        let Descr { kind, size, .. } = self.header.descr;
        let unused = 64 - 8 * size as u32;
        let integer = move |word| match kind {
            Kind::Int => i128::from((i64::from_le_bytes(word) << unused) >> unused),
            _ => i128::from(u64::from_le_bytes(word)),
        };
        (kind != Kind::Float).then(|| self.words().map(integer))
    }

    /// The tensor that the array becomes, in row-major order.
    ///
    /// # Errors
    /// Where there are too many dimensions, a value is not exact in the element type of the tensor, or the device has no memory
    /// left.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let dims = &self.header.shape;
        checked_shape(dims)?;
        let dtype = self.header.descr.dtype();
        let bytes = self.elements(dtype)?;
        let bytes = if self.header.fortran_order { row_major(&bytes, dims, dtype.size()) } else { bytes };
        tensor_of(device, dims, dtype, &bytes)
    }

    /// The elements in the order of the file, as bytes of the element type of the tensor.
    fn elements(&self, dtype: DType) -> Result<Vec<u8>, InterchangeError> {
        let descr = self.header.descr;
        let same = Descr::of(dtype) == Some(Descr { big_endian: false, ..descr });
        match (same, dtype) {
            (true, _) => Ok(self.words().flat_map(|word| word.into_iter().take(descr.size)).collect()),
            (false, DType::F32) => Ok(as_bytes(&self.floats()?).to_vec()),
            (false, _) => Ok(as_bytes(&self.wide_integers()?).to_vec()),
        }
    }

    fn floats(&self) -> Result<Vec<f32>, InterchangeError> {
        let exact = |(index, word)| {
            let value = f64::from_le_bytes(word);
            let narrow = value as f32;
            let same = f64::from(narrow) == value || value.is_nan();
            let lossy = || InterchangeError::Lossy { index, value: value.to_string(), dtype: DType::F32 };
            same.then_some(narrow).ok_or_else(lossy)
        };
        self.words().enumerate().map(exact).collect()
    }

    fn wide_integers(&self) -> Result<Vec<i64>, InterchangeError> {
        let exact = |(index, value): (usize, i128)| {
            let lossy = |_| InterchangeError::Lossy { index, value: value.to_string(), dtype: DType::I64 };
            i64::try_from(value).map_err(lossy)
        };
        self.integers().into_iter().flatten().enumerate().map(exact).collect()
    }
}

/// Puts elements of `size` bytes, whose first index moves fastest, into row-major order.
fn row_major(bytes: &[u8], dims: &[usize], size: usize) -> Vec<u8> {
    let len = bytes.len() / size;
    let source = |mut index: usize| {
        let (mut at, mut stride) = (0, len);
        for &extent in dims.iter().rev() {
            stride /= extent;
            at += index % extent * stride;
            index /= extent;
        }
        at
    };
    (0..len).flat_map(|index| bytes[source(index) * size..][..size].iter().copied()).collect()
}
