//! The safetensors container (huggingface/safetensors, README) and the folders that it comes in.

mod folder;
mod header;
mod index;
mod refusal;
mod unique;
mod writer;

pub(super) use folder::{CONFIG, INDEX, SINGLE};
pub use folder::{Entry, Folder};
pub use header::{TensorInfo, parse_header};
pub use index::{Shards, parse_index};
pub use refusal::Refusal;
pub use safetensors::Dtype;
pub use writer::{Spec, Writer};
