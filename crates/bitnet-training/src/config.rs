//! A run as a TOML file. Every key is a field here, with its default; unknown keys are refused.

pub mod groups;
mod model;

pub use model::ModelConfig;

pub use groups::Group;

use crate::{Error, Result, distill::DistillationConfig, optim::Rule, schedule::Schedule};
use bitnet_model::{
    Config,
    layers::{ActivationCodes, Quantization, WeightCodes},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Everything that a training run depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The shape of the decoder.
    pub model: ModelConfig,
    /// How weights and activations are rounded.
    #[serde(default)]
    pub quantization: QuantizationConfig,
    /// What is learnt from.
    pub data: DataConfig,
    /// How weights follow their gradients.
    #[serde(default = "adamw")]
    pub optimizer: Rule,
    /// Weights that follow at other rates: the first group that a name belongs to holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// How fast.
    pub schedule: Schedule,
    /// What is learnt from a teacher, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationConfig>,
    /// How long, how much at a time, and what is kept.
    pub training: TrainingConfig,
}

/// How weights and activations are rounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantizationConfig {
    /// Which weights share a scale: `tensor`, `{ group = N }`, `off`, or for comparison `f16`, `bf16`.
    pub weights: WeightCodes,
    /// What inputs are rounded to: `int8`, `off`, or for comparison `f16`, `bf16`.
    pub activations: ActivationCodes,
    /// Steps over which the rounding is faded in; 0 for all of it from the start.
    pub lambda_steps: u64,
}

impl Default for QuantizationConfig {
    fn default() -> Self {
        Self { weights: WeightCodes::Tensor, activations: ActivationCodes::Int8, lambda_steps: 0 }
    }
}

/// What is learnt from. Relative paths are looked for beside the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Text (`.txt`), documents or conversations (`.jsonl`), or token ids (`.npy`).
    pub train: PathBuf,
    /// What losses are measured on [default: the last `valid_fraction` of `train`].
    pub valid: Option<PathBuf>,
    /// Part of `train` that is held out where there is no `valid`.
    #[serde(default = "tenth")]
    pub valid_fraction: f64,
    /// A `tokenizer.json`, a folder that holds one, or `chars` for one token for each character that occurs.
    pub tokenizer: String,
    /// Tokens of a window.
    pub context: usize,
    /// Whether a token sees those of other documents in its window.
    #[serde(default = "yes")]
    pub across_documents: bool,
}

/// How long, how much at a time, and what is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Updates of the weights.
    pub steps: u64,
    /// Windows of one forward and backward pass.
    pub batch: usize,
    /// Passes whose gradients make one update.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// Seed of weights and order.
    #[serde(default)]
    pub seed: u64,
    /// Largest norm of a gradient; 0 for no limit.
    #[serde(default = "clip")]
    pub clip: f64,
    /// How much of the average of the weights over the steps is kept in a step, which is then what is evaluated and shipped; 0 for no average.
    #[serde(default)]
    pub ema: f64,
    /// Tokens that the model writes after an evaluation, for people to read; 0 for none.
    #[serde(default)]
    pub sample_tokens: usize,
    /// What they continue.
    #[serde(default = "line")]
    pub sample_prompt: String,
    /// Steps between two evaluations; 0 for one at the end.
    #[serde(default)]
    pub eval_every: u64,
    /// Windows of an evaluation; 0 for all.
    #[serde(default)]
    pub eval_windows: usize,
    /// Evaluations without a better one after which the run stops; 0 for never.
    #[serde(default)]
    pub patience: u64,
    /// Steps between two lines of the log.
    #[serde(default = "ten")]
    pub log_every: u64,
    /// Steps between two checkpoints; 0 for one at the end.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Checkpoints that are kept beside the best one.
    #[serde(default = "two")]
    pub keep: usize,
    /// Passes that are made at a time, each by one thread.
    #[serde(default = "one")]
    pub workers: usize,
    /// Whether each layer is computed again for its gradients, which saves memory.
    #[serde(default)]
    pub recompute: bool,
    /// Folder of checkpoints and logs.
    pub out: PathBuf,
}

fn adamw() -> Rule {
    Rule::AdamW(crate::optim::Adam::default())
}
fn yes() -> bool {
    true
}
fn tenth() -> f64 {
    0.1
}
fn one() -> usize {
    1
}
fn two() -> usize {
    2
}
fn ten() -> u64 {
    10
}
fn line() -> String {
    "\n".into()
}
fn clip() -> f64 {
    1.0
}

/// Most tokens of a window, windows of a pass, and passes of a step.
const MAX_TOGETHER: u64 = 1 << 20;
/// Longest configuration.
const MAX_BYTES: u64 = 1 << 20;

impl RunConfig {
    /// Reads a file. Relative paths of data are taken from its folder, that of the output from where the program runs.
    ///
    /// # Errors
    /// Names the line and key that is unknown, missing or wrong.
    pub fn read(path: &Path, changes: &[(String, String)]) -> Result<Self> {
        Self::read_with(path, |text| Self::parse(text, changes))
    }

    /// As [`RunConfig::read`], of a run that goes on from a model: its shape is that of the model, and its tokenizer too where none is named.
    ///
    /// # Errors
    /// As [`RunConfig::read`], and where the file has a section `model`.
    pub fn read_finetune(
        path: &Path,
        changes: &[(String, String)],
        base: &Config,
        tokenizer: &Path,
    ) -> Result<Self> {
        let refuse = |reason: String| Error::Toml { path: path.into(), reason };
        Self::read_with(path, |text| {
            let mut table: toml::Table = toml::from_str(text).map_err(|e| refuse(e.to_string()))?;
            if table.contains_key("model") {
                return Err(refuse("section model: the shape is that of the model that is tuned".into()));
            }
            let model = toml::Value::try_from(ModelConfig::of(base)).expect("a shape is a table");
            table.insert("model".into(), model);
            if let Some(data) = table.get_mut("data").and_then(toml::Value::as_table_mut) {
                let own = tokenizer.to_string_lossy().into_owned();
                data.entry("tokenizer").or_insert(toml::Value::String(own));
            }
            Self::of_table(table, changes)
        })
    }

    fn read_with(path: &Path, parse: impl FnOnce(&str) -> Result<Self>) -> Result<Self> {
        let found = fs::metadata(path).map_err(Error::io(path))?;
        let refuse = |reason: String| Error::Toml { path: path.into(), reason };
        if !found.is_file() || found.len() > MAX_BYTES {
            return Err(refuse("not a regular file of at most 1 MiB".into()));
        }
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let mut config = parse(&text).map_err(|e| match e {
            Error::Toml { reason, .. } => refuse(reason),
            other => other,
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.data.train = folder.join(&config.data.train);
        config.data.valid = config.data.valid.map(|valid| folder.join(valid));
        if let Some(distillation) = &mut config.distillation {
            let beside = folder.join(&distillation.teacher);
            if beside.exists() {
                distillation.teacher = beside;
            }
        }
        if config.data.tokenizer != crate::data::CHARACTERS {
            let tokenizer = folder.join(&config.data.tokenizer);
            config.data.tokenizer = tokenizer.to_string_lossy().into_owned();
        }
        Ok(config)
    }

    /// Reads a text, with `section.key = value` changed.
    ///
    /// # Errors
    /// As [`RunConfig::read`].
    pub fn parse(text: &str, changes: &[(String, String)]) -> Result<Self> {
        let refuse = |reason: String| Error::Toml { path: "configuration".into(), reason };
        if changes.is_empty() {
            let config: Self = toml::from_str(text).map_err(|e| refuse(e.to_string()))?;
            return config.validate();
        }
        Self::of_table(toml::from_str(text).map_err(|e| refuse(e.to_string()))?, changes)
    }

    fn of_table(mut table: toml::Table, changes: &[(String, String)]) -> Result<Self> {
        let refuse = |reason: String| Error::Toml { path: "configuration".into(), reason };
        for (key, value) in changes {
            set(&mut table, key, value).map_err(refuse)?;
        }
        let config: Self = table.try_into().map_err(|e: toml::de::Error| refuse(e.to_string()))?;
        config.validate()
    }

    /// As a file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration is a table")
    }

    fn validate(self) -> Result<Self> {
        let within = |key, value: u64, least: u64, most: u64| {
            let rule = format!("a number from {least} to {most}");
            let fits = (least..=most).contains(&value);
            if fits { Ok(()) } else { Err(Error::Config { key, value: value.to_string(), rule }) }
        };
        let t = &self.training;
        within("data.context", self.data.context as u64, 2, MAX_TOGETHER)?;
        within("training.batch", t.batch as u64, 1, MAX_TOGETHER)?;
        within("training.accumulation", t.accumulation as u64, 1, MAX_TOGETHER)?;
        within("training.workers", t.workers as u64, 1, 1024)?;
        within("training.keep", t.keep as u64, 1, u64::MAX)?;
        within("training.steps", t.steps, 1, u64::from(u32::MAX))?;
        within("training.log_every", t.log_every, 1, u64::MAX)?;
        let fraction = self.data.valid_fraction;
        if !(0.0..1.0).contains(&fraction) {
            let (value, rule) = (fraction.to_string(), "a number from 0 to below 1".into());
            return Err(Error::Config { key: "data.valid_fraction", value, rule });
        }
        let clip = self.training.clip;
        if !(0.0..=1e6).contains(&clip) {
            let (value, rule) = (clip.to_string(), "a number from 0 to 1000000".into());
            return Err(Error::Config { key: "training.clip", value, rule });
        }
        let ema = self.training.ema;
        if !(0.0..1.0).contains(&ema) {
            let (value, rule) = (ema.to_string(), "a number from 0 to below 1".into());
            return Err(Error::Config { key: "training.ema", value, rule });
        }
        within("training.sample_tokens", t.sample_tokens as u64, 0, MAX_TOGETHER)?;
        self.groups.iter().try_for_each(Group::validate)?;
        self.distillation.as_ref().map_or(Ok(()), DistillationConfig::validate)?;
        if let WeightCodes::Group(len) = self.quantization.weights {
            let widths = [self.model.hidden_size, self.model.intermediate_size];
            if len == 0 || widths.iter().any(|width| !width.is_multiple_of(len)) {
                let rule = format!("a divisor of {} and {}", widths[0], widths[1]);
                return Err(Error::Config { key: "quantization.weights", value: len.to_string(), rule });
            }
        }
        self.optimizer.validate()?;
        self.schedule.validate(self.training.steps)?;
        self.shape(1)?;
        Ok(self)
    }

    /// The decoder's hyperparameters.
    ///
    /// # Errors
    /// Names the field that no decoder has.
    pub fn shape(&self, vocab_size: usize) -> Result<Config> {
        self.model.shape(vocab_size, self.data.context)
    }

    /// How weights and inputs are rounded at a step.
    pub fn quantization(&self, step: u64) -> Quantization {
        let q = &self.quantization;
        let lambda = if step >= q.lambda_steps { 1.0 } else { step as f32 / q.lambda_steps as f32 };
        Quantization { weights: q.weights, activations: q.activations, lambda }
    }
}

/// Sets `section.key` to a value, which is text where it is not TOML; or a list of groups.
fn set(table: &mut toml::Table, key: &str, value: &str) -> std::result::Result<(), String> {
    let parsed: toml::Value = toml::from_str::<toml::Table>(&format!("x = {value}"))
        .ok()
        .and_then(|mut t| t.remove("x"))
        .unwrap_or_else(|| toml::Value::String(value.into()));
    let Some((section, name)) = key.split_once('.') else {
        if parsed.is_array() {
            table.insert(key.into(), parsed);
            return Ok(());
        }
        return Err(format!("{key}: expected section.key, as in training.steps"));
    };
    let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let section = section.as_table_mut().ok_or_else(|| format!("{key}: not a key of a section"))?;
    section.insert(name.into(), parsed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [model]
        hidden_size = 64
        intermediate_size = 128
        num_hidden_layers = 2
        num_attention_heads = 4
        [data]
        train = "a.txt"
        tokenizer = "chars"
        context = 32
        [schedule]
        kind = "cosine"
        lr = 1e-3
        [training]
        steps = 100
        batch = 4
        out = "run"
    "#;

    fn change(key: &str, value: &str) -> Result<RunConfig> {
        RunConfig::parse(TEXT, &[(key.into(), value.into())])
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = RunConfig::parse(TEXT, &[]).unwrap();
        assert_eq!(config.optimizer, adamw());
        assert_eq!(config.shape(65).unwrap().head_dim, 16);
        assert_eq!(config.quantization(0), Quantization::BITNET);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (key, named) in [
            ("training.stepz", "stepz"),
            ("model.layers", "layers"),
            ("schedule.peak1", "peak1"),
            ("other.key", "other"),
        ] {
            let error = change(key, "1").unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let text = format!("{TEXT}\n[optimizer]\nkind = \"adamw\"\nbeta3 = 1.0\n");
        let error = RunConfig::parse(&text, &[]).unwrap_err().to_string();
        assert!(error.contains("beta3"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        for (key, value) in [
            ("training.steps", "0"),
            ("training.batch", "0"),
            ("training.batch", "1000000000000"),
            ("training.workers", "1025"),
            ("training.steps", "5000000000"),
            ("data.context", "1"),
            ("data.valid_fraction", "1.5"),
            ("schedule.lr", "nan"),
            ("schedule.warmup", "101"),
            ("training.clip", "-1"),
            ("quantization.weights", "{ group = 7 }"),
        ] {
            let error = change(key, value).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        for (key, value) in [
            ("training.ema", "1"),
            ("groups", "[{ params = '*', lr_scale = -1 }]"),
            ("distillation", "teacher"),
        ] {
            assert!(change(key, value).unwrap_err().to_string().contains(key), "{key}");
        }
        let teacher = ("distillation.teacher".into(), "a".into());
        for (key, value) in [("temperature", "0"), ("logits", "-1"), ("relations", "nan")] {
            let changes = [teacher.clone(), (format!("distillation.{key}"), value.into())];
            let error = RunConfig::parse(TEXT, &changes).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        assert!(change("model.num_attention_heads", "0").is_err());
        assert!(change("model.qk_norm", "true").unwrap_err().to_string().contains("sub_norms"));
    }

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        let config = change("quantization.weights", "{ group = 64 }").unwrap();
        assert_eq!(RunConfig::parse(&config.to_toml(), &[]).unwrap(), config);
    }

    /// Names of all keys of a table and the tables in it.
    fn keys(table: &toml::Table) -> Vec<String> {
        let inner = |value: &toml::Value| value.as_table().map(keys).unwrap_or_default();
        table.iter().flat_map(|(key, value)| [vec![key.clone()], inner(value)].concat()).collect()
    }

    #[test]
    fn every_key_has_a_line_in_the_documentation() {
        let page = include_str!("../../../docs/training.md");
        let mut all = change("data.valid", "\"b.txt\"").unwrap();
        all.model.num_key_value_heads = Some(4);
        all.model.head_dim = Some(16);
        all.groups = vec![toml::from_str("params = '*'").unwrap()];
        all.distillation = Some(toml::from_str("teacher = 'a'\nlayer = 1\nrelation_heads = 2").unwrap());
        let schedules = [
            all.schedule.clone(),
            Schedule::Wsd {
                lr: 0.1,
                min_lr: 0.0,
                warmup: 1,
                decay: 1,
                shape: Default::default(),
                weight_decay: 0.1,
            },
            toml::from_str("kind = 'two_stage'\npeak1 = 1\nend1 = 1\npeak2 = 1\nswitch = 5").unwrap(),
        ];
        let optimizers = [
            adamw(),
            Rule::Sgd(Default::default()),
            Rule::Adam(Default::default()),
            Rule::Muon(Default::default()),
        ];
        for schedule in schedules {
            for optimizer in optimizers.clone() {
                let config = RunConfig { schedule: schedule.clone(), optimizer, ..all.clone() };
                let table = toml::Table::try_from(&config).unwrap();
                let missing: Vec<String> =
                    keys(&table).into_iter().filter(|key| !page.contains(key.as_str())).collect();
                assert!(missing.is_empty(), "docs/training.md does not name {missing:?}");
            }
        }
    }

    #[test]
    fn the_ready_configurations_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(paths.len() >= 4);
        for path in paths {
            RunConfig::read(&path, &[]).unwrap();
        }
    }

    #[test]
    fn rounding_is_faded_in() {
        let config = change("quantization.lambda_steps", "10").unwrap();
        assert_eq!([0, 5, 10, 99].map(|step| config.quantization(step).lambda), [0.0, 0.5, 1.0, 1.0]);
    }
}
