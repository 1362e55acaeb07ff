//! Architectures: how a `config.json` or the metadata of a GGUF maps onto [`Config`], and what its tensors are called.

mod bitnet;
pub mod describe;
pub mod gguf;
pub mod hf;
mod llama;
mod qwen3;

use crate::config::{Config, Family};

/// The linear layers of a decoder layer, by their Hugging Face names.
pub const PROJECTIONS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Name of a layer's tensor in a GGUF, by its Hugging Face name without `.weight`.
pub fn gguf_layer_name(hf: &str) -> Option<&'static str> {
    Some(match hf {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.attn_sub_norm" => "attn_sub_norm",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.ffn_sub_norm" => "ffn_sub_norm",
        _ => return None,
    })
}

/// Name of a tensor in a GGUF, by its Hugging Face name.
pub fn gguf_name(hf: &str) -> Option<String> {
    Some(match hf {
        "model.embed_tokens.weight" => "token_embd.weight".into(),
        "model.norm.weight" => "output_norm.weight".into(),
        "lm_head.weight" => "output.weight".into(),
        _ => {
            let (layer, rest) = hf.strip_prefix("model.layers.")?.split_once('.')?;
            let (stem, suffix) = rest.rsplit_once('.')?;
            format!("blk.{layer}.{}.{suffix}", gguf_layer_name(stem)?)
        }
    })
}

/// Norms of a layer with their widths, by their Hugging Face names.
pub fn layer_norms(config: &Config) -> Vec<(&'static str, usize)> {
    let mut norms =
        vec![("input_layernorm", config.hidden_size), ("post_attention_layernorm", config.hidden_size)];
    if config.sub_norms {
        norms.push(("self_attn.attn_sub_norm", config.query_size()));
        norms.push(("mlp.ffn_sub_norm", config.intermediate_size));
    }
    if config.qk_norm {
        norms.extend([("self_attn.q_norm", config.head_dim), ("self_attn.k_norm", config.head_dim)]);
    }
    norms
}

/// Shape `[out, in]` of a projection.
pub fn projection_shape(config: &Config, name: &str) -> (usize, usize) {
    let (c, f) = (config.hidden_size, config.intermediate_size);
    match name {
        "self_attn.q_proj" => (config.query_size(), c),
        "self_attn.o_proj" => (c, config.query_size()),
        "mlp.gate_proj" | "mlp.up_proj" => (f, c),
        "mlp.down_proj" => (c, f),
        _ => (config.key_size(), c),
    }
}

/// Whether the GGUF of a family holds query and key rows in the order of adjacent rotary pairs.
pub fn gguf_permutes_heads(family: Family) -> bool {
    family == Family::Llama
}

/// Row of a GGUF matrix with adjacent rotary pairs that holds row `row` of the Hugging Face order.
pub fn permuted_row(row: usize, head_dim: usize) -> usize {
    let (head, j) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + if j < half { 2 * j } else { 2 * (j - half) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_halves_become_adjacent_pairs() {
        let rows: Vec<usize> = (0..8).map(|r| permuted_row(r, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn names_map_both_ways_for_every_tensor_of_a_layer() {
        assert_eq!(gguf_name("model.layers.3.mlp.down_proj.weight").unwrap(), "blk.3.ffn_down.weight");
        assert_eq!(
            gguf_name("model.layers.0.self_attn.attn_sub_norm.weight").unwrap(),
            "blk.0.attn_sub_norm.weight"
        );
        assert_eq!(gguf_name("model.layers.0.unknown.weight"), None);
    }
}
