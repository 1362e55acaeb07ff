//! The shape of the decoder.

use crate::{Error, Result};
use bitnet_model::{
    Config,
    config::{Activation, Family, RopeScaling},
};
use serde::{Deserialize, Serialize};

/// The shape of the decoder; names as in a Hugging Face `config.json`. The vocabulary is that of the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads [default: the query heads].
    pub num_key_value_heads: Option<usize>,
    /// Width of a head [default: `hidden_size / num_attention_heads`].
    pub head_dim: Option<usize>,
    /// Base of the rotary frequencies.
    #[serde(default = "rope_theta")]
    pub rope_theta: f32,
    /// Added to the mean square inside the root of a norm.
    #[serde(default = "eps")]
    pub rms_norm_eps: f32,
    /// Gate of the feed-forward layer: `relu2` or `silu`.
    #[serde(default = "relu2")]
    pub activation: Activation,
    /// Whether norms stand before the output and down projections.
    #[serde(default = "yes")]
    pub sub_norms: bool,
    /// Whether query and key heads are normalised.
    #[serde(default)]
    pub qk_norm: bool,
    /// Whether the head is the embedding.
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
}

impl ModelConfig {
    /// The shape of a decoder.
    pub fn of(config: &Config) -> Self {
        Self {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: Some(config.num_key_value_heads),
            head_dim: Some(config.head_dim),
            rope_theta: config.rope_theta,
            rms_norm_eps: config.rms_norm_eps,
            activation: config.activation,
            sub_norms: config.sub_norms,
            qk_norm: config.qk_norm,
            tie_word_embeddings: config.tie_word_embeddings,
        }
    }

    /// The decoder's hyperparameters.
    ///
    /// # Errors
    /// Names the field that no decoder has.
    pub fn shape(&self, vocab_size: usize, context: usize) -> Result<Config> {
        let config = Config {
            family: match (self.sub_norms, self.qk_norm) {
                (true, _) => Family::BitNet,
                (false, true) => Family::Qwen3,
                (false, false) => Family::Llama,
            },
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            vocab_size,
            max_position_embeddings: context,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: self.rope_theta,
            rope_scaling: RopeScaling::None,
            activation: self.activation,
            sub_norms: self.sub_norms,
            qk_norm: self.qk_norm,
            tie_word_embeddings: self.tie_word_embeddings,
        };
        if config.sub_norms && config.qk_norm {
            let rule = "false with sub_norms: no checkpoint format has both".into();
            return Err(Error::Config { key: "model.qk_norm", value: "true".into(), rule });
        }
        Ok(config.validate()?)
    }
}

fn rope_theta() -> f32 {
    10_000.0
}
fn eps() -> f32 {
    1e-5
}
fn relu2() -> Activation {
    Activation::Relu2
}
fn yes() -> bool {
    true
}
