//! Weights of a GGUF.

use super::weight::{Meaning, Weight};
use crate::{
    Config, Error, Result,
    arch::{gguf_name, gguf_permutes_heads},
    weights::gguf::{Gguf, TensorInfo},
};
use bitnet_quant::Format;
use std::collections::HashSet;

/// Tensors that are read with the configuration.
const CONFIGURATION: [&str; 1] = ["rope_freqs.weight"];

fn find<'a>(gguf: &'a Gguf, name: &str) -> Result<&'a TensorInfo> {
    let stored = gguf_name(&format!("{name}.weight")).expect("every name of a decoder has one in a GGUF");
    gguf.tensor(&stored).ok_or(Error::MissingTensor { name: stored })
}

fn weight(gguf: &Gguf, tensor: &TensorInfo, name: String, format: Format) -> Result<Weight> {
    if tensor.shape.len() > 2 {
        let expected = vec![tensor.rows(), tensor.cols()];
        return Err(Error::TensorShape { name: tensor.name.clone(), expected, got: tensor.shape.clone() });
    }
    Ok(Weight {
        name,
        rows: tensor.rows(),
        cols: tensor.cols(),
        format,
        bytes: gguf.bytes(tensor),
        meaning: Meaning::AsStored,
        permuted: None,
    })
}

/// A projection by its full name.
pub(super) fn projection(gguf: &Gguf, config: &Config, name: String, i2s: Format) -> Result<Weight> {
    let tensor = find(gguf, &name)?;
    let format = if tensor.format == Format::I2S { i2s } else { tensor.format };
    let rotated = name.ends_with("q_proj") || name.ends_with("k_proj");
    let mut weight = weight(gguf, tensor, name, format)?;
    weight.permuted = (rotated && gguf_permutes_heads(config.family)).then_some(config.head_dim);
    weight.meaning = scale(gguf, tensor, format)?;
    Ok(weight)
}

/// llama.cpp's converter for `bitnet` puts the scale of a ternary matrix beside it; it multiplies what is stored.
fn scale(gguf: &Gguf, tensor: &TensorInfo, format: Format) -> Result<Meaning> {
    let stem = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
    let Some(scale) = gguf.tensor(&format!("{stem}.scale")) else { return Ok(Meaning::AsStored) };
    let mut value = [0f32];
    if scale.shape != [1] {
        return Err(Error::TensorShape {
            name: scale.name.clone(),
            expected: vec![1],
            got: scale.shape.clone(),
        });
    }
    let read = scale.format.dequantize_row(&gguf.bytes(scale), &mut value);
    read.map_err(|error| Error::Tensor { name: scale.name.clone(), error })?;
    let rule = "a positive number";
    if !(value[0] > 0.0 && value[0].is_finite()) {
        return Err(Error::TensorValue { name: scale.name.clone(), index: 0, value: value[0], rule });
    }
    Ok(if format.is_ternary() { Meaning::Scaled(value[0]) } else { Meaning::FloatCodes(value[0]) })
}

/// An embedding, head or norm by its full name.
pub(super) fn table(gguf: &Gguf, name: &str) -> Result<Weight> {
    let tensor = find(gguf, name)?;
    weight(gguf, tensor, name.to_owned(), tensor.format)
}

/// A tensor that nothing will read.
pub(super) fn unexpected(gguf: &Gguf, known: &HashSet<String>) -> Option<String> {
    let names: HashSet<String> = known.iter().filter_map(|name| gguf_name(name)).collect();
    let expected = |name: &str| names.contains(name) || CONFIGURATION.contains(&name);
    gguf.tensors().iter().find(|t| !expected(&t.name)).map(|t| t.name.clone())
}
