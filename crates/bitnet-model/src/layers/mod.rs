//! The parts of a decoder layer.

mod attention;
mod linear;
mod mlp;
mod norm;
mod rope;
mod table;

pub use attention::{Attention, AttentionStates};
pub use linear::{ActivationCodes, Latent, Linear, LinearInput, Quantization, WeightCodes};
pub use mlp::Mlp;
pub use norm::RmsNorm;
pub use rope::{Rope, Rotation};
pub use table::Table;
