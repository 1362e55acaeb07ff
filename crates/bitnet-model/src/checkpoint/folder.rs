//! Weights of a Hugging Face folder.

use super::weight::{Meaning, Weight};
use crate::{
    Config, Error, Result,
    arch::hf::{HfConfig, Projections, ScaleMeaning, is_kept},
    weights::safetensors::{Dtype, Entry, Folder},
};
use bitnet_quant::Format;
use std::collections::HashSet;

/// How the projections of a folder are stored.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    projections: Projections,
    not_converted: Vec<String>,
}

impl Default for Stored {
    fn default() -> Self {
        Self { projections: Projections::Dense, not_converted: Vec::new() }
    }
}

/// Names of 1bitLLM's remote code, and what everybody else calls the same.
const ALIASES: [(&str, &str); 2] =
    [("self_attn.inner_attn_ln", "self_attn.attn_sub_norm"), ("mlp.ffn_layernorm", "mlp.ffn_sub_norm")];

/// Reads `config.json`.
pub(super) fn config(folder: &Folder) -> Result<(Config, Stored)> {
    let parsed =
        HfConfig::parse(folder.config_text()).map_err(|e| e.at(folder.path().join("config.json")))?;
    let mut config = parsed.config;
    // As in transformers: a head that is there and differs is the head, whatever the configuration says.
    config.tie_word_embeddings = match folder.tensor("lm_head.weight") {
        None => true,
        Some(head) => config.tie_word_embeddings && is_same(head, folder.tensor("model.embed_tokens.weight")),
    };
    Ok((config, Stored { projections: parsed.projections, not_converted: parsed.not_converted }))
}

fn is_same(head: &Entry, embedding: Option<&Entry>) -> bool {
    embedding.is_some_and(|e| (e.dtype, &e.shape, &*e.bytes) == (head.dtype, &head.shape, &*head.bytes))
}

fn find<'a>(folder: &'a Folder, name: &str) -> Result<&'a Entry> {
    let full = format!("{name}.weight");
    let alias = ALIASES.iter().find(|(_, ours)| name.ends_with(ours));
    let entry = folder.tensor(&full).or_else(|| {
        let (theirs, ours) = alias?;
        folder.tensor(&full.replace(ours, theirs))
    });
    entry.ok_or(Error::MissingTensor { name: full })
}

/// Rows and columns of a vector or matrix.
fn shape(name: &str, entry: &Entry) -> Result<(usize, usize)> {
    match *entry.shape {
        [cols] => Ok((1, cols)),
        [rows, cols] => Ok((rows, cols)),
        _ => Err(Error::TensorShape { name: name.into(), expected: vec![0, 0], got: entry.shape.clone() }),
    }
}

fn float_format(name: &str, entry: &Entry, expected: &'static str) -> Result<Format> {
    match entry.dtype {
        Dtype::F32 => Ok(Format::F32),
        Dtype::F16 => Ok(Format::F16),
        Dtype::BF16 => Ok(Format::BF16),
        other => Err(Error::TensorType {
            name: format!("{name}.weight"),
            expected,
            got: format!("{other:?}").to_lowercase(),
        }),
    }
}

/// An embedding, head or norm by its full name.
pub(super) fn table(folder: &Folder, name: &str) -> Result<Weight> {
    let entry = find(folder, name)?;
    let (rows, cols) = shape(name, entry)?;
    let format = float_format(name, entry, "f32, f16 or bf16")?;
    let (name, bytes) = (name.to_owned(), entry.bytes.clone());
    Ok(Weight { name, rows, cols, format, bytes, meaning: Meaning::AsStored, permuted: None })
}

/// A projection by its full name.
pub(super) fn projection(folder: &Folder, stored: &Stored, name: String) -> Result<Weight> {
    let kept = is_kept(&name, &stored.not_converted);
    match &stored.projections {
        Projections::Online if !kept => Ok(Weight { meaning: Meaning::Master, ..dense(folder, &name)? }),
        Projections::Packed(meaning) if !kept => packed(folder, &name, *meaning),
        _ => dense(folder, &name),
    }
}

/// Floats that are used as they are; a scale beside them would be ignored, so there must be none.
fn dense(folder: &Folder, name: &str) -> Result<Weight> {
    let scale = format!("{name}.weight_scale");
    if folder.tensor(&scale).is_some() {
        return Err(Error::UnexpectedTensor { name: scale, family: "dense" });
    }
    table(folder, name)
}

fn packed(folder: &Folder, name: &str, meaning: ScaleMeaning) -> Result<Weight> {
    let entry = find(folder, name)?;
    let alpha = alpha(folder, name, meaning)?;
    let (rows, cols) = shape(name, entry)?;
    if entry.dtype != Dtype::U8 {
        let format = float_format(name, entry, "u8 codes or floats that are -1, 0 and 1")?;
        let (name, bytes) = (name.to_owned(), entry.bytes.clone());
        return Ok(Weight {
            name,
            rows,
            cols,
            format,
            bytes,
            meaning: Meaning::FloatCodes(alpha),
            permuted: None,
        });
    }
    let rows = rows.checked_mul(4).ok_or_else(|| Error::TensorShape {
        name: name.into(),
        expected: vec![0, cols],
        got: entry.shape.clone(),
    })?;
    let (name, bytes) = (name.to_owned(), entry.bytes.clone());
    let (format, meaning) = (Format::HfPacked, Meaning::Scaled(alpha));
    Ok(Weight { name, rows, cols, format, bytes, meaning, permuted: None })
}

/// The scale of a packed projection as a factor of its codes.
fn alpha(folder: &Folder, name: &str, meaning: ScaleMeaning) -> Result<f32> {
    let full = format!("{name}.weight_scale");
    let entry = folder.tensor(&full).ok_or_else(|| Error::MissingTensor { name: full.clone() })?;
    let len: usize = entry.shape.iter().product();
    if len != 1 {
        return Err(Error::TensorShape { name: full, expected: vec![1], got: entry.shape.clone() });
    }
    let format = match entry.dtype {
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::BF16,
        other => {
            let got = format!("{other:?}").to_lowercase();
            return Err(Error::TensorType { name: full, expected: "f32, f16 or bf16", got });
        }
    };
    let mut value = [0f32];
    format
        .dequantize_row(&entry.bytes, &mut value)
        .map_err(|error| Error::Tensor { name: full.clone(), error })?;
    let alpha = match meaning {
        ScaleMeaning::Multiplies => value[0],
        ScaleMeaning::Divides => 1.0 / value[0],
    };
    if value[0] > 0.0 && alpha > 0.0 && alpha.is_finite() {
        return Ok(alpha);
    }
    Err(Error::TensorValue { name: full, index: 0, value: value[0], rule: "a positive number" })
}

/// A tensor that nothing will read.
pub(super) fn unexpected(folder: &Folder, known: &HashSet<String>) -> Option<String> {
    let expected = |name: &str| {
        let renamed = ALIASES.iter().fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours));
        // Older transformers saved the rotary frequencies, which follow from the configuration.
        known.contains(&renamed) || name.ends_with("rotary_emb.inv_freq")
    };
    folder.names().find(|name| !expected(name)).map(str::to_owned)
}
