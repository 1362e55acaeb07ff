//! Checkpoints: a Hugging Face folder that every command reads, with what the optimizer remembers beside it. It appears under its name when it
//! is whole.

use crate::{Error, Result, config::RunConfig, data::hex, optim::State, trainer::Param};
use bitnet_core::{
    Device, Tensor,
    interchange::{
        atomic::{AtomicFolder, atomic_write},
        safetensors,
    },
};
use bitnet_model::{
    Config, Decoder, Tokenizer,
    arch::{describe::describe, hf::HfConfig},
    layers::{ActivationCodes, Quantization, WeightCodes},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "trainer.json";
/// Behind the name of a weight, beside what the optimizer remembers, where the model holds its average.
const LATENT: &str = ".latent";
const PREFIX: &str = "checkpoint-";
/// Number that changes when older checkpoints cannot be continued any more.
const VERSION: u32 = 2;
/// Longest `trainer.json`.
const MAX_STATE: u64 = 16 << 20;

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps that were made.
    pub step: u64,
    /// Steps that changed the weights.
    pub updates: u32,
    /// Lowest loss on what is held out.
    pub best: Option<f64>,
    /// The step that it was found after.
    pub best_step: Option<u64>,
    /// Evaluations since then.
    pub since_best: u64,
}

/// `trainer.json`.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    progress: Progress,
    config: RunConfig,
    /// Hashes of the tokens to learn from and of those held out.
    data: [String; 2],
    /// Hash of the logits of the teacher on the first window.
    #[serde(default)]
    teacher: Option<String>,
    /// Hashes of files beside this one.
    files: BTreeMap<String, String>,
}

/// A checkpoint that was read.
pub struct Saved {
    /// Where the run stood.
    pub progress: Progress,
    /// Weights and what the optimizer remembers, by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The shape of the decoder, with what a run that goes on from a model took from it.
    pub shape: Config,
    config: RunConfig,
    data: [String; 2],
    /// What identifies the teacher.
    pub(crate) teacher: Option<String>,
}

impl Saved {
    /// The decoder that is shipped, its weights taken out.
    ///
    /// # Errors
    /// Where a weight is missing or of another shape.
    pub fn decoder(&mut self, quantization: Quantization) -> Result<Decoder> {
        let tensors = &mut self.tensors;
        Ok(Decoder::latent(&self.shape, quantization, &mut |name, shape| take(tensors, name, shape))?)
    }

    /// The decoder that is trained on, its weights taken out: another one where what is shipped is an average.
    ///
    /// # Errors
    /// As [`Saved::decoder`].
    pub fn latent(&mut self, quantization: Quantization) -> Result<Decoder> {
        let tensors = &mut self.tensors;
        Ok(Decoder::latent(&self.shape, quantization, &mut |name, shape| {
            let latent = format!("{name}{LATENT}");
            take(tensors, if tensors.contains_key(&latent) { &latent } else { name }, shape)
        })?)
    }

    /// What the optimizer remembers of a weight, taken out.
    pub(crate) fn state(&mut self, name: &str, like: &Tensor) -> Result<Tensor> {
        Ok(take(&mut self.tensors, name, like.shape().dims())?)
    }
}

fn take(tensors: &mut BTreeMap<String, Tensor>, name: &str, shape: &[usize]) -> bitnet_model::Result<Tensor> {
    let found = tensors.remove(name);
    let found = found.ok_or_else(|| bitnet_model::Error::MissingTensor { name: name.into() })?;
    if found.shape().dims() == shape {
        return Ok(found);
    }
    let (expected, got) = (shape.to_vec(), found.dims());
    Err(bitnet_model::Error::TensorShape { name: name.into(), expected, got: got.to_vec() })
}

/// What a run computes with.
pub(crate) struct Weights<'a> {
    pub decoder: &'a mut Decoder,
    /// The average over the steps, which is shipped in place of the weights.
    pub average: Option<&'a mut [Tensor]>,
    pub params: &'a [Param],
    pub states: &'a [State],
}

/// Writes a checkpoint into the output folder and returns its own.
pub(crate) fn save(
    config: &RunConfig,
    tokenizer: &Tokenizer,
    Weights { decoder, average, params, states }: Weights<'_>,
    progress: Progress,
    (data, teacher): (&[String; 2], Option<&str>),
) -> Result<PathBuf> {
    let path = config.training.out.join(format!("{PREFIX}{:08}", progress.step));
    let folder = AtomicFolder::create(&path)?;
    let mut weights = Vec::new();
    decoder.params(&mut |name, w| {
        weights.push((name.to_owned(), w.clone()));
        Ok::<(), Error>(())
    })?;
    let names = weights.iter().map(|(name, _)| name.clone());
    let shipped: Vec<&Tensor> = match &average {
        Some(average) => average.iter().collect(),
        None => weights.iter().map(|(_, w)| w).collect(),
    };
    write_tensors(&folder.path().join(MODEL), names.zip(shipped))?;
    let latent = weights.iter().filter(|_| average.is_some());
    let latent = latent.map(|(name, w)| (format!("{name}{LATENT}"), w));
    let remembered = params.iter().zip(states).flat_map(|(param, state)| {
        state.0.iter().map(move |(name, x)| (format!("{}.{name}", param.name), x))
    });
    write_tensors(&folder.path().join(OPTIMIZER), remembered.chain(latent))?;
    model_files(folder.path(), config, tokenizer, decoder)?;
    let hashed = [MODEL, OPTIMIZER].map(|name| Ok((name.to_owned(), hash(&folder.path().join(name))?)));
    let files = hashed.into_iter().collect::<Result<BTreeMap<_, _>>>()?;
    let record = Record {
        version: VERSION,
        progress,
        config: config.clone(),
        data: data.clone(),
        teacher: teacher.map(Into::into),
        files,
    };
    let text = serde_json::to_string_pretty(&record).expect("a record can be written");
    write(&folder.path().join(STATE), text.as_bytes())?;
    folder.commit()?;
    Ok(path)
}

fn write_tensors<'a>(path: &Path, tensors: impl Iterator<Item = (String, &'a Tensor)>) -> Result<()> {
    let tensors: Vec<(String, &Tensor)> = tensors.collect();
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, x)| (name.as_str(), *x)).collect();
    Ok(safetensors::save(path, &named)?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(atomic_write(path, |file| file.write(bytes))?)
}

/// What makes the folder a model.
fn model_files(path: &Path, config: &RunConfig, tokenizer: &Tokenizer, decoder: &Decoder) -> Result<()> {
    let mut described = describe(&decoder.config, tokenizer.bos(), tokenizer.eos())?;
    let quantization = &config.quantization;
    match (quantization.weights, quantization.activations) {
        (WeightCodes::Off, ActivationCodes::Off) => {}
        (WeightCodes::Tensor, ActivationCodes::Int8) => {
            let online = json!({ "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online" });
            described.insert("quantization_config".into(), online);
        }
        // No public format means this, so that no reader may take it for something else.
        _ => {
            let ours = json!({ "quant_method": "bitnet-training", "weights": quantization.weights, "activations": quantization.activations });
            described.insert("quantization_config".into(), ours);
        }
    }
    let pretty =
        |value: &serde_json::Value| serde_json::to_string_pretty(value).expect("JSON can be written");
    write(&path.join("config.json"), pretty(&described.into()).as_bytes())?;
    let (json, settings) = tokenizer.to_json();
    write(&path.join("tokenizer.json"), json.as_bytes())?;
    write(&path.join("tokenizer_config.json"), settings.as_bytes())?;
    let generation = json!({ "bos_token_id": tokenizer.bos(), "eos_token_id": tokenizer.eos() });
    write(&path.join("generation_config.json"), pretty(&generation).as_bytes())
}

fn hash(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).map_err(Error::io(path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0u8; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(Error::io(path))?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Checkpoints of an output folder by step.
fn all(out: &Path) -> Result<BTreeMap<u64, PathBuf>> {
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::io(out)(error)),
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok();
    Ok(paths.filter_map(|path| step(&path).map(|step| (step, path))).collect())
}

/// Whether an output folder holds a run.
///
/// # Errors
/// Where the folder cannot be read.
pub fn is_started(out: &Path) -> Result<bool> {
    Ok(!all(out)?.is_empty())
}

/// The newest checkpoint of an output folder.
///
/// # Errors
/// Where there is none.
pub fn last(out: &Path) -> Result<PathBuf> {
    let newest = all(out)?.pop_last().map(|(_, path)| path);
    newest.ok_or_else(|| Error::data(out, "there is no checkpoint to continue from; start without --resume"))
}

/// Removes what a run left that was ended while it wrote.
///
/// # Errors
/// Where it cannot be removed.
pub fn sweep(out: &Path) -> Result<()> {
    for entry in fs::read_dir(out).map_err(Error::io(out))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            let remove = if path.is_dir() { fs::remove_dir_all } else { fs::remove_file };
            remove(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Removes all but the newest `keep` checkpoints and the best one.
pub(crate) fn prune(out: &Path, keep: usize, best: Option<u64>) -> Result<()> {
    let all = all(out)?;
    let old = all.len().saturating_sub(keep);
    for (_, path) in all.iter().take(old).filter(|(step, _)| Some(**step) != best) {
        fs::remove_dir_all(path).map_err(Error::io(path))?;
    }
    Ok(())
}

fn refuse(
    path: &Path,
    what: impl Into<String>,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    Error::Checkpoint {
        path: path.into(),
        what: what.into(),
        found: found.into(),
        expected: expected.into(),
        advice: "change it back, or start a new run in another folder",
    }
}

/// Reads a checkpoint after a look at the hashes of its files.
///
/// # Errors
/// Names the file that is missing or damaged.
pub fn load(path: &Path, device: &Device) -> Result<Saved> {
    let state = path.join(STATE);
    let found = fs::metadata(&state).map_err(Error::io(&state))?;
    if found.len() > MAX_STATE {
        return Err(Error::data(&state, "longer than any state of a run"));
    }
    let text = fs::read_to_string(&state).map_err(Error::io(&state))?;
    let record: Record = serde_json::from_str(&text).map_err(|e| Error::data(&state, e.to_string()))?;
    if record.version != VERSION {
        return Err(refuse(path, "version", record.version.to_string(), VERSION.to_string()));
    }
    let mut tensors = BTreeMap::new();
    for name in [MODEL, OPTIMIZER] {
        let file = path.join(name);
        let (expected, got) = (record.files.get(name).cloned().unwrap_or_default(), hash(&file)?);
        if got != expected {
            let reason = format!("damaged: its SHA-256 is {got}, the checkpoint was written with {expected}");
            return Err(Error::data(file, reason));
        }
        tensors.extend(safetensors::load(device, &file)?);
    }
    let shape = shape(path)?;
    let Record { progress, config, data, teacher, .. } = record;
    Ok(Saved { progress, tensors, shape, config, data, teacher })
}

/// The shape in a `config.json`, whatever it says of quantization.
fn shape(path: &Path) -> Result<Config> {
    let file = path.join("config.json");
    let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
    let mut json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::data(&file, e.to_string()))?;
    if let Some(map) = json.as_object_mut() {
        map.remove("quantization_config");
    }
    Ok(HfConfig::parse(&json.to_string())?.config)
}

/// The decoder of a checkpoint whose rounding no public format holds; none where the folder is a model for everybody, or no checkpoint.
///
/// # Errors
/// As [`load`].
pub fn unshippable(path: &Path, device: &Device) -> Result<Option<Decoder>> {
    if !path.join(STATE).exists() {
        return Ok(None);
    }
    let mut saved = load(path, device)?;
    let quantization = saved.config.quantization(u64::MAX);
    if quantization.has_packed_form() { Ok(None) } else { saved.decoder(quantization).map(Some) }
}

/// Refuses to continue with another configuration or other data: a run that was continued is the run without a break.
pub(crate) fn compare(saved: &Saved, config: &RunConfig, data: &[String; 2], path: &Path) -> Result<()> {
    for (what, found, expected) in
        [("training data", &saved.data[0], &data[0]), ("held-out data", &saved.data[1], &data[1])]
    {
        if found != expected {
            return Err(refuse(path, what, format!("of SHA-256 {found}"), format!("data of {expected}")));
        }
    }
    let same_rates = (0..saved.progress.step).all(|step| {
        let rates = |config: &RunConfig| config.schedule.at(step, config.training.steps);
        rates(&saved.config) == rates(config)
    });
    let [before, now] = [&saved.config, config].map(|config| settled(config, same_rates));
    for (section, keys) in &before {
        let other = now.get(section).and_then(toml::Value::as_table);
        let keys = keys.as_table().into_iter().flatten();
        for (key, value) in keys {
            let expected = other.and_then(|other| other.get(key));
            if expected != Some(value) {
                let shown = |value: Option<&toml::Value>| value.map_or("unset".into(), ToString::to_string);
                return Err(refuse(path, format!("{section}.{key}"), value.to_string(), shown(expected)));
            }
        }
    }
    if before == now { Ok(()) } else { Err(refuse(path, "a key", "unset", "a value")) }
}

/// The keys that what was computed so far depends on: the schedule only where it gave other rates than it would now.
fn settled(config: &RunConfig, same_rates: bool) -> toml::Table {
    let mut table = toml::Table::try_from(config).expect("a configuration is a table");
    let mut remove = |section: &str, keys: &[&str]| {
        if let Some(section) = table.get_mut(section).and_then(toml::Value::as_table_mut) {
            keys.iter().for_each(|key| _ = section.remove(*key));
        }
    };
    // Data and tokenizer are compared by what they say; how much is done at a time and how often something is said does not matter.
    remove("data", &["train", "valid", "valid_fraction", "tokenizer"]);
    remove("distillation", &["teacher"]);
    remove("training", &["sample_tokens", "sample_prompt"]);
    remove("training", &["eval_every", "eval_windows", "patience", "log_every", "checkpoint_every"]);
    remove("training", &["keep", "workers", "recompute", "out"]);
    if same_rates {
        remove("training", &["steps"]);
        table.remove("schedule");
    }
    table
}
