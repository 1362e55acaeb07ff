//! Llama with ternary projections: Falcon-E, Falcon3-1.58, Llama3-8B-1.58.

use super::{
    gguf::Meta,
    hf::{Fields, HfConfig, Projections},
};
use crate::{
    Error,
    config::{Activation, Config, Family},
};

/// transformers' `LlamaForCausalLM`.
pub(super) fn from_hf(fields: &Fields<'_>) -> Result<HfConfig, Error> {
    let (rope_theta, rope_scaling) = fields.rope(10_000.0)?;
    let hidden_size = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    let config = Config {
        family: Family::Llama,
        hidden_size,
        intermediate_size: fields.size("intermediate_size")?,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: fields.size_or("num_key_value_heads", Some(heads))?,
        head_dim: fields.size_or("head_dim", Some(hidden_size / heads.max(1)))?,
        vocab_size: fields.size("vocab_size")?,
        max_position_embeddings: fields.size_or("max_position_embeddings", Some(2048))?,
        rms_norm_eps: fields.float_or("rms_norm_eps", 1e-6)?,
        rope_theta,
        rope_scaling,
        activation: fields.activation("silu")?,
        sub_norms: false,
        qk_norm: false,
        tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
    };
    fields.finish(config, fields.projections(Projections::Dense)?)
}

/// GGUF `llama`.
pub(super) fn from_gguf(meta: &Meta<'_>) -> Result<Config, Error> {
    meta.config(Family::Llama, Activation::Silu)
}
