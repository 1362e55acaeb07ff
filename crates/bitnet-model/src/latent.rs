//! A decoder whose weights are trained: where they come from, how they are visited, and how they are frozen.

use crate::{
    Checkpoint, Config, Decoder, Result,
    arch::projection_shape,
    checkpoint::{Meaning, packed},
    config::Family,
    decoder::Layer,
    layers::{
        ActivationCodes, Attention, Latent, Linear, Mlp, Quantization, RmsNorm, Rope, Rotation, Table,
        WeightCodes,
    },
};
use bitnet_core::{
    DType, Device, Error as CoreError, PackedTensor, Tensor,
    autograd::recompute,
    ops::{PagedSpan, Rounded, fake_ternarize},
    random::Rng,
};
use bitnet_quant::{Scales, Ternary, ternary};
use std::sync::Arc;

/// Standard deviation of new weights, as transformers' `initializer_range`.
const DEVIATION: f32 = 0.02;

/// Gives the values of a weight by its full name and shape.
pub type Values<'a> = dyn FnMut(&str, &[usize]) -> Result<Tensor> + 'a;

impl Decoder {
    /// A decoder with these weights, which are asked for by their full names and shapes.
    ///
    /// # Errors
    /// What `values` returns.
    pub fn latent(config: &Config, quantization: Quantization, values: &mut Values<'_>) -> Result<Self> {
        let (v, c) = (config.vocab_size, config.hidden_size);
        let embed_tokens = Table::Latent(values("model.embed_tokens.weight", &[v, c])?);
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                layer(config, quantization, &mut |name, shape| {
                    values(&format!("model.layers.{i}.{name}.weight"), shape)
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let norm = RmsNorm { weight: values("model.norm.weight", &[c])?, eps: config.rms_norm_eps };
        let untied = !config.tie_word_embeddings;
        let lm_head = untied.then(|| values("lm_head.weight", &[v, c]).map(Table::Latent)).transpose()?;
        let rope = Rope::new(config);
        Ok(Self {
            embed_tokens,
            layers,
            norm,
            lm_head,
            screen: None,
            rope,
            recompute: false,
            config: config.clone(),
        })
    }

    /// A decoder with random weights: norms of ones, everything else normal with deviation 0.02, divided by `sqrt(2 L)` where a projection adds
    /// to the residual stream (GPT-2).
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn random(config: &Config, quantization: Quantization, device: &Device, seed: u64) -> Result<Self> {
        let mut rng = Rng::new(seed);
        let into_stream = DEVIATION / (2.0 * config.num_hidden_layers as f32).sqrt();
        Self::latent(config, quantization, &mut |name, shape| {
            let deviation = match name {
                _ if shape.len() == 1 => return Ok(Tensor::ones(device, shape, DType::F32)?),
                _ if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => into_stream,
                _ => DEVIATION,
            };
            Ok(Tensor::normal(device, shape, (0.0, deviation), &mut rng)?)
        })
    }

    /// All weights with their Hugging Face names, in one order: the only way to initialise, save, load, optimise or count them.
    ///
    /// # Errors
    /// What `visit` returns.
    pub fn params<E>(&mut self, visit: &mut dyn FnMut(&str, &mut Tensor) -> Result<(), E>) -> Result<(), E> {
        table("model.embed_tokens", &mut self.embed_tokens, visit)?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.params(&mut |name, w| visit(&format!("model.layers.{i}.{name}"), w))?;
        }
        visit("model.norm.weight", &mut self.norm.weight)?;
        self.lm_head.as_mut().map_or(Ok(()), |head| table("lm_head", head, visit))
    }

    /// How much of the rounding is applied from now on, from 0 to 1.
    pub fn set_lambda(&mut self, lambda: f32) {
        for linear in self.layers.iter_mut().flat_map(Layer::linears_mut) {
            if let Linear::Latent(latent) = linear {
                latent.quantization.lambda = lambda;
            }
        }
    }

    /// Rounds the ternary weights for all passes to come, until the weights are visited again.
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn round(&mut self) -> Result<()> {
        for linear in self.layers.iter_mut().flat_map(Layer::linears_mut) {
            if let Linear::Latent(latent) = linear
                && latent.quantization == Quantization::BITNET
            {
                latent.rounded = Some(Arc::new(latent.rounded()?));
            }
        }
        Ok(())
    }

    /// The decoder that is shipped: ternary codes where training rounds to them, f32 elsewhere.
    ///
    /// # Errors
    /// Where the rounding has no packed form (groups, or weights without activations), or the device has no memory left.
    pub fn freeze(&self) -> Result<Self> {
        let mut frozen = self.clone();
        for linear in frozen.layers.iter_mut().flat_map(Layer::linears_mut) {
            if let Linear::Latent(latent) = linear {
                *linear = latent.freeze()?;
            }
        }
        for table in [Some(&mut frozen.embed_tokens), frozen.lm_head.as_mut()].into_iter().flatten() {
            if let Table::Latent(rows) = table {
                *table = Table::Stored(Box::new(PackedTensor::from_rows(&rows.detach())?));
            }
        }
        frozen.params(&mut |_, w| {
            *w = w.detach();
            Ok::<(), crate::Error>(())
        })?;
        Ok(frozen)
    }
}

impl Layer {
    /// As [`Decoder::params`], of one layer, by names inside of it.
    ///
    /// # Errors
    /// What `visit` returns.
    pub fn params<E>(&mut self, visit: &mut dyn FnMut(&str, &mut Tensor) -> Result<(), E>) -> Result<(), E> {
        let mut visit = |name: &str, w: &mut Tensor| visit(&format!("{name}.weight"), w);
        let visit = &mut visit as &mut dyn FnMut(&str, &mut Tensor) -> Result<(), E>;
        visit("input_layernorm", &mut self.input_layernorm.weight)?;
        let a = &mut self.attention;
        for (name, linear) in [("q", &mut a.q), ("k", &mut a.k), ("v", &mut a.v), ("o", &mut a.o)] {
            linear_weight(&format!("self_attn.{name}_proj"), linear, visit)?;
        }
        optional("self_attn.q_norm", &mut a.q_norm, visit)?;
        optional("self_attn.k_norm", &mut a.k_norm, visit)?;
        optional("self_attn.attn_sub_norm", &mut a.sub_norm, visit)?;
        visit("post_attention_layernorm", &mut self.post_attention_layernorm.weight)?;
        let m = &mut self.mlp;
        for (name, linear) in [("gate", &mut m.gate), ("up", &mut m.up), ("down", &mut m.down)] {
            linear_weight(&format!("mlp.{name}_proj"), linear, visit)?;
        }
        optional("mlp.ffn_sub_norm", &mut m.sub_norm, visit)
    }

    /// The layer's step, of which the gradients compute everything again.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    pub(crate) fn recomputed(
        &self,
        x: Tensor,
        rotation: &Rotation,
        lens: &[usize],
    ) -> bitnet_core::Result<Tensor> {
        let (mut layer, rotation, lens) = (self.clone(), rotation.clone(), lens.to_vec());
        let mut inputs = vec![x];
        layer.params(&mut |_, w| {
            inputs.push(w.clone());
            *w = w.detach();
            Ok::<(), CoreError>(())
        })?;
        recompute(&inputs, move |inputs| {
            let (mut layer, mut weights) = (layer.clone(), inputs[1..].iter());
            layer.params(&mut |_, w| {
                *w = weights.next().expect("as many as were taken").clone();
                Ok::<(), CoreError>(())
            })?;
            let spans: Vec<_> = lens.iter().map(|&len| PagedSpan { len, start: 0, blocks: &[] }).collect();
            layer.forward(inputs[0].clone(), &rotation, &spans, None)
        })
    }
}

impl Checkpoint {
    /// The weights as floats to train on: masters as they are, codes times their scales.
    ///
    /// # Errors
    /// Names the file and the tensor that breaks a rule; where the device has no memory left.
    pub fn latent(&self, quantization: Quantization, device: &Device) -> Result<Decoder> {
        self.latent_with(self.config(), quantization, device)
    }

    /// As [`Checkpoint::latent`], with sub-norms of ones where there are none: before the output and down projections they keep what int8 codes
    /// round in one range (BitDistill, arXiv:2510.13998).
    ///
    /// # Errors
    /// As [`Checkpoint::latent`]; where query and key heads are normalised, because no format holds both.
    pub fn latent_with_sub_norms(&self, quantization: Quantization, device: &Device) -> Result<Decoder> {
        if self.config().qk_norm {
            let rule = "false: no format holds norms of query and key heads beside sub-norms".into();
            return Err(crate::Error::Config { field: "sub_norms".into(), value: "true".into(), rule });
        }
        let config = Config { sub_norms: true, family: Family::BitNet, ..self.config().clone() };
        self.latent_with(&config, quantization, device)
    }

    fn latent_with(&self, config: &Config, quantization: Quantization, device: &Device) -> Result<Decoder> {
        let read = &mut |name: &str, shape: &[usize]| {
            if name.ends_with("sub_norm.weight") && !self.config().sub_norms {
                return Ok(Tensor::ones(device, shape, DType::F32)?);
            }
            let values = self.floats(name.strip_suffix(".weight").unwrap_or(name), shape)?;
            Ok(Tensor::from_slice(device, shape, &values)?)
        };
        Decoder::latent(config, quantization, read).map_err(|e| e.at(self.path()))
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if let [width] = *shape {
            return self.norm(name, width);
        }
        if name == "model.embed_tokens" {
            return self.embedding()?.floats();
        }
        let Some((layer, projection)) =
            name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'))
        else {
            return self.head()?.ok_or(crate::Error::MissingTensor { name: name.into() })?.floats();
        };
        let layer = layer.parse().map_err(|_| crate::Error::MissingTensor { name: name.into() })?;
        let weight = self.projection(layer, projection)?;
        let ternary = match weight.meaning {
            Meaning::Master => None,
            Meaning::FloatCodes(_) => weight.ternary()?,
            Meaning::AsStored | Meaning::Scaled(_) => {
                weight.format.is_ternary().then(|| weight.unpacked()).transpose()?
            }
        };
        let Some(ternary) = ternary else { return weight.floats() };
        let mut values = vec![0.0; ternary.codes.len()];
        for (row, values) in values.chunks_mut(ternary.cols).enumerate() {
            ternary.dequantize_row(row, values);
        }
        Ok(values)
    }
}

fn layer(config: &Config, quantization: Quantization, values: &mut Values<'_>) -> Result<Layer> {
    let mut linear = |name: &str| {
        let (rows, cols) = projection_shape(config, name);
        Ok::<_, crate::Error>(Linear::Latent(Latent {
            weight: values(name, &[rows, cols])?,
            quantization,
            rounded: None,
        }))
    };
    let [q, k, v, o] = [
        linear("self_attn.q_proj")?,
        linear("self_attn.k_proj")?,
        linear("self_attn.v_proj")?,
        linear("self_attn.o_proj")?,
    ];
    let [gate, up, down] = [linear("mlp.gate_proj")?, linear("mlp.up_proj")?, linear("mlp.down_proj")?];
    let mut norm = |name: &str, width: usize| {
        Ok::<_, crate::Error>(RmsNorm { weight: values(name, &[width])?, eps: config.rms_norm_eps })
    };
    let mut optional = |on: bool, name: &str, width| on.then(|| norm(name, width)).transpose();
    let attention = Attention {
        q,
        k,
        v,
        o,
        q_norm: optional(config.qk_norm, "self_attn.q_norm", config.head_dim)?,
        k_norm: optional(config.qk_norm, "self_attn.k_norm", config.head_dim)?,
        sub_norm: optional(config.sub_norms, "self_attn.attn_sub_norm", config.query_size())?,
        head_dim: config.head_dim,
    };
    let sub_norm = optional(config.sub_norms, "mlp.ffn_sub_norm", config.intermediate_size)?;
    Ok(Layer {
        input_layernorm: norm("input_layernorm", config.hidden_size)?,
        attention,
        post_attention_layernorm: norm("post_attention_layernorm", config.hidden_size)?,
        mlp: Mlp { gate, up, down, sub_norm, activation: config.activation },
    })
}

fn table<E>(
    name: &str,
    table: &mut Table,
    visit: &mut dyn FnMut(&str, &mut Tensor) -> Result<(), E>,
) -> Result<(), E> {
    match table {
        Table::Latent(rows) => visit(&format!("{name}.weight"), rows),
        Table::Stored(_) => Ok(()),
    }
}

fn linear_weight<E>(
    name: &str,
    linear: &mut Linear,
    visit: &mut dyn FnMut(&str, &mut Tensor) -> Result<(), E>,
) -> Result<(), E> {
    match linear {
        Linear::Latent(latent) => {
            latent.rounded = None;
            visit(name, &mut latent.weight)
        }
        Linear::Ternary(_) | Linear::Dense(_) => Ok(()),
    }
}

fn optional<E>(
    name: &str,
    norm: &mut Option<RmsNorm>,
    visit: &mut dyn FnMut(&str, &mut Tensor) -> Result<(), E>,
) -> Result<(), E> {
    norm.as_mut().map_or(Ok(()), |norm| visit(name, &mut norm.weight))
}

impl Latent {
    /// The weight as it is shipped.
    fn freeze(&self) -> Result<Linear> {
        match (self.quantization.weights, self.quantization.activations) {
            (WeightCodes::Off, ActivationCodes::Off) => {
                Ok(Linear::Dense(PackedTensor::from_rows(&self.weight.detach())?))
            }
            (WeightCodes::Tensor, ActivationCodes::Int8) => Ok(Linear::Ternary(self.packed()?)),
            (weights, activations) => {
                let reason = format!(
                    "weights rounded by {weights:?} with activations by {activations:?} have no packed form; train with one scale a \
                     matrix and int8 activations, or without rounding"
                );
                Err(CoreError::Argument { op: "freeze", reason }.into())
            }
        }
    }

    /// The weight as training computes with it.
    pub(crate) fn rounded(&self) -> bitnet_core::Result<Rounded> {
        let values = fake_ternarize(&self.weight.detach(), None)?;
        let packed = self.pack(&values)?;
        Ok(Rounded { values, packed })
    }

    /// The ternary codes of the weight, with one scale for the matrix.
    fn packed(&self) -> bitnet_core::Result<PackedTensor> {
        self.pack(&fake_ternarize(&self.weight.detach(), None)?)
    }

    /// Packs the codes that `values` are the meaning of.
    fn pack(&self, values: &Tensor) -> bitnet_core::Result<PackedTensor> {
        let values = values.to_vec::<f32>()?;
        // All that are not zero have the scale for their magnitude; zeros go with that of a matrix of zeros. As integers the magnitudes keep their
        // order and NaN is the largest.
        let largest = values.iter().fold(0, |most, value| (value.to_bits() & 0x7fff_ffff).max(most));
        let scale = if largest == 0 { 1.0 / ternary::factor(0.0) } else { f32::from_bits(largest) };
        let codes = values.iter().map(|value| i8::from(*value > 0.0) - i8::from(*value < 0.0)).collect();
        let (rows, cols) = (self.weight.shape().rows(), self.weight.shape().last());
        packed(&Ternary { rows, cols, codes, scales: Scales::Tensor(scale) }, self.weight.device())
    }
}
