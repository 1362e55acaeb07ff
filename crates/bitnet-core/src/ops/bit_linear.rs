//! A ternary layer to train: forward in the integers of inference, backward with what the codes mean.

use super::{Codes, bit_matmul, expect_floats, expect_shape, fake_quantize, fake_ternarize, linear::product};
use crate::{PackedTensor, Result, Tensor, autograd::record};

/// `x: [T, C]` · `weight: [O, C]` transposed -> `[T, O]`, both rounded: `codes` are those of `x`, `packed` those of `weight` with one absmean
/// scale. The gradients pass the rounding straight through, as those of [`fake_quantize()`] and [`fake_ternarize()`].
///
/// # Errors
/// Where shapes differ, the elements are not f32, the matrix is not ternary, or the device fails.
pub fn bit_linear(x: &Tensor, codes: &Codes, weight: &Tensor, packed: &PackedTensor) -> Result<Tensor> {
    let op = "bit_linear";
    expect_floats(op, x)?;
    expect_floats(op, weight)?;
    expect_shape(op, x, [codes.scales.shape().len(), packed.cols()])?;
    expect_shape(op, weight, [packed.rows(), packed.cols()])?;
    let y = bit_matmul(codes, packed)?;
    Ok(record(y, [x, weight], || {
        let (wanted, x, weight) = ([x.is_trainable(), weight.is_trainable()], x.detach(), weight.detach());
        move |dy: &Tensor| {
            let by_x = || product(dy, &fake_ternarize(&weight, None)?);
            let by_weight = || product(&dy.t()?, &fake_quantize(&x)?);
            Ok([wanted[0].then(by_x).transpose()?, wanted[1].then(by_weight).transpose()?])
        }
    }))
}
