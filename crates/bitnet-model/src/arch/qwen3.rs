//! Qwen3 with ternary projections (Ternary Bonsai): query and key heads are normalised, the head dim is explicit.

use super::{
    gguf::Meta,
    hf::{Fields, HfConfig, Projections},
};
use crate::{
    Error,
    config::{Activation, Config, Family},
};

/// transformers' `Qwen3ForCausalLM`.
pub(super) fn from_hf(fields: &Fields<'_>) -> Result<HfConfig, Error> {
    fields.must_be_off("use_sliding_window")?;
    let (rope_theta, rope_scaling) = fields.rope(10_000.0)?;
    let heads = fields.size("num_attention_heads")?;
    let config = Config {
        family: Family::Qwen3,
        hidden_size: fields.size("hidden_size")?,
        intermediate_size: fields.size("intermediate_size")?,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: fields.size_or("num_key_value_heads", Some(heads))?,
        head_dim: fields.size_or("head_dim", Some(128))?,
        vocab_size: fields.size("vocab_size")?,
        max_position_embeddings: fields.size_or("max_position_embeddings", Some(32_768))?,
        rms_norm_eps: fields.float_or("rms_norm_eps", 1e-6)?,
        rope_theta,
        rope_scaling,
        activation: fields.activation("silu")?,
        sub_norms: false,
        qk_norm: true,
        tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
    };
    fields.finish(config, fields.projections(Projections::Dense)?)
}

/// GGUF `qwen3`.
pub(super) fn from_gguf(meta: &Meta<'_>) -> Result<Config, Error> {
    let config = meta.config(Family::Qwen3, Activation::Silu)?;
    Ok(Config { qk_norm: true, ..config })
}
