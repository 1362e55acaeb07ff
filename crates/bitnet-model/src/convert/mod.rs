//! From any container and ternary format to another. Codes and scales are carried over exactly wherever the target can hold
//! them; where it cannot (f16 scales of TQ types), that is a property of the target.

mod folder;
mod gguf;

use crate::{
    Checkpoint, Error, Result, Tokenizer,
    arch::{PROJECTIONS, permuted_row},
    checkpoint::Weight,
    weights::FileSlice,
};
use bitnet_quant::{Format, Scales, Ternary};
use rayon::prelude::*;
use std::{ops::ControlFlow, path::Path};

/// Tensors that are packed at a time: bounds the memory, keeps the cores busy.
const TOGETHER: usize = 8;

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Format of the projections: I2_S, TQ1_0 or TQ2_0 in a GGUF, packed in a Hugging Face folder.
    pub ternary: Format,
    /// Format of embedding and head; that of the source where it is `None`.
    pub embedding: Option<Format>,
}

/// Told after every tensor: bytes that were written. Breaking stops the conversion.
pub type Progress<'a> = &'a (dyn Fn(u64) -> ControlFlow<()> + Sync);

/// Converts a model. The result appears under its name when it is whole; nothing is left behind where it does not come to that.
///
/// # Errors
/// Names the tensor that the target cannot hold and why; [`Error::Io`]; [`Error::Stopped`].
pub fn convert(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    out: &Path,
    target: Target,
    progress: Progress<'_>,
) -> Result<()> {
    match target.ternary {
        Format::HfPacked => folder::write(checkpoint, tokenizer, out, target, progress),
        _ => gguf::write(checkpoint, tokenizer, out, target, progress),
    }
}

/// A tensor that is going to be written.
enum Job {
    Projection { layer: usize, name: &'static str },
    Norm { name: String, width: usize },
    Embedding,
    Head,
}

/// All tensors in the order of the layers.
fn jobs(checkpoint: &Checkpoint) -> Vec<Job> {
    let config = checkpoint.config();
    let mut jobs = vec![Job::Embedding];
    for layer in 0..config.num_hidden_layers {
        let norms = crate::arch::layer_norms(config);
        jobs.extend(
            norms
                .into_iter()
                .map(|(name, width)| Job::Norm { name: format!("model.layers.{layer}.{name}"), width }),
        );
        jobs.extend(PROJECTIONS.map(|name| Job::Projection { layer, name }));
    }
    jobs.push(Job::Norm { name: "model.norm".into(), width: config.hidden_size });
    if !config.tie_word_embeddings {
        jobs.push(Job::Head);
    }
    jobs
}

/// Makes the bytes of the tensors, several at a time, and hands them over in order.
fn in_order<T: Send>(
    jobs: &[Job],
    make: impl Fn(&Job) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    for jobs in jobs.chunks(TOGETHER) {
        let made: Result<Vec<T>> = jobs.par_iter().map(&make).collect();
        made?.into_iter().try_for_each(&mut take)?;
    }
    Ok(())
}

/// Reports what was written, and stops where that is the answer.
fn report(progress: Progress<'_>, bytes: &[u8]) -> Result<()> {
    match progress(bytes.len() as u64) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Stopped),
    }
}

/// An embedding or head in the format that was asked for, and its bytes: those of the file where it has that format.
fn table(weight: &Weight, wanted: Option<Format>) -> Result<(Format, FileSlice)> {
    let format = wanted.unwrap_or(weight.format);
    if format == weight.format {
        return Ok((format, weight.bytes.clone()));
    }
    let row_bytes = format.tensor_bytes(1, weight.cols).map_err(|e| weight.error(e))?;
    let mut bytes = vec![0; row_bytes * weight.rows];
    let rows = bytes.par_chunks_mut(row_bytes.max(1)).enumerate();
    rows.try_for_each(|(row, out)| {
        let values = weight.row(row)?;
        format.quantize_row(&values, out).map_err(|e| weight.error(e))?;
        check_range(weight, format, &values)
    })?;
    Ok((format, bytes.into()))
}

/// Refuses values that become infinite in a half.
fn check_range(weight: &Weight, format: Format, values: &[f32]) -> Result<()> {
    const LARGEST_HALF: f32 = 65_504.0;
    match values.iter().position(|v| v.abs() > LARGEST_HALF) {
        Some(index) if format == Format::F16 => {
            let (name, value) = (format!("{}.weight", weight.name), values[index]);
            Err(Error::TensorValue {
                name,
                index,
                value,
                rule: "at most 65504, the largest f16; choose another --embedding",
            })
        }
        _ => Ok(()),
    }
}

/// A matrix of zeros has no scale that would mean anything, but the formats want one.
fn with_scale(matrix: Ternary) -> Ternary {
    let scales = match matrix.scales {
        Scales::Tensor(0.0) => Scales::Tensor(1.0),
        scales => scales,
    };
    Ternary { scales, ..matrix }
}

/// Rows in the order of adjacent rotary pairs.
fn permute(matrix: &Ternary, head_dim: usize) -> Ternary {
    // Row `stored` of the file holds row `row`; the inverse is needed here.
    let mut source = vec![0; matrix.rows];
    (0..matrix.rows).for_each(|row| source[permuted_row(row, head_dim)] = row);
    let codes =
        source.iter().flat_map(|&row| &matrix.codes[row * matrix.cols..][..matrix.cols]).copied().collect();
    let scales = match &matrix.scales {
        Scales::Row(values) => Scales::Row(source.iter().map(|&row| values[row]).collect()),
        other => other.clone(),
    };
    Ternary { codes, scales, ..*matrix }
}
