//! BitNet b1.58: norms before the output and down projections. Microsoft's models gate with squared ReLU, 1bitLLM's with SiLU.

use super::{
    gguf::Meta,
    hf::{Fields, HfConfig, Projections},
};
use crate::{
    Error,
    config::{Activation, Config, Family},
};

/// transformers' `BitNetForCausalLM`.
pub(super) fn from_hf(fields: &Fields<'_>) -> Result<HfConfig, Error> {
    let activation = fields.activation("relu2")?;
    hf(fields, activation, 500_000.0, fields.projections(Projections::Dense)?)
}

/// The remote code of 1bitLLM's `BitnetForCausalLM`: masters that are ternarized in every forward, SiLU by default.
pub(super) fn from_hf_1bitllm(fields: &Fields<'_>) -> Result<HfConfig, Error> {
    let activation = fields.activation("silu")?;
    hf(fields, activation, 10_000.0, fields.projections(Projections::Online)?)
}

fn hf(
    fields: &Fields<'_>,
    activation: Activation,
    default_theta: f32,
    projections: (Projections, Vec<String>),
) -> Result<HfConfig, Error> {
    let (rope_theta, rope_scaling) = fields.rope(default_theta)?;
    let hidden_size = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    let config = Config {
        family: Family::BitNet,
        hidden_size,
        intermediate_size: fields.size("intermediate_size")?,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: fields.size_or("num_key_value_heads", Some(heads))?,
        head_dim: fields.size_or("head_dim", Some(hidden_size / heads.max(1)))?,
        vocab_size: fields.size("vocab_size")?,
        max_position_embeddings: fields.size_or("max_position_embeddings", Some(2048))?,
        rms_norm_eps: fields.float_or("rms_norm_eps", 1e-5)?,
        rope_theta,
        rope_scaling,
        activation,
        sub_norms: true,
        qk_norm: false,
        tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
    };
    fields.finish(config, projections)
}

/// GGUF `bitnet` (SiLU), `bitnet-25` and `bitnet-b1.58` (squared ReLU).
pub(super) fn from_gguf(meta: &Meta<'_>, activation: Activation) -> Result<Config, Error> {
    let config = meta.config(Family::BitNet, activation)?;
    Ok(Config { sub_norms: true, ..config })
}
