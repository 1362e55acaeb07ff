//! A ternary layer to train: forward in the integers of inference, backward with what the codes mean.

use super::{Codes, bit_matmul, expect_device, expect_floats, expect_shape, fake_quantize, linear::product};
use crate::{PackedTensor, Result, Tensor, autograd::record};

/// A weight `[O, C]` rounded to absmean ternary codes with one scale.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// What the codes mean, `[O, C]`, as [`fake_ternarize`](super::fake_ternarize()) gives it.
    pub values: Tensor,
    /// The codes.
    pub packed: PackedTensor,
}

/// `x: [T, C]` · `weight: [O, C]` transposed -> `[T, O]`, both rounded: `codes` are those of `x`, `rounded` is the weight. The gradients pass
/// the rounding straight through, as those of [`fake_quantize()`] and [`fake_ternarize`](super::fake_ternarize()).
///
/// # Errors
/// Where shapes or devices differ, the elements are not f32, the matrix is not ternary, or the device fails.
pub fn bit_linear(x: &Tensor, codes: &Codes, weight: &Tensor, rounded: &Rounded) -> Result<Tensor> {
    let op = "bit_linear";
    let shape = [rounded.packed.rows(), rounded.packed.cols()];
    expect_floats(op, x)?;
    expect_floats(op, weight)?;
    expect_shape(op, x, [codes.scales.shape().len(), shape[1]])?;
    expect_shape(op, weight, shape)?;
    expect_shape(op, &rounded.values, shape)?;
    [x, &rounded.values].into_iter().try_for_each(|x| expect_device(op, weight.device(), x.device()))?;
    let y = bit_matmul(codes, &rounded.packed)?;
    Ok(record(y, [x, weight], || {
        let (wanted, x) = ([x.is_trainable(), weight.is_trainable()], x.detach());
        let values = rounded.values.detach();
        move |dy: &Tensor| {
            let by_x = || product(dy, &values);
            let by_weight = || product(&dy.t()?, &fake_quantize(&x)?);
            Ok([wanted[0].then(by_x).transpose()?, wanted[1].then(by_weight).transpose()?])
        }
    }))
}
