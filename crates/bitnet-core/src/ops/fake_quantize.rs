//! What int8 activations, ternary weights and 16-bit floats mean, as floats to train with: the values are rounded, the gradients are not.
//!
//! The straight-through estimator (Bengio et al. 2013, arXiv:1308.3432): the gradient of the rounded values is taken for that of the floats.
//! The rounding is defined in [`bitnet_quant::activation`] and [`bitnet_quant::ternary`].

use super::expect_floats;
use crate::{DType, Error, Result, Tensor, autograd::record};

pub use bitnet_quant::{
    activation::fake_quantize as reference,
    ternary::{fake_ternarize as ternary_reference, sum_of_magnitudes},
};

/// Each row of `x: [.., C]` rounded to absmax int8 codes, times their scale.
///
/// # Errors
/// Where the elements are not f32 or the device fails.
pub fn fake_quantize(x: &Tensor) -> Result<Tensor> {
    let op = "fake_quantize";
    expect_floats(op, x)?;
    let rows = x.detach().contiguous()?;
    let mut y = Tensor::empty(x.device(), x.shape(), DType::F32)?;
    x.device().backend().fake_quantize(rows.view(), y.view_mut(op)?)?;
    Ok(record(y, [x], || straight_through))
}

/// `w: [O, C]` rounded to absmean ternary codes, times their scale: one for the whole matrix, or one for every `group` columns of a row.
///
/// # Errors
/// Where the elements are not f32, a row is not whole groups, or the device fails.
pub fn fake_ternarize(w: &Tensor, group: Option<usize>) -> Result<Tensor> {
    let op = "fake_ternarize";
    expect_floats(op, w)?;
    if let Some(group) = group.filter(|&group| group == 0 || !w.shape().last().is_multiple_of(group)) {
        let reason = format!("rows of {} are not whole groups of {group}", w.shape().last());
        return Err(Error::Argument { op, reason });
    }
    let rows = w.detach().contiguous()?;
    let mut y = Tensor::empty(w.device(), w.shape(), DType::F32)?;
    let group = group.unwrap_or(w.shape().len());
    w.device().backend().fake_ternarize(rows.view(), group, y.view_mut(op)?)?;
    Ok(record(y, [w], || straight_through))
}

/// `x` rounded to the nearest 16-bit float.
///
/// # Errors
/// Where the elements are not f32, `dtype` is not f16 or bf16, or the device fails.
pub fn fake_cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let op = "fake_cast";
    expect_floats(op, x)?;
    if !matches!(dtype, DType::F16 | DType::BF16) {
        return Err(Error::Argument { op, reason: format!("{dtype:?} is no float of 16 bits") });
    }
    let y = x.detach().to_dtype(dtype)?.to_dtype(DType::F32)?;
    Ok(record(y, [x], || straight_through))
}

fn straight_through(dy: &Tensor) -> Result<[Option<Tensor>; 1]> {
    Ok([Some(dy.clone())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: [usize; 2], values: &[f32]) -> Tensor {
        Tensor::from_slice(crate::host::reference(), shape, values).unwrap()
    }

    #[test]
    fn every_group_has_its_own_scale() {
        let w = tensor([1, 4], &[1.0, -1.0, 4.0, 0.0]);
        let y = fake_ternarize(&w, Some(2)).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, -1.0, 2.0, 0.0]);
        let y = fake_ternarize(&w, None).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.5, -1.5, 1.5, 0.0]);
    }

    #[test]
    fn floats_of_16_bits_pass_gradients_straight_through() {
        let x = tensor([1, 4], &[1.001, -2.7142857, 65504.0, 1e-9]).trainable().unwrap();
        let y = fake_cast(&x, DType::F16).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0009766, -2.7148438, 65504.0, 0.0]);
        let bf16 = fake_cast(&x, DType::BF16).unwrap();
        assert_eq!(bf16.to_vec::<f32>().unwrap()[..2], [1.0, -2.71875]);
        let dy = tensor([1, 4], &[0.1, 1e-12, -3.3, 7.7]);
        let dx = y.backward_from(&dy).unwrap();
        assert_eq!(dx.of(&x).unwrap().to_vec::<f32>().unwrap(), dy.to_vec::<f32>().unwrap());
        assert!(fake_cast(&x, DType::F32).is_err());
    }

    #[test]
    fn groups_that_do_not_fill_a_row_are_refused() {
        assert!(fake_ternarize(&tensor([1, 4], &[0.0; 4]), Some(3)).is_err());
        assert!(fake_ternarize(&tensor([1, 4], &[0.0; 4]), Some(0)).is_err());
    }
}
