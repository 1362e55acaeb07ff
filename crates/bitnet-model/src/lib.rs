//! Layers, architectures, checkpoints, tokenizers and chat templates: all that training and inference share.
//!
//! Read first: [`decoder`], the model.
#![deny(unsafe_code)]

pub mod arch;
pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod decoder;
pub mod error;
pub mod kv;
pub mod latent;
pub mod layers;
pub mod sparsity;
pub mod synthetic;
pub mod template;
pub mod tokenizer;
pub mod weights;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use decoder::Decoder;
pub use error::{Error, Result};
pub use tokenizer::Tokenizer;
