//! Random models of published shapes, built in memory, so that speed can be measured without a download.

use crate::{
    config::{Activation, Config, Family, RopeScaling},
    decoder::{Decoder, Layer},
    layers::{Attention, Linear, Mlp, RmsNorm, Rope, Table},
};
use bitnet_core::{DType, Device, PackedTensor, Result, Tensor, packed::padded_cols};
use bitnet_quant::Format;

/// A published shape. Sources: the models' `config.json`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Name on the command line.
    pub name: &'static str,
    /// The model that has this shape.
    pub model: &'static str,
    family: Family,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    theta: f32,
    tied: bool,
}

/// Shapes that can be built.
pub const SHAPES: [Shape; 8] = [
    Shape {
        name: "2b-4t",
        model: "microsoft/bitnet-b1.58-2B-4T",
        family: Family::BitNet,
        hidden: 2560,
        intermediate: 6912,
        layers: 30,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        vocab: 128_256,
        theta: 500_000.0,
        tied: true,
    },
    Shape {
        name: "large",
        model: "1bitLLM/bitnet_b1_58-large",
        family: Family::BitNet,
        hidden: 1536,
        intermediate: 4096,
        layers: 24,
        heads: 16,
        kv_heads: 16,
        head_dim: 96,
        vocab: 32_002,
        theta: 10_000.0,
        tied: true,
    },
    Shape {
        name: "3b",
        model: "1bitLLM/bitnet_b1_58-3B",
        family: Family::BitNet,
        hidden: 3200,
        intermediate: 8640,
        layers: 26,
        heads: 32,
        kv_heads: 32,
        head_dim: 100,
        vocab: 32_002,
        theta: 10_000.0,
        tied: true,
    },
    // Falcon-E: layers and the head of its own from a loader's log (microsoft/BitNet, pull request 268); the widths are those that give
    // the published sizes of the packed checkpoints, 635 MB and 999 MB.
    Shape {
        name: "falcon-e-1b",
        model: "tiiuae/Falcon-E-1B-Base",
        family: Family::Llama,
        hidden: 2048,
        intermediate: 8192,
        layers: 24,
        heads: 16,
        kv_heads: 4,
        head_dim: 128,
        vocab: 32_768,
        theta: 1_000_042.0,
        tied: false,
    },
    Shape {
        name: "falcon-e-3b",
        model: "tiiuae/Falcon-E-3B-Base",
        family: Family::Llama,
        hidden: 2048,
        intermediate: 13_312,
        layers: 32,
        heads: 16,
        kv_heads: 2,
        head_dim: 128,
        vocab: 32_768,
        theta: 1_000_042.0,
        tied: false,
    },
    Shape {
        name: "falcon3-7b",
        model: "tiiuae/Falcon3-7B-Instruct-1.58bit",
        family: Family::Llama,
        hidden: 3072,
        intermediate: 23_040,
        layers: 28,
        heads: 12,
        kv_heads: 4,
        head_dim: 256,
        vocab: 131_072,
        theta: 1_000_042.0,
        tied: false,
    },
    Shape {
        name: "llama3-8b",
        model: "HF1BitLLM/Llama3-8B-1.58-100B-tokens",
        family: Family::Llama,
        hidden: 4096,
        intermediate: 14_336,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        theta: 500_000.0,
        tied: false,
    },
    Shape {
        name: "tiny",
        model: "none: a smoke test",
        family: Family::BitNet,
        hidden: 256,
        intermediate: 512,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        vocab: 512,
        theta: 10_000.0,
        tied: true,
    },
];

impl Shape {
    /// The shape of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SHAPES.iter().find(|shape| shape.name == name)
    }

    /// Hyperparameters of the shape.
    pub fn config(&self) -> Config {
        let bitnet = self.family == Family::BitNet;
        Config {
            family: self.family,
            hidden_size: self.hidden,
            intermediate_size: self.intermediate,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocab_size: self.vocab,
            max_position_embeddings: 8192,
            rms_norm_eps: 1e-5,
            rope_theta: self.theta,
            rope_scaling: RopeScaling::None,
            activation: if bitnet { Activation::Relu2 } else { Activation::Silu },
            sub_norms: bitnet,
            qk_norm: false,
            tie_word_embeddings: self.tied,
        }
    }
}

/// Builds a decoder with random codes, half of them zero, and an F16 embedding and head.
///
/// # Errors
/// Where the device has no memory left.
pub fn decoder(config: &Config, device: &Device, seed: u64) -> Result<Decoder> {
    let mut random = Random(seed | 1);
    let layers =
        (0..config.num_hidden_layers).map(|_| layer(config, device, &mut random)).collect::<Result<_>>()?;
    let lm_head =
        (!config.tie_word_embeddings).then(|| embedding(config, device, &mut random)).transpose()?;
    Ok(Decoder {
        embed_tokens: embedding(config, device, &mut random)?,
        layers,
        norm: norm(config.hidden_size, config, device)?,
        lm_head,
        screen: None,
        rope: Rope::new(config),
        recompute: false,
        config: config.clone(),
    })
}

fn layer(config: &Config, device: &Device, random: &mut Random) -> Result<Layer> {
    let mut linear = |name| {
        let (rows, cols) = crate::arch::projection_shape(config, name);
        ternary(rows, cols, device, random).map(Linear::Ternary)
    };
    let attention = Attention {
        q: linear("self_attn.q_proj")?,
        k: linear("self_attn.k_proj")?,
        v: linear("self_attn.v_proj")?,
        o: linear("self_attn.o_proj")?,
        q_norm: None,
        k_norm: None,
        sub_norm: config.sub_norms.then(|| norm(config.query_size(), config, device)).transpose()?,
        head_dim: config.head_dim,
    };
    let mlp = Mlp {
        gate: linear("mlp.gate_proj")?,
        up: linear("mlp.up_proj")?,
        down: linear("mlp.down_proj")?,
        sub_norm: config.sub_norms.then(|| norm(config.intermediate_size, config, device)).transpose()?,
        activation: config.activation,
    };
    Ok(Layer {
        input_layernorm: norm(config.hidden_size, config, device)?,
        attention,
        post_attention_layernorm: norm(config.hidden_size, config, device)?,
        mlp,
    })
}

fn norm(width: usize, config: &Config, device: &Device) -> Result<RmsNorm> {
    Ok(RmsNorm { weight: Tensor::from_slice(device, [width], &vec![1f32; width])?, eps: config.rms_norm_eps })
}

fn ternary(rows: usize, cols: usize, device: &Device, random: &mut Random) -> Result<PackedTensor> {
    let mut data = Tensor::empty(device, [rows * padded_cols(cols) / 4], DType::U8)?;
    for bytes in data.view_mut("synthetic")?.into_slice::<u8>("synthetic")?.chunks_mut(8) {
        bytes.copy_from_slice(&random.codes()[..bytes.len()]);
    }
    let scale = Tensor::from_slice(device, [1], &[1.0 / (cols as f32).sqrt()])?;
    PackedTensor::ternary(rows, cols, data, scale)
}

/// F16 values between -1/16 and 1/16: a sign, small exponents, ten random bits of mantissa.
fn embedding(config: &Config, device: &Device, random: &mut Random) -> Result<Table> {
    let (rows, cols) = (config.vocab_size, config.hidden_size);
    let mut data = Tensor::empty(device, [rows * cols * 2], DType::U8)?;
    for bytes in data.view_mut("synthetic")?.into_slice::<u8>("synthetic")?.chunks_mut(8) {
        let words = random.next() & 0xA7FF_A7FF_A7FF_A7FF;
        bytes.copy_from_slice(&words.to_le_bytes()[..bytes.len()]);
    }
    Ok(Table::Stored(Box::new(PackedTensor::stored(Format::F16, rows, cols, data)?)))
}

/// Xorshift64*: fast, and good enough for weights that nobody reads.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Eight bytes of 2-bit codes without the code 3, which becomes 1: half of the values are zero.
    fn codes(&mut self) -> [u8; 8] {
        let bits = self.next();
        let threes = bits & (bits >> 1) & 0x5555_5555_5555_5555;
        (bits & !(threes << 1)).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_hold_no_code_three() {
        let mut random = Random(7);
        let bytes: Vec<u8> = (0..1000).flat_map(|_| random.codes()).collect();
        assert!(bytes.iter().all(|b| (0..4).all(|i| (b >> (2 * i)) & 3 != 3)));
    }

    #[test]
    fn every_shape_is_a_valid_configuration() {
        for shape in &SHAPES {
            assert!(shape.config().validate().is_ok(), "{}", shape.name);
        }
    }
}
