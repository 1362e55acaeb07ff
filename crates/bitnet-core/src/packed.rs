//! Matrices in a storage format: ternary codes with their scales, or rows of f16, Q6_K and the like.

use crate::{
    Error, Result, device::Device, dtype::DType, ops::triples, shape::Shape, tensor::Tensor, view::View,
};
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
    /// The codes once more, for products with one token.
    triples: Option<Tensor>,
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
        Ok(Self { rows, cols, format: Format::I2S, data, scales: Some(scales), triples: None })
    }

    /// A matrix whose rows hold everything that is needed to dequantize them.
    ///
    /// # Errors
    /// Where the number of bytes is not that of the format.
    pub fn stored(format: Format, rows: usize, cols: usize, data: Tensor) -> Result<Self> {
        let row = format.tensor_bytes(1, cols)?;
        expect_len("stored", &data, rows.checked_mul(row), DType::U8)?;
        Ok(Self { rows, cols, format, data, scales: None, triples: None })
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

    /// Makes a copy of the codes in [triples], from which products with one token are then computed: 5/3 bits a weight instead of 2. Does
    /// nothing where that is not faster, the matrix is not ternary or has a copy.
    ///
    /// # Errors
    /// Where a code is not ternary, or memory runs out.
    ///
    /// [triples]: crate::ops::triples
    pub fn add_triples(&mut self) -> Result<()> {
        let op = "add_triples";
        if self.triples_bytes() == 0 || self.triples.is_some() {
            return Ok(());
        }
        let (cols, row_bytes) = (self.cols, padded_cols(self.cols) / 4);
        let data = self.data.view().as_slice::<u8>(op)?;
        let mut packed = Tensor::empty(self.device(), [triples::bytes(self.rows, cols)], DType::U8)?;
        let out = packed.view_mut(op)?.into_slice::<u8>(op)?;
        let blocks = data.chunks(triples::ROWS * row_bytes).zip(out.chunks_mut(triples::bytes(1, cols)));
        for (i, (rows, block)) in blocks.enumerate() {
            if triples::pack_rows(rows, cols, block) {
                continue;
            }
            let mut codes = vec![0; cols];
            for (row, bytes) in rows.chunks(row_bytes).enumerate() {
                triples::stored_codes(bytes, &mut codes);
                if let Some(column) = codes.iter().position(|&code| code == 3) {
                    let byte = (i * triples::ROWS + row) * row_bytes + triples::byte_of(column);
                    return Err(bitnet_quant::Error::Code { format: self.format, byte }.into());
                }
            }
            unreachable!("a block that is not ternary has a code of 3");
        }
        self.triples = Some(packed);
        Ok(())
    }

    /// Bytes of a copy in triples, 0 where there would be none.
    pub fn triples_bytes(&self) -> usize {
        let wanted = self.scales.is_some() && self.device().backend().takes_triples();
        if wanted && self.data.bytes() > 0 { triples::bytes(self.rows, self.cols) } else { 0 }
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

    /// Bytes that a product with one token reads.
    pub fn bytes_for_one(&self) -> usize {
        let codes = self.triples.as_ref().unwrap_or(&self.data);
        codes.bytes() + self.scales.as_ref().map_or(0, Tensor::bytes)
    }

    /// The matrix for a backend to read.
    pub fn view(&self) -> PackedView<'_> {
        let scales = self.scales.as_ref().map(Tensor::view);
        let triples = self.triples.as_ref().map(Tensor::view);
        PackedView {
            rows: self.rows,
            cols: self.cols,
            format: self.format,
            data: self.data.view(),
            scales,
            triples,
        }
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
    /// Its copy in triples, where the backend takes one.
    pub triples: Option<View<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernels::Kernels;
    use crate::ops::{Codes, bit_matmul};

    /// A matrix of codes that repeat without order, and tokens for it.
    fn matrix(device: &Device, rows: usize, cols: usize, row_scales: bool) -> Result<PackedTensor> {
        let row_bytes = padded_cols(cols) / 4;
        let bytes: Vec<u8> = (0..rows * row_bytes)
            .map(|i| {
                let codes = [i * i % 3, (i + i / 7) % 3, i * 31 / 5 % 3, i / 3 % 3];
                codes.iter().fold(0, |byte, code| byte << 2 | *code as u8)
            })
            .collect();
        let scales: Vec<f32> = (0..if row_scales { rows } else { 1 }).map(|row| 0.3 + row as f32).collect();
        let data = Tensor::from_slice(device, [bytes.len()], &bytes)?;
        PackedTensor::ternary(rows, cols, data, Tensor::from_slice(device, [scales.len()], &scales)?)
    }

    #[test]
    fn a_copy_in_triples_gives_the_bits_of_two_bits() {
        for tier in Kernels::available() {
            for threads in [1, 3] {
                let device =
                    Device::open(&format!("cpu/{}", tier.name), Some(threads)).expect("it is available");
                for (rows, cols) in [(1, 1), (31, 130), (32, 48), (33, 256), (260, 640), (640, 97)] {
                    for tokens in [1, 2] {
                        let x: Vec<f32> = (0..tokens * cols).map(|i| ((i * 37 % 101) as f32).sin()).collect();
                        let x = Tensor::from_slice(&device, [tokens, cols], &x).expect("memory");
                        let x = Codes::quantize(&x).expect("memory");
                        let mut weight = matrix(&device, rows, cols, rows % 2 == 0).expect("memory");
                        let product = |weight: &PackedTensor| {
                            bit_matmul(&x, weight).and_then(|y| y.to_vec::<f32>()).expect("shapes fit")
                        };
                        let expected = product(&weight);
                        weight.add_triples().expect("codes are ternary");
                        assert_eq!(weight.triples.is_some(), tier.triple_dots.is_some(), "{}", tier.name);
                        assert_eq!(
                            product(&weight),
                            expected,
                            "{} {rows} x {cols}, {tokens} tokens",
                            tier.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_code_of_three_is_refused() {
        let device = Device::open("cpu/scalar", Some(1)).expect("every machine has it");
        let mut bytes = [0b01_01_10_00u8; 96];
        bytes[69] = 0b01_01_11_00;
        let data = Tensor::from_slice(&device, [96], &bytes).expect("memory");
        let scales = Tensor::from_slice(&device, [1], &[1f32]).expect("memory");
        let mut weight = PackedTensor::ternary(3, 100, data, scales).expect("the sizes fit");
        let error = weight.add_triples().expect_err("3 is no ternary code");
        let code = bitnet_quant::Error::Code { format: Format::I2S, byte: 69 };
        assert!(matches!(error, Error::Quant(error) if error == code));
    }
}
