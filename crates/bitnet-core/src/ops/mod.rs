//! Ops: one file each with its mathematics, its public function and its scalar reference.

pub mod add;
pub mod attention;
pub mod bit_matmul;
pub mod cache;
pub mod convert;
pub mod embedding;
pub mod glu;
pub mod matmul_t;
pub mod quantize_activation;
pub mod rms_norm;
pub mod rope;
pub mod softmax;

pub use add::add_assign;
pub use attention::{PagedSpan, attention, kv_store};
pub use bit_matmul::bit_matmul;
pub use embedding::embedding;
pub use glu::{Glu, glu};
pub use matmul_t::matmul_t;
pub use quantize_activation::Codes;
pub use rms_norm::rms_norm;
pub use rope::rope;

use crate::{Error, Result, Shape, Tensor};

/// Refuses operands whose shapes differ from what the op needs.
pub(crate) fn expect_shape(op: &'static str, x: &Tensor, expected: impl Into<Shape>) -> Result<()> {
    let expected = expected.into();
    if x.shape() == expected { Ok(()) } else { Err(Error::Shape { op, expected, got: x.shape() }) }
}
