//! The parts of a decoder layer.

mod attention;
mod linear;
mod mlp;
mod norm;
mod rope;

pub use attention::Attention;
pub use linear::{Linear, LinearInput};
pub use mlp::Mlp;
pub use norm::RmsNorm;
pub use rope::{Rope, Rotation};
