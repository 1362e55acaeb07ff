//! How the functions that make tensors are tried.

use super::rows::{Op, op};
use bitnet_core::{Bool, DType, Element, Error, Result, Tensor, random::Rng};
use half::{bf16, f16};
use std::sync::Arc;

pub fn creation() -> Vec<Op> {
    vec![
        op("zeros", "zeros", |x| Tensor::zeros(x.device(), [2, 2], x.dtype())),
        op("zeros_like", "zeros of the shape of another", Tensor::zeros_like),
        op("ones", "ones", |x| Tensor::ones(x.device(), [2, 2], x.dtype())),
        op("ones_like", "ones of the shape of another", Tensor::ones_like),
        op("full", "one number", |x| Tensor::full(x.device(), [2, 2], 1.0, x.dtype())),
        op("scalar", "one number, without dimensions", |x| Tensor::scalar(x.device(), 1.0, x.dtype())),
        op("arange", "numbers in steps", |x| Tensor::arange(x.device(), 0.0, 4.0, 1.0, x.dtype())),
        op("linspace", "numbers between two", |x| Tensor::linspace(x.device(), 0.0, 1.0, 4, x.dtype())),
        op("eye", "ones on the diagonal", |x| Tensor::eye(x.device(), 2, x.dtype())),
        op("uniform", "random numbers, all equally likely", |x| {
            of_its_type(x, Tensor::uniform(x.device(), [2, 2], (0.0, 1.0), &mut Rng::new(1)))
        }),
        op("normal", "random numbers, normally distributed", |x| {
            of_its_type(x, Tensor::normal(x.device(), [2, 2], (0.0, 1.0), &mut Rng::new(1)))
        }),
        op("empty", "arbitrary elements", |x| Tensor::empty(x.device(), [2, 2], x.dtype())?.zeros_like()),
        op("from_slice", "a copy of elements of the host", |x| match x.dtype() {
            DType::F32 => from_slice::<f32>(x),
            DType::F16 => from_slice::<f16>(x),
            DType::BF16 => from_slice::<bf16>(x),
            DType::I8 => from_slice::<i8>(x),
            DType::U8 => from_slice::<u8>(x),
            DType::I32 => from_slice::<i32>(x),
            DType::I64 => from_slice::<i64>(x),
            DType::Bool => from_slice::<Bool>(x),
        }),
        op("from_owner", "over memory of the host, without a copy", |x| match x.dtype() {
            DType::F32 => from_owner::<f32>(x),
            DType::F16 => from_owner::<f16>(x),
            DType::BF16 => from_owner::<bf16>(x),
            DType::I8 => from_owner::<i8>(x),
            DType::U8 => from_owner::<u8>(x),
            DType::I32 => from_owner::<i32>(x),
            DType::I64 => from_owner::<i64>(x),
            DType::Bool => from_owner::<Bool>(x),
        }),
    ]
}

/// `y`, refused where its elements are of another type than those of `x`.
fn of_its_type(x: &Tensor, y: Result<Tensor>) -> Result<Tensor> {
    let (y, op) = (y?, "drawn");
    if y.dtype() == x.dtype() { Ok(y) } else { Err(Error::DType { op, expected: x.dtype(), got: y.dtype() }) }
}

fn from_slice<T: Element>(x: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(x.device(), [2, 2], &[T::default(); 4])
}

/// Zeros of every type.
#[repr(align(8))]
struct Zeros([u8; 32]);

impl AsRef<[u8]> for Zeros {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn from_owner<T: Element>(x: &Tensor) -> Result<Tensor> {
    Tensor::from_owner::<T>(x.device(), [2, 2], Arc::new(Zeros([0; 32])))
}
