//! The metadata of a GGUF as a [`Config`]. Keys: ggml, `docs/gguf.md`; defaults: llama.cpp.

use super::{bitnet, llama, qwen3};
use crate::{
    Error, Result,
    config::{Activation, Config, Family, RopeScaling},
    weights::gguf::{FromValue, Gguf, Strings, TensorInfo},
};

/// Keys that change the mathematics; the decoder has none of it, so they must be absent or zero.
const MUST_BE_OFF: [&str; 11] = [
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.max_alibi_bias",
    "attention.clamp_kqv",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "use_parallel_residual",
];

/// Reads the hyperparameters of a GGUF.
///
/// # Errors
/// Names the architecture or the key that is unknown, missing or out of range.
pub fn config(gguf: &Gguf) -> Result<Config> {
    let arch: &str = gguf.get("general.architecture")?;
    let kind: &str = gguf.find("general.type")?.unwrap_or("model");
    if kind != "model" {
        return Err(refuse("general.type", kind, "model: this file is only a part of one"))
            .map_err(|e| e.at(gguf.path()));
    }
    let meta = Meta { gguf, arch };
    let config = match arch {
        "bitnet-b1.58" | "bitnet-25" => bitnet::from_gguf(&meta, Activation::Relu2),
        "bitnet" if has_llama3_vocabulary(gguf)? => {
            let rule = "bitnet-b1.58: this vocabulary belongs to BitNet-b1.58-2B-4T, whose squared ReLU this architecture does \
                not have; convert the original folder with `bitnet convert`";
            Err(refuse("general.architecture", arch, rule))
        }
        "bitnet" => bitnet::from_gguf(&meta, Activation::Silu),
        "llama" => llama::from_gguf(&meta),
        "qwen3" => qwen3::from_gguf(&meta),
        other => {
            let rule = "bitnet-b1.58, bitnet-25, bitnet, llama or qwen3";
            Err(refuse("general.architecture", other, rule))
        }
    };
    config.and_then(Config::validate).map_err(|e| e.at(gguf.path()))
}

/// Llama 3's vocabulary as published: no model that gates with SiLU as `bitnet` does has it.
fn has_llama3_vocabulary(gguf: &Gguf) -> Result<bool> {
    let tokens: Option<&Strings> = gguf.find("tokenizer.ggml.tokens")?;
    Ok(tokens.is_some_and(|t| t.len() == 128_256 && t.get(128_009) == Some("<|eot_id|>")))
}

fn refuse(field: &str, value: impl ToString, rule: &str) -> Error {
    Error::Config { field: field.into(), value: value.to_string(), rule: rule.into() }
}

/// The keys of one architecture.
pub(super) struct Meta<'a> {
    gguf: &'a Gguf,
    arch: &'a str,
}

impl Meta<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn get<'b, T: FromValue<'b>>(&'b self, name: &str) -> Result<T> {
        self.gguf.get(&self.key(name))
    }

    fn find<'b, T: FromValue<'b>>(&'b self, name: &str) -> Result<Option<T>> {
        self.gguf.find(&self.key(name))
    }

    /// What all architectures have in common.
    pub(super) fn config(&self, family: Family, activation: Activation) -> Result<Config> {
        self.check_off()?;
        let hidden_size: usize = self.get("embedding_length")?;
        let heads: usize = self.get("attention.head_count")?;
        let head_dim = self.head_dim(heads, hidden_size)?;
        Ok(Config {
            family,
            hidden_size,
            intermediate_size: self.get("feed_forward_length")?,
            num_hidden_layers: self.get("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: self.find("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocab_size: self.vocab_size()?,
            max_position_embeddings: self.get("context_length")?,
            rms_norm_eps: self.get("attention.layer_norm_rms_epsilon")?,
            rope_theta: self.find("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling(head_dim)?,
            activation,
            sub_norms: false,
            qk_norm: false,
            tie_word_embeddings: self.gguf.tensor("output.weight").is_none(),
        })
    }

    fn check_off(&self) -> Result<()> {
        if self.find("attention.causal")? == Some(false) {
            return Err(refuse(&self.key("attention.causal"), false, "true: only decoders are implemented"));
        }
        let factor: f32 = self.find("rope.scaling.attn_factor")?.unwrap_or(1.0);
        if factor != 1.0 {
            return Err(refuse(&self.key("rope.scaling.attn_factor"), factor, "absent or 1"));
        }
        for name in MUST_BE_OFF {
            let key = self.key(name);
            let Some(value) = self.gguf.metadata().value(&key) else { continue };
            let off = value.integer() == Some(0)
                || f32::from_value(value) == Some(0.0)
                || bool::from_value(value) == Some(false);
            if !off {
                return Err(refuse(&key, format!("{value:?}"), "absent: this part is not implemented"));
            }
        }
        Ok(())
    }

    /// Keys, values and rotary embeddings of one width: where no key names it, that of the query matrix.
    fn head_dim(&self, heads: usize, hidden_size: usize) -> Result<usize> {
        if heads == 0 || heads > hidden_size {
            let rule = format!("1 to {hidden_size}, the width of the model");
            return Err(refuse(&self.key("attention.head_count"), heads, &rule));
        }
        let rows = self.gguf.tensor("blk.0.attn_q.weight").map_or(hidden_size, TensorInfo::rows);
        let head_dim = self.find("attention.key_length")?.unwrap_or(rows / heads);
        for name in ["attention.value_length", "rope.dimension_count"] {
            let width = self.find(name)?.unwrap_or(head_dim);
            if width != head_dim {
                return Err(refuse(&self.key(name), width, &format!("{head_dim}, the width of a head")));
            }
        }
        Ok(head_dim)
    }

    /// Rows of the embedding, which the metadata may repeat.
    fn vocab_size(&self) -> Result<usize> {
        let embedding = self.gguf.tensor("token_embd.weight");
        let rows = embedding.ok_or_else(|| Error::MissingTensor { name: "token_embd.weight".into() })?.rows();
        let said: usize = self.find("vocab_size")?.unwrap_or(rows);
        if said != rows {
            return Err(refuse(
                &self.key("vocab_size"),
                said,
                &format!("{rows}, the rows of token_embd.weight"),
            ));
        }
        Ok(rows)
    }

    /// Linear scaling or none; Llama 3's rule is stored as a tensor of factors instead.
    fn rope_scaling(&self, head_dim: usize) -> Result<RopeScaling> {
        let linear = self.linear_rope()?;
        match (self.rope_factors(head_dim)?, linear) {
            (None, None) => Ok(RopeScaling::None),
            (Some(factors), None) => Ok(factors),
            (None, Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some(_), Some(factor)) => {
                let rule = "absent or 1 beside rope_freqs.weight";
                Err(refuse(&self.key("rope.scaling.factor"), factor, rule))
            }
        }
    }

    /// The factor of linear scaling, unless it changes nothing. It is linear where no type is given, as in llama.cpp.
    fn linear_rope(&self) -> Result<Option<f32>> {
        let kind: &str = self.find("rope.scaling.type")?.unwrap_or("linear");
        let named: Option<f32> = self.find("rope.scaling.factor")?;
        let factor = if named.is_some() { named } else { self.find("rope.scale_linear")? };
        match kind {
            "none" => Ok(None),
            // llama.cpp reads 0 as absent.
            "linear" => Ok(factor.filter(|&factor| factor != 0.0 && factor != 1.0)),
            other => Err(refuse(&self.key("rope.scaling.type"), other, "none or linear")),
        }
    }

    fn rope_factors(&self, head_dim: usize) -> Result<Option<RopeScaling>> {
        let name = "rope_freqs.weight";
        let Some(tensor) = self.gguf.tensor(name) else { return Ok(None) };
        if tensor.shape != [head_dim / 2] {
            let (expected, got) = (vec![head_dim / 2], tensor.shape.clone());
            return Err(Error::TensorShape { name: name.into(), expected, got });
        }
        let mut factors = vec![0.0; head_dim / 2];
        let read = tensor.format.dequantize_row(&self.gguf.bytes(tensor), &mut factors);
        read.map_err(|error| Error::Tensor { name: name.into(), error })?;
        Ok(Some(RopeScaling::Factors(factors)))
    }
}
