//! Checkpoints: a GGUF file or a Hugging Face folder as named weights of a known architecture.
//!
//! Names are Hugging Face's whatever the container, rows are in Hugging Face's order, scales multiply.

mod folder;
mod gguf;
mod i2s_layout;
mod load;
mod weight;

pub use i2s_layout::{Decision, Evidence, LAYOUTS, STATED};
pub use load::Progress;
pub(crate) use load::packed;
pub use weight::{Meaning, Weight};

use crate::{
    Config, Error, Result,
    arch::{PROJECTIONS, layer_norms, projection_shape},
    weights::{LoadMode, Source},
};
use bitnet_quant::Format;
use rayon::prelude::*;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// How a checkpoint is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How bytes come into memory.
    pub load_mode: LoadMode,
    /// How I2_S tensors are laid out; told apart by their statistics where it is `None`.
    pub i2s_layout: Option<Format>,
}

/// An opened model: its configuration is checked, its tensors are all known, their bytes are where they were.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    source: Source,
    config: Config,
    projections: folder::Stored,
    i2s: Format,
    i2s_decision: Option<Decision>,
}

impl Checkpoint {
    /// Opens a GGUF file or a folder with `config.json` and safetensors.
    ///
    /// # Errors
    /// Names the file and what in it is unknown, missing, in excess or out of range.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::from_source(Source::open(path.as_ref(), options.load_mode)?, options)
    }

    /// As [`Checkpoint::open`], from a source that is open.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_source(source: Source, options: Options) -> Result<Self> {
        let path = source.path().to_owned();
        let (config, projections) = match &source {
            Source::Gguf(gguf) => (crate::arch::gguf::config(gguf)?, folder::Stored::default()),
            Source::Folder(folder) => folder::config(folder)?,
        };
        let i2s = options.i2s_layout.unwrap_or(Format::I2S);
        let mut checkpoint = Self { path, source, config, projections, i2s, i2s_decision: None };
        checkpoint.check_names().map_err(|e| e.at(&checkpoint.path))?;
        if options.i2s_layout.is_none() {
            checkpoint.i2s_decision = i2s_layout::decide(&checkpoint)?;
            if let Some(decision) = &checkpoint.i2s_decision {
                checkpoint.i2s = decision.layout;
            }
        }
        Ok(checkpoint)
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Why I2_S tensors are read the way they are; `None` where there are none or the layout was asked for.
    pub fn i2s_decision(&self) -> Option<&Decision> {
        self.i2s_decision.as_ref()
    }

    /// The layout that I2_S tensors are read in.
    pub fn i2s_layout(&self) -> Format {
        self.i2s
    }

    /// Reads I2_S tensors as was decided elsewhere.
    pub fn set_i2s_decision(&mut self, decision: Decision) {
        self.i2s = decision.layout;
        self.i2s_decision = Some(decision);
    }

    /// Reads I2_S tensors in another layout from now on.
    pub fn set_i2s_layout(&mut self, layout: Format) {
        self.i2s = layout;
    }

    /// A projection of a layer, by its name in [`PROJECTIONS`].
    ///
    /// # Errors
    /// Where it is missing or has another shape or type than the configuration says.
    pub fn projection(&self, layer: usize, name: &str) -> Result<Weight> {
        let full = format!("model.layers.{layer}.{name}");
        let weight = match &self.source {
            Source::Gguf(gguf) => gguf::projection(gguf, &self.config, full, self.i2s),
            Source::Folder(folder) => folder::projection(folder, &self.projections, full),
        };
        let (rows, cols) = projection_shape(&self.config, name);
        weight.and_then(|w| w.expect_shape(rows, cols)).map_err(|e| e.at(&self.path))
    }

    /// `[V, C]`.
    ///
    /// # Errors
    /// As [`Checkpoint::projection`].
    pub fn embedding(&self) -> Result<Weight> {
        self.table("model.embed_tokens")
    }

    /// `[V, C]`, where it is not the embedding.
    ///
    /// # Errors
    /// As [`Checkpoint::projection`].
    pub fn head(&self) -> Result<Option<Weight>> {
        if self.config.tie_word_embeddings { Ok(None) } else { self.table("lm_head").map(Some) }
    }

    fn table(&self, name: &str) -> Result<Weight> {
        let weight = match &self.source {
            Source::Gguf(gguf) => gguf::table(gguf, name),
            Source::Folder(folder) => folder::table(folder, name),
        };
        let (rows, cols) = (self.config.vocab_size, self.config.hidden_size);
        let weight = weight.and_then(|w| w.expect_shape(rows, cols));
        // Rows are looked up one by one: a format that mixes them or keeps its scale behind them is refused here.
        weight.and_then(|w| w.row(0).map(|_| w)).map_err(|e| e.at(&self.path))
    }

    /// The values of a norm, by its full name without `.weight`.
    ///
    /// # Errors
    /// Where it is missing, of another length, not stored as floats, or holds a number that is not finite.
    pub fn norm(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let weight = match &self.source {
            Source::Gguf(gguf) => gguf::table(gguf, name),
            Source::Folder(folder) => folder::table(folder, name),
        };
        let values = weight.and_then(|w| w.expect_shape(1, width)).and_then(|w| w.row(0));
        values.and_then(|values| finite(name, values)).map_err(|e| e.at(&self.path))
    }

    /// All norms with their widths, by their full names without `.weight`.
    pub fn norms(&self) -> Vec<(String, usize)> {
        let layers = (0..self.config.num_hidden_layers).flat_map(|layer| {
            let norms = layer_norms(&self.config);
            norms.into_iter().map(move |(name, width)| (format!("model.layers.{layer}.{name}"), width))
        });
        layers.chain([("model.norm".to_owned(), self.config.hidden_size)]).collect()
    }

    /// Full names, without `.weight`, of all projections.
    pub fn projections(&self) -> impl Iterator<Item = (usize, &'static str)> {
        (0..self.config.num_hidden_layers).flat_map(|layer| PROJECTIONS.map(|name| (layer, name)))
    }

    /// Bytes of all matrices, which is what loading has to bring to the device.
    pub fn weight_bytes(&self) -> u64 {
        let projections = self.projections().filter_map(|(layer, name)| self.projection(layer, name).ok());
        let tables = [self.embedding().ok(), self.head().ok().flatten()];
        projections.chain(tables.into_iter().flatten()).map(|w| w.bytes.len() as u64).sum()
    }

    /// Bytes of the matrices that are not used from where they are in the file, in the layout that is computed with.
    pub fn repacked_bytes(&self) -> usize {
        let weights = self.projections().filter_map(|(layer, name)| self.projection(layer, name).ok());
        weights.map(|weight| load::repacked_bytes(&weight)).sum()
    }

    /// Looks at every code, scale and number of the file; loading alone does not read floats that it maps.
    ///
    /// # Errors
    /// Names the tensor and the place of what cannot be used.
    pub fn check_tensors(&self, progress: Progress<'_>) -> Result<()> {
        self.check().map_err(|e| e.at(&self.path))?;
        let names: Vec<_> = self.projections().collect();
        let checked: Result<()> = names.par_iter().try_for_each(|&(layer, name)| {
            let weight = self.projection(layer, name)?;
            let checked = if weight.ternary()?.is_some() { Ok(()) } else { weight.check_floats() };
            progress(weight.bytes.len() as u64);
            checked
        });
        checked.map_err(|e| e.at(&self.path))
    }

    /// The norms, the embedding and the head.
    fn check(&self) -> Result<()> {
        for (name, width) in self.norms() {
            self.norm(&name, width)?;
        }
        self.embedding()?.check_floats()?;
        self.head()?.map_or(Ok(()), |head| head.check_floats())
    }

    /// Every tensor of the file has a place in the decoder: one that is ignored means another model.
    fn check_names(&self) -> Result<()> {
        let mut known: HashSet<String> =
            self.norms().into_iter().map(|(name, _)| format!("{name}.weight")).collect();
        // Each container has its own name for the scale beside a projection.
        let scale = if matches!(self.source, Source::Gguf(_)) { "scale" } else { "weight_scale" };
        for (layer, name) in self.projections() {
            let stem = format!("model.layers.{layer}.{name}");
            known.extend([format!("{stem}.weight"), format!("{stem}.{scale}")]);
        }
        known.insert("model.embed_tokens.weight".into());
        known.insert("lm_head.weight".into());
        let unexpected = match &self.source {
            Source::Gguf(file) => gguf::unexpected(file, &known),
            Source::Folder(files) => folder::unexpected(files, &known),
        };
        match unexpected {
            Some(name) => Err(Error::UnexpectedTensor { name, family: self.config.family.name() }),
            None => Ok(()),
        }
    }
}

fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(index) => {
            let (name, value) = (format!("{name}.weight"), values[index]);
            Err(Error::TensorValue { name, index, value, rule: "a finite number" })
        }
    }
}
