//! Hyperparameters as a Hugging Face `config.json`.

use crate::{
    Error, Result,
    config::{Activation, Config, Family, RopeScaling},
};
use serde_json::{Map, Value, json};

/// Name of an activation as `hidden_act`.
pub fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu2 => "relu2",
        Activation::Silu => "silu",
    }
}

/// A `config.json` without a word about quantization.
///
/// # Errors
/// Where the rotary frequencies follow from no rule that it can hold.
pub fn describe(config: &Config, bos: Option<u32>, eos: &[u32]) -> Result<Map<String, Value>> {
    let architecture = match config.family {
        Family::BitNet => "BitNetForCausalLM",
        Family::Llama => "LlamaForCausalLM",
        Family::Qwen3 => "Qwen3ForCausalLM",
    };
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| map.insert(key.to_owned(), value);
    set("architectures", json!([architecture]));
    set("model_type", json!(config.family.name()));
    set("hidden_size", json!(config.hidden_size));
    set("intermediate_size", json!(config.intermediate_size));
    set("num_hidden_layers", json!(config.num_hidden_layers));
    set("num_attention_heads", json!(config.num_attention_heads));
    set("num_key_value_heads", json!(config.num_key_value_heads));
    set("head_dim", json!(config.head_dim));
    set("vocab_size", json!(config.vocab_size));
    set("max_position_embeddings", json!(config.max_position_embeddings));
    set("rms_norm_eps", exact(config.rms_norm_eps));
    set("rope_theta", exact(config.rope_theta));
    set("hidden_act", json!(activation_name(config.activation)));
    set("bos_token_id", json!(bos));
    set("eos_token_id", json!(eos));
    set("torch_dtype", json!("float32"));
    set("tie_word_embeddings", json!(config.tie_word_embeddings));
    match &config.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            set("rope_scaling", json!({ "rope_type": "linear", "factor": exact(*factor) }));
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let scaling = json!({ "rope_type": "llama3", "factor": exact(*factor), "low_freq_factor": exact(*low_freq_factor),
                "high_freq_factor": exact(*high_freq_factor), "original_max_position_embeddings": original });
            set("rope_scaling", scaling);
        }
        RopeScaling::Factors(_) => {
            return Err(Error::Config {
                field: "rope_freqs.weight".into(),
                value: "a factor for each frequency".into(),
                rule: "none: a Hugging Face folder holds only the rule that they follow from; convert from the original folder".into(),
            });
        }
    }
    Ok(map)
}

/// The shortest decimal that reads as this f32.
fn exact(x: f32) -> Value {
    let shortest: f64 = x.to_string().parse().unwrap_or(f64::from(x));
    json!(shortest)
}
