//! What a decoder is made of. Five variation points (activation, sub-norms, qk-norm, rope, tied embeddings) are data.

use crate::Error;

/// Family of decoders that a checkpoint belongs to; decides names, not mathematics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// BitNet b1.58: sub-norms before the output and down projections.
    BitNet,
    /// Llama with ternary projections.
    Llama,
    /// Qwen3 with ternary projections: norms on query and key heads.
    Qwen3,
}

impl Family {
    /// Name as in `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BitNet => "bitnet",
            Self::Llama => "llama",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// What gates the feed-forward layer.
pub use bitnet_core::ops::Glu as Activation;

/// How rotary frequencies depend on the length of the context.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor.
        factor: f32,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f32,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// Context that the base model was trained with.
        original: usize,
    },
    /// Each frequency divided by its own factor (GGUF `rope_freqs.weight`), `[D/2]`.
    Factors(Vec<f32>),
}

/// Hyperparameters of a decoder. Field names are Hugging Face's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Family of decoders.
    pub family: Family,
    /// C: width of the residual stream.
    pub hidden_size: usize,
    /// F: width of the feed-forward layer.
    pub intermediate_size: usize,
    /// L: number of layers.
    pub num_hidden_layers: usize,
    /// H: query heads.
    pub num_attention_heads: usize,
    /// K: key and value heads.
    pub num_key_value_heads: usize,
    /// D: width of a head.
    pub head_dim: usize,
    /// V: rows of the embedding.
    pub vocab_size: usize,
    /// Positions that the model was trained for.
    pub max_position_embeddings: usize,
    /// Added to the mean square inside the root.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Change of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Gate of the feed-forward layer.
    pub activation: Activation,
    /// Whether norms stand before the output and down projections.
    pub sub_norms: bool,
    /// Whether query and key heads are normalised.
    pub qk_norm: bool,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
}

/// Most layers a model may claim; the deepest public ones have a few hundred.
const MAX_LAYERS: usize = 1024;
/// Most entries of any one width a model may claim.
const MAX_WIDTH: usize = 1 << 24;
/// Most inputs of a ternary matrix: products with int8 codes are summed in 32 bits, by some kernels in units of 64.
const MAX_INPUTS: usize = 1 << 17;

impl Config {
    /// Checks that the numbers describe a decoder that can be built.
    ///
    /// # Errors
    /// Names the field, its value and the rule.
    pub fn validate(self) -> Result<Self, Error> {
        let widths = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (field, value) in widths {
            require(field, value, (1..=MAX_WIDTH).contains(&value), "a positive number below 2^24")?;
        }
        let query_size = self.num_attention_heads.saturating_mul(self.head_dim);
        let inputs = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads * head_dim", query_size),
        ];
        for (field, value) in inputs {
            require(field, value, value <= MAX_INPUTS, "at most 2^17")?;
        }
        let layers = self.num_hidden_layers;
        require("num_hidden_layers", layers, (1..=MAX_LAYERS).contains(&layers), "1 to 1024 layers")?;
        require(
            "head_dim",
            self.head_dim,
            self.head_dim.is_multiple_of(2),
            "an even number, for rotary pairs",
        )?;
        let grouped = self.num_attention_heads.is_multiple_of(self.num_key_value_heads);
        require(
            "num_key_value_heads",
            self.num_key_value_heads,
            grouped,
            "a divisor of num_attention_heads",
        )?;
        let eps = self.rms_norm_eps;
        require("rms_norm_eps", eps, eps > 0.0 && eps < 1.0, "a number between 0 and 1")?;
        let theta = self.rope_theta;
        require("rope_theta", theta, theta >= 1.0 && theta.is_finite(), "a finite number of at least 1")?;
        self.validate_rope()?;
        Ok(self)
    }

    fn validate_rope(&self) -> Result<(), Error> {
        let positive = |x: f32| x > 0.0 && x.is_finite();
        match &self.rope_scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => {
                require("rope_scaling.factor", factor, positive(*factor), "a positive number")
            }
            RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original } => {
                require("rope_scaling.factor", factor, positive(*factor), "a positive number")?;
                let ordered = positive(*low) && positive(*high) && high > low;
                require("rope_scaling.high_freq_factor", high, ordered, "more than low_freq_factor")?;
                let field = "rope_scaling.original_max_position_embeddings";
                require(field, original, *original > 0, "a positive number")
            }
            RopeScaling::Factors(factors) => {
                let half = self.head_dim / 2;
                require(
                    "rope_freqs.weight",
                    factors.len(),
                    factors.len() == half,
                    "half of head_dim factors",
                )?;
                let bad = factors.iter().copied().find(|&f| !positive(f));
                bad.map_or(Ok(()), |f| require("rope_freqs.weight", f, false, "positive numbers"))
            }
        }
    }

    /// H·D: width of the query projection.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// K·D: width of the key and the value projection.
    pub fn key_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Parameters of the embedding, the layers and an untied head.
    pub fn parameters(&self) -> u64 {
        let (c, f, v) = (self.hidden_size as u64, self.intermediate_size as u64, self.vocab_size as u64);
        let attention = 2 * c * (self.query_size() + self.key_size()) as u64;
        let heads = if self.tie_word_embeddings { 1 } else { 2 };
        let norms = 2 * c + if self.sub_norms { c + f } else { 0 };
        heads * v * c + c + self.num_hidden_layers as u64 * (attention + 3 * c * f + norms)
    }
}

fn require(field: &'static str, value: impl ToString, holds: bool, rule: &'static str) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Config { field: field.into(), value: value.to_string(), rule: rule.into() })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small valid configuration to break.
    pub(crate) fn tiny() -> Config {
        Config {
            family: Family::BitNet,
            hidden_size: 256,
            intermediate_size: 512,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 64,
            vocab_size: 512,
            max_position_embeddings: 256,
            rms_norm_eps: 1e-5,
            rope_theta: 10000.0,
            rope_scaling: RopeScaling::None,
            activation: Activation::Relu2,
            sub_norms: true,
            qk_norm: false,
            tie_word_embeddings: true,
        }
    }

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = tiny();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn numbers_that_no_decoder_has_are_refused_by_field() {
        assert!(refused(|c| c.num_hidden_layers = 0).contains("num_hidden_layers"));
        assert!(refused(|c| c.num_hidden_layers = 65536).contains("num_hidden_layers"));
        assert!(refused(|c| c.num_attention_heads = 0).contains("num_attention_heads"));
        assert!(refused(|c| c.num_key_value_heads = 3).contains("num_key_value_heads"));
        assert!(refused(|c| c.head_dim = 63).contains("head_dim"));
        assert!(refused(|c| c.rms_norm_eps = 0.0).contains("rms_norm_eps"));
        assert!(refused(|c| c.rms_norm_eps = f32::NAN).contains("rms_norm_eps"));
        assert!(refused(|c| c.rope_theta = f32::INFINITY).contains("rope_theta"));
        assert!(refused(|c| c.rope_scaling = RopeScaling::Linear { factor: 0.0 }).contains("factor"));
        assert!(refused(|c| c.rope_scaling = RopeScaling::Factors(vec![1.0; 3])).contains("rope_freqs"));
    }

    #[test]
    fn the_2b_4t_shape_has_the_published_number_of_parameters() {
        let config = Config {
            hidden_size: 2560,
            intermediate_size: 6912,
            num_hidden_layers: 30,
            num_attention_heads: 20,
            num_key_value_heads: 5,
            head_dim: 128,
            vocab_size: 128_256,
            ..tiny()
        };
        assert_eq!(config.parameters(), 2_412_820_480);
    }
}
