//! `config.json` of a Hugging Face folder. Field names and defaults: transformers 5, `models/{bitnet,llama,qwen3}` and
//! `integrations/bitnet.py`.

use super::{bitnet, llama, qwen3};
use crate::{
    Error,
    config::{Activation, Config, RopeScaling},
};
use serde_json::{Map, Value};

/// What `weight_scale` of a packed checkpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleMeaning {
    /// `bitlinear`: the result is divided by it (1/absmean is stored).
    Divides,
    /// `autobitlinear`: the result is multiplied by it (absmean is stored).
    Multiplies,
}

/// How the projections of a checkpoint are stored and meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projections {
    /// Floats that are used as they are, with float activations.
    Dense,
    /// Codes and a scale.
    Packed(ScaleMeaning),
    /// Floats that are ternarized when they are used.
    Online,
}

/// A parsed `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct HfConfig {
    /// Hyperparameters.
    pub config: Config,
    /// How projections are stored.
    pub projections: Projections,
    /// Modules that are plain float layers whatever `projections` says.
    pub not_converted: Vec<String>,
    /// Token ids that begin and end a text, where the file names them.
    pub bos: Option<u32>,
    /// Token ids that end a text.
    pub eos: Vec<u32>,
}

impl HfConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// Names the field that is missing, of the wrong type, or asks for something unknown.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| refuse("config.json", format!("line {}", e.line()), format!("valid JSON ({e})")))?;
        let Value::Object(map) = value else {
            return Err(refuse("config.json", "not an object", "a JSON object"));
        };
        let fields = Fields(&map);
        let mut parsed = match fields.architecture()?.as_str() {
            "BitNetForCausalLM" => bitnet::from_hf(&fields)?,
            "BitnetForCausalLM" => bitnet::from_hf_1bitllm(&fields)?,
            "LlamaForCausalLM" => llama::from_hf(&fields)?,
            "Qwen3ForCausalLM" => qwen3::from_hf(&fields)?,
            other => {
                let rule = "BitNetForCausalLM, BitnetForCausalLM, LlamaForCausalLM or Qwen3ForCausalLM";
                return Err(refuse("architectures", other, rule));
            }
        };
        parsed.config = parsed.config.validate()?;
        Ok(parsed)
    }
}

/// Whether a module is one of `modules_to_not_convert`: it or a module around it is named from the start, or its name ends so.
/// The rule is `should_convert_module` of transformers, which reads the names as patterns too.
pub fn is_kept(module: &str, names: &[String]) -> bool {
    names.iter().any(|name| {
        let inside = module
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || name.ends_with('.'));
        inside || module.ends_with(name.as_str())
    })
}

fn refuse(field: impl Into<String>, value: impl Into<String>, rule: impl Into<String>) -> Error {
    Error::Config { field: field.into(), value: value.into(), rule: rule.into() }
}

/// Typed access to the fields of a `config.json`.
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn architecture(&self) -> Result<String, Error> {
        let listed = self.0.get("architectures").and_then(Value::as_array).and_then(|a| a.first()?.as_str());
        let model_type = self.0.get("model_type").and_then(Value::as_str);
        Ok(match (listed, model_type) {
            (Some(name), _) => name.to_owned(),
            (None, Some("bitnet")) => "BitNetForCausalLM".into(),
            (None, Some("llama")) => "LlamaForCausalLM".into(),
            (None, Some("qwen3")) => "Qwen3ForCausalLM".into(),
            (None, other) => {
                return Err(refuse("model_type", other.unwrap_or("missing"), "bitnet, llama or qwen3"));
            }
        })
    }

    fn present(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|v| !v.is_null())
    }

    pub(super) fn size(&self, field: &'static str) -> Result<usize, Error> {
        self.size_or(field, None)
    }

    pub(super) fn size_or(&self, field: &'static str, default: Option<usize>) -> Result<usize, Error> {
        let Some(value) = self.present(field) else {
            return default.ok_or_else(|| refuse(field, "missing", "a number"));
        };
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| refuse(field, value.to_string(), "a number that is not negative"))
    }

    pub(super) fn float_or(&self, field: &'static str, default: f32) -> Result<f32, Error> {
        let Some(value) = self.present(field) else { return Ok(default) };
        value.as_f64().map(|x| x as f32).ok_or_else(|| refuse(field, value.to_string(), "a number"))
    }

    pub(super) fn flag(&self, field: &'static str, default: bool) -> Result<bool, Error> {
        let Some(value) = self.present(field) else { return Ok(default) };
        value.as_bool().ok_or_else(|| refuse(field, value.to_string(), "true or false"))
    }

    /// Refuses a model that asks for something that the decoder does not compute.
    pub(super) fn must_be_off(&self, field: &'static str) -> Result<(), Error> {
        let on = self.present(field).is_some_and(|v| v != &Value::Bool(false) && v.as_f64() != Some(0.0));
        if on {
            Err(refuse(field, self.0[field].to_string(), "false: this part is not implemented"))
        } else {
            Ok(())
        }
    }

    /// Refuses a model whose layers are scaled where the decoder's are not.
    fn must_be(&self, field: &'static str, neutral: f32) -> Result<(), Error> {
        let value = self.float_or(field, neutral)?;
        if value == neutral { Ok(()) } else { Err(refuse(field, value.to_string(), format!("{neutral}"))) }
    }

    fn must_attend_fully(&self) -> Result<(), Error> {
        let Some(layers) = self.present("layer_types") else { return Ok(()) };
        let full = |v: &Value| v.as_str() == Some("full_attention");
        if layers.as_array().is_some_and(|list| list.iter().all(full)) {
            return Ok(());
        }
        Err(refuse("layer_types", layers.to_string(), "full_attention in every layer"))
    }

    pub(super) fn activation(&self, default: &'static str) -> Result<Activation, Error> {
        let value = self.present("hidden_act").map_or(default, |v| v.as_str().unwrap_or("not a string"));
        match value {
            "relu2" => Ok(Activation::Relu2),
            "silu" | "swish" => Ok(Activation::Silu),
            other => Err(refuse("hidden_act", other, "relu2 or silu")),
        }
    }

    /// RoPE base and scaling in either spelling: `rope_theta` with `rope_scaling`, or `rope_parameters`.
    pub(super) fn rope(&self, default_theta: f32) -> Result<(f32, RopeScaling), Error> {
        let parameters = self.object("rope_parameters")?;
        let scaling = self.object("rope_scaling")?;
        let theta = match &parameters {
            Some(p) if p.present("rope_theta").is_some() => p.float_or("rope_theta", default_theta)?,
            _ => self.float_or("rope_theta", default_theta)?,
        };
        for fields in [&parameters, &scaling].into_iter().flatten() {
            let scaling = fields.rope_scaling(self)?;
            if scaling != RopeScaling::None {
                return Ok((theta, scaling));
            }
        }
        Ok((theta, RopeScaling::None))
    }

    /// Parameters of the rotary embedding; a set for each kind of layer is another architecture.
    fn object(&self, field: &'static str) -> Result<Option<Fields<'_>>, Error> {
        let Some(value) = self.present(field) else { return Ok(None) };
        let object = value.as_object().filter(|map| !map.values().any(Value::is_object));
        let object =
            object.ok_or_else(|| refuse(field, value.to_string(), "an object of numbers and a rope_type"))?;
        Fields(object).must_be("partial_rotary_factor", 1.0)?;
        Ok(Some(Fields(object)))
    }

    fn rope_scaling(&self, config: &Fields<'_>) -> Result<RopeScaling, Error> {
        let kind = self.present("rope_type").or_else(|| self.present("type"));
        match kind.map_or("default", |v| v.as_str().unwrap_or("not a string")) {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.float("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: self.float("factor")?,
                low_freq_factor: self.float("low_freq_factor")?,
                high_freq_factor: self.float("high_freq_factor")?,
                original: self
                    .size("original_max_position_embeddings")
                    .or_else(|_| config.size("original_max_position_embeddings"))?,
            }),
            other => Err(refuse("rope_scaling.rope_type", other, "default, linear or llama3")),
        }
    }

    fn float(&self, field: &'static str) -> Result<f32, Error> {
        let x = self.float_or(field, f32::NAN)?;
        if x.is_nan() { Err(refuse(field, "missing", "a number")) } else { Ok(x) }
    }

    /// How projections are stored, from `quantization_config`; `absent` where there is none.
    pub(super) fn projections(&self, absent: Projections) -> Result<(Projections, Vec<String>), Error> {
        let Some(value) = self.present("quantization_config") else { return Ok((absent, Vec::new())) };
        let map =
            value.as_object().ok_or_else(|| refuse("quantization_config", value.to_string(), "an object"))?;
        let fields = Fields(map);
        fields.expect_text("quant_method", "bitnet", &["bitnet"])?;
        fields.must_not_transform()?;
        if fields.flag("use_rms_norm", false)? {
            let rule = "false: a norm inside every linear layer is another architecture";
            return Err(refuse("quantization_config.use_rms_norm", "true", rule));
        }
        let class = fields.expect_text("linear_class", "bitlinear", &["bitlinear", "autobitlinear"])?;
        let mode = fields.expect_text("quantization_mode", "offline", &["offline", "online"])?;
        let projections = match (class.as_str(), mode.as_str()) {
            ("bitlinear", "online") => {
                let rule = "offline: online quantisation needs linear_class autobitlinear";
                return Err(refuse("quantization_config.quantization_mode", "online", rule));
            }
            (_, "online") => Projections::Online,
            ("autobitlinear", _) => Projections::Packed(ScaleMeaning::Multiplies),
            _ => Projections::Packed(ScaleMeaning::Divides),
        };
        let kept = fields.not_converted(&projections)?;
        Ok((projections, kept))
    }

    /// Refuses activations that are rotated or have other codes than int8 before they meet the weights.
    fn must_not_transform(&self) -> Result<(), Error> {
        let rotates =
            |key: &&String| ["hadamard", "rotat", "transform"].iter().any(|word| key.contains(word));
        if let Some(key) = self.0.keys().find(rotates) {
            let field = format!("quantization_config.{key}");
            return Err(refuse(field, self.0[key].to_string(), "absent: this part is not implemented"));
        }
        match self.present("activation_bits") {
            Some(bits) if bits.as_u64() != Some(8) => {
                Err(refuse("quantization_config.activation_bits", bits.to_string(), "8"))
            }
            _ => Ok(()),
        }
    }

    /// Modules that stay floats. Where masters are ternarized, a list without the head would ternarize that too.
    fn not_converted(&self, projections: &Projections) -> Result<Vec<String>, Error> {
        let field = "quantization_config.modules_to_not_convert";
        let Some(value) = self.present("modules_to_not_convert") else { return Ok(Vec::new()) };
        let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
        let one = |v: &Value| v.as_str().filter(|name| !name.is_empty() && plain(name)).map(str::to_owned);
        let names: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(one).collect());
        let names = names.ok_or_else(|| refuse(field, value.to_string(), "a list of plain module names"))?;
        if *projections == Projections::Online && !is_kept("lm_head", &names) {
            return Err(refuse(
                field,
                value.to_string(),
                "a list with lm_head: a ternary head is not implemented",
            ));
        }
        Ok(names)
    }

    fn expect_text(&self, field: &'static str, default: &str, known: &[&str]) -> Result<String, Error> {
        let text = self.present(field).map_or(default, |v| v.as_str().unwrap_or("not a string"));
        if known.contains(&text) {
            return Ok(text.to_owned());
        }
        Err(refuse(format!("quantization_config.{field}"), text, known.join(" or ")))
    }

    fn token_ids(&self, field: &'static str) -> Result<Vec<u32>, Error> {
        let Some(value) = self.present(field) else { return Ok(Vec::new()) };
        let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let ids = match value {
            Value::Array(list) => list.iter().map(one).collect(),
            other => one(other).map(|id| vec![id]),
        };
        ids.ok_or_else(|| refuse(field, value.to_string(), "a token id or a list of them"))
    }

    /// What every architecture has in common; `family` decides nothing here.
    pub(super) fn finish(
        &self,
        config: Config,
        (projections, not_converted): (Projections, Vec<String>),
    ) -> Result<HfConfig, Error> {
        self.must_be_off("attention_bias")?;
        self.must_be_off("mlp_bias")?;
        ["attn_logit_softcapping", "final_logit_softcapping", "num_experts", "num_local_experts", "qkv_bias"]
            .into_iter()
            .try_for_each(|field| self.must_be_off(field))?;
        ["partial_rotary_factor", "embedding_multiplier", "residual_multiplier", "logits_scaling"]
            .into_iter()
            .try_for_each(|field| self.must_be(field, 1.0))?;
        self.must_attend_fully()?;
        let bos = self.token_ids("bos_token_id")?.first().copied();
        Ok(HfConfig { config, projections, not_converted, bos, eos: self.token_ids("eos_token_id")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITNET: &str = r#"{"architectures":["BitNetForCausalLM"],"hidden_size":256,"intermediate_size":512,
        "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":512,
        "max_position_embeddings":256,"hidden_act":"relu2","tie_word_embeddings":true,"eos_token_id":[3,4],
        "quantization_config":{"quant_method":"bitnet","linear_class":"autobitlinear"}}"#;

    fn with(from: &str, to: &str) -> Result<HfConfig, Error> {
        assert!(BITNET.contains(from));
        HfConfig::parse(&BITNET.replace(from, to))
    }

    #[test]
    fn a_missing_linear_class_divides_and_autobitlinear_multiplies() {
        let auto = HfConfig::parse(BITNET).unwrap();
        assert_eq!(auto.projections, Projections::Packed(ScaleMeaning::Multiplies));
        let bare = with(r#","linear_class":"autobitlinear""#, "").unwrap();
        assert_eq!(bare.projections, Projections::Packed(ScaleMeaning::Divides));
    }

    #[test]
    fn theta_is_read_in_both_spellings() {
        let old = with(r#""hidden_act""#, r#""rope_theta":1234.0,"hidden_act""#).unwrap();
        let new = with(r#""hidden_act""#, r#""rope_parameters":{"rope_theta":1234.0},"hidden_act""#).unwrap();
        assert_eq!((old.config.rope_theta, new.config.rope_theta), (1234.0, 1234.0));
        assert_eq!(HfConfig::parse(BITNET).unwrap().config.rope_theta, 500_000.0);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (from, to, named) in [
            ("relu2", "gelu", "gelu"),
            ("BitNetForCausalLM", "MambaForCausalLM", "MambaForCausalLM"),
            (r#""quant_method":"bitnet""#, r#""quant_method":"gptq""#, "gptq"),
            (r#""autobitlinear""#, r#""fastbitlinear""#, "fastbitlinear"),
            (r#""autobitlinear""#, r#""autobitlinear","use_rms_norm":true"#, "use_rms_norm"),
            (r#""hidden_act""#, r#""rope_scaling":{"rope_type":"yarn","factor":4.0},"hidden_act""#, "yarn"),
            (r#""hidden_act""#, r#""attention_bias":true,"hidden_act""#, "attention_bias"),
            (r#""vocab_size":512"#, r#""vocab_size":-1"#, "vocab_size"),
        ] {
            let message = with(from, to).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn llama3_scaling_is_read_from_either_place() {
        let scaling = r#"{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
            "original_max_position_embeddings":8192}"#;
        for field in ["rope_scaling", "rope_parameters"] {
            let parsed = with(r#""hidden_act""#, &format!(r#""{field}":{scaling},"hidden_act""#)).unwrap();
            assert!(matches!(parsed.config.rope_scaling, RopeScaling::Llama3 { original: 8192, .. }));
        }
    }
}
