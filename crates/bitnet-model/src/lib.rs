//! Layers, architectures, checkpoints, tokenizers and chat templates: all that training and inference share.

pub mod batch;
