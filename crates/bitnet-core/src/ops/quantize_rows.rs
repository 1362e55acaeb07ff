//! A stored matrix in another format of rows.

use crate::{DType, Error, PackedTensor, Result, Tensor};
use bitnet_quant::Format;

/// The rows of a stored matrix `[O, C]`, each number to the nearest that `format` holds: what
/// [`Format::quantize_row`] makes of the row.
///
/// # Errors
/// Where the matrix is ternary, `format` has no rows of this length or none of floats, a number is not finite, or the device fails.
pub fn quantize_rows(weight: &PackedTensor, format: Format) -> Result<PackedTensor> {
    let op = "quantize_rows";
    if weight.scales().is_some() {
        return Err(Error::Format { op, format: weight.format() });
    }
    let bytes = format.tensor_bytes(weight.rows(), weight.cols())?;
    let mut data = Tensor::empty(weight.device(), [bytes], DType::U8)?;
    weight.device().backend().quantize_rows(weight.view(), format, data.view_mut(op)?)?;
    PackedTensor::stored(format, weight.rows(), weight.cols(), data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, random::Rng};

    #[test]
    fn rows_are_those_of_the_format_on_any_number_of_threads() {
        let mut random = Rng::new(3);
        let values: Vec<f32> = (0..70 * 512).map(|_| random.next_normals()[0] as f32).collect();
        for format in [Format::Q8_0, Format::Q6K, Format::F16] {
            let mut expected = vec![0; format.tensor_bytes(70, 512).unwrap()];
            let row_bytes = expected.len() / 70;
            for (row, out) in values.chunks(512).zip(expected.chunks_mut(row_bytes)) {
                format.quantize_row(row, out).unwrap();
            }
            for threads in [1, 3] {
                let device = Device::open("cpu", Some(threads)).unwrap();
                let x = Tensor::from_slice(&device, [70, 512], &values).unwrap();
                let got = quantize_rows(&PackedTensor::from_rows(&x).unwrap(), format).unwrap();
                assert_eq!(got.data().to_vec::<u8>().unwrap(), expected, "{format}, {threads} threads");
            }
        }
    }

    #[test]
    fn what_the_format_cannot_hold_is_refused() {
        let device = Device::open("cpu", Some(2)).unwrap();
        let matrix = |cols: usize, value: f32| {
            let mut values = vec![0.5f32; 3 * cols];
            values[2 * cols + 7] = value;
            PackedTensor::from_rows(&Tensor::from_slice(&device, [3, cols], &values).unwrap()).unwrap()
        };
        assert!(quantize_rows(&matrix(256, f32::NAN), Format::Q6K).is_err());
        assert!(quantize_rows(&matrix(288, 0.5), Format::Q6K).is_err());
        assert!(quantize_rows(&matrix(288, 0.5), Format::Q8_0).is_ok());
        assert!(quantize_rows(&matrix(256, 0.5), Format::I2S).is_err());
    }
}
