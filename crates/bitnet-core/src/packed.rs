//! Matrices in a storage format: ternary codes with their scales, or rows of f16, Q6_K and the like.

use crate::{Error, Result, device::Device, dtype::DType, shape::Shape, tensor::Tensor, view::View};
use bitnet_quant::Format;

/// A weight matrix `[rows, cols]` as it is stored. Ternary ones are in the compute layout, I2_S with rows padded to
/// a multiple of 128 columns, beside the scales that multiply them: one for the matrix or one a row.
#[derive(Clone, Debug)]
pub struct PackedTensor {
    rows: usize,
    cols: usize,
    format: Format,
    data: Tensor,
    scales: Option<Tensor>,
}

/// Columns of a ternary compute row: padded to whole blocks.
pub const fn padded_cols(cols: usize) -> usize {
    cols.next_multiple_of(128)
}

impl PackedTensor {
    /// A ternary matrix in the compute layout; `data` holds `rows * padded_cols(cols) / 4` bytes and `scales` one value
    /// or one a row.
    ///
    /// # Errors
    /// Where the sizes do not fit.
    pub fn ternary(rows: usize, cols: usize, data: Tensor, scales: Tensor) -> Result<Self> {
        let wanted = rows.checked_mul(padded_cols(cols) / 4);
        expect_len("ternary", &data, wanted, DType::U8)?;
        if scales.shape().len() != 1 {
            expect_len("ternary scales", &scales, Some(rows), DType::F32)?;
        }
        Ok(Self { rows, cols, format: Format::I2S, data, scales: Some(scales) })
    }

    /// A matrix whose rows hold everything that is needed to dequantize them.
    ///
    /// # Errors
    /// Where the number of bytes is not that of the format.
    pub fn stored(format: Format, rows: usize, cols: usize, data: Tensor) -> Result<Self> {
        let row = format.tensor_bytes(1, cols)?;
        expect_len("stored", &data, rows.checked_mul(row), DType::U8)?;
        Ok(Self { rows, cols, format, data, scales: None })
    }

    /// The rows of an f32 tensor as a stored matrix, sharing the elements.
    ///
    /// # Errors
    /// Where the elements are not f32 or the rows are strided.
    pub fn from_rows(x: &Tensor) -> Result<Self> {
        if x.dtype() != DType::F32 {
            return Err(Error::DType { op: "from_rows", expected: DType::F32, got: x.dtype() });
        }
        Self::stored(Format::F32, x.shape().rows(), x.shape().last(), x.to_bytes_view()?)
    }

    /// `len` rows of a stored matrix from `start` on, sharing the bytes.
    ///
    /// # Errors
    /// Where there are fewer rows, or the matrix is ternary.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let op = "narrow";
        if self.scales.is_some() {
            return Err(Error::Format { op, format: self.format });
        }
        if start.checked_add(len).is_none_or(|end| end > self.rows) {
            return Err(Error::Range { op, start, len, extent: self.rows });
        }
        let row = self.format.tensor_bytes(1, self.cols)?;
        Ok(Self { rows: len, data: self.data.narrow(0, start * row, len * row)?, ..self.clone() })
    }

    /// Rows: outputs of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs of the matrix.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Storage format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The stored bytes.
    pub fn data(&self) -> &Tensor {
        &self.data
    }

    /// Scales of a ternary matrix: `[1]` or `[rows]`.
    pub fn scales(&self) -> Option<&Tensor> {
        self.scales.as_ref()
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        self.data.device()
    }

    /// Bytes of codes and scales.
    pub fn bytes(&self) -> usize {
        self.data.bytes() + self.scales.as_ref().map_or(0, Tensor::bytes)
    }

    /// The matrix for a backend to read.
    pub fn view(&self) -> PackedView<'_> {
        let scales = self.scales.as_ref().map(Tensor::view);
        PackedView { rows: self.rows, cols: self.cols, format: self.format, data: self.data.view(), scales }
    }
}

fn expect_len(op: &'static str, tensor: &Tensor, wanted: Option<usize>, dtype: DType) -> Result<()> {
    if tensor.dtype() != dtype {
        return Err(Error::DType { op, expected: dtype, got: tensor.dtype() });
    }
    if wanted != Some(tensor.shape().len()) {
        let expected = Shape::from([wanted.unwrap_or(usize::MAX)]);
        return Err(Error::Shape { op, expected, got: tensor.shape() });
    }
    Ok(())
}

/// A [`PackedTensor`] for a backend to read.
#[derive(Clone, Copy, Debug)]
pub struct PackedView<'a> {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Storage format.
    pub format: Format,
    /// The stored bytes.
    pub data: View<'a>,
    /// Scales of a ternary matrix.
    pub scales: Option<View<'a>>,
}
