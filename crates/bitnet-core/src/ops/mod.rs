//! Ops: one file each with its mathematics, its public function and its scalar reference.

pub mod adam;
pub mod add;
pub mod attention;
pub mod binary;
pub mod bit_linear;
pub mod bit_matmul;
pub mod cache;
pub mod causal_attention;
pub mod compare;
pub mod concat;
pub mod convert;
pub mod copy;
pub mod cross_entropy;
pub mod einsum;
pub mod embedding;
pub mod fake_quantize;
pub mod glu;
pub mod index;
pub mod kl_divergence;
pub mod linear;
pub mod logical;
pub mod matmul;
pub mod matmul_t;
pub mod operand;
pub mod quantize_activation;
pub mod quantize_rows;
pub mod reduce;
pub mod rms_norm;
pub mod rope;
pub mod screen;
pub mod select;
pub mod softmax;
pub mod sort;
pub(crate) mod transpose;
pub mod triples;
pub mod unary;

pub use adam::{Adam, adam};
pub use add::add_to;
pub use attention::{PagedSpan, attention, kv_store};
pub use binary::{Binary, binary, binary_assign};
pub use bit_linear::{Rounded, bit_linear};
pub use bit_matmul::{bit_matmul, bit_matmul_add, bit_matmul_all};
pub use causal_attention::causal_attention;
pub use compare::{Compare, compare};
pub use concat::{concat, stack};
pub use cross_entropy::cross_entropy;
pub use einsum::einsum;
pub use embedding::embedding;
pub use fake_quantize::{fake_cast, fake_quantize, fake_ternarize};
pub use glu::{Glu, glu};
pub use kl_divergence::kl_divergence;
pub use linear::linear;
pub use logical::{Logical, logical};
pub use matmul::matmul;
pub use matmul_t::matmul_t;
pub use operand::Operand;
pub use quantize_activation::{Codes, Norm};
pub use quantize_rows::quantize_rows;
pub use reduce::{Reduce, reduce};
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use screen::{
    LargestBounds, PartialScreen, RowFigures, Screen, ScreenView, SplitTokens, TokenCodes, TokenFigures,
    largest_products,
};
pub use select::select;
pub use unary::{Unary, unary};

use crate::{DType, Device, Error, Result, Shape, Tensor};

/// Refuses operands whose shapes differ from what the op needs.
pub(crate) fn expect_shape(op: &'static str, x: &Tensor, expected: impl Into<Shape>) -> Result<()> {
    let expected = expected.into();
    if x.shape() == expected { Ok(()) } else { Err(Error::Shape { op, expected, got: x.shape() }) }
}

/// Refuses operands on two devices: a backend reads its own memory. What was opened twice, even by one name, is two.
#[inline]
pub(crate) fn expect_device(op: &'static str, a: &Device, b: &Device) -> Result<()> {
    if a.is_same(b) {
        return Ok(());
    }
    Err(Error::Devices { op, a: a.name().to_owned(), b: b.name().to_owned() })
}

/// Refuses elements that are not f32.
pub(crate) fn expect_floats(op: &'static str, x: &Tensor) -> Result<()> {
    if x.dtype() == DType::F32 {
        Ok(())
    } else {
        Err(Error::DType { op, expected: DType::F32, got: x.dtype() })
    }
}
