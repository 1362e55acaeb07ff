//! Writes a GGUF.

use super::{Job, Progress, Target, in_order, jobs, permute, report, table, with_scale};
use crate::{
    Checkpoint, Config, Error, Result, Tokenizer,
    arch::{gguf_name, gguf_permutes_heads, projection_shape},
    checkpoint::{Meaning, Weight},
    config::{Activation, Family, RopeScaling},
    layers::Rope,
    tokenizer::GgufVocab,
    weights::{
        FileSlice, Source,
        gguf::{Array, Metadata, Spec, Value, Writer},
    },
};
use bitnet_quant::Format;
use rayon::prelude::*;
use std::path::Path;

/// Metadata of a source GGUF that stays true.
const KEPT: &str = "general.";
/// Metadata that is written anew.
const OWN: [&str; 4] =
    ["general.architecture", "general.file_type", "general.alignment", "general.quantization_version"];

pub(super) fn write(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    out: &Path,
    target: Target,
    progress: Progress<'_>,
) -> Result<()> {
    let metadata = metadata(checkpoint, tokenizer, target)?;
    let factors = rope_factors(checkpoint.config());
    let jobs = jobs(checkpoint);
    let mut specs = jobs.par_iter().map(|job| spec(checkpoint, job, target)).collect::<Result<Vec<_>>>()?;
    if let Some(factors) = &factors {
        specs.push(Spec {
            name: "rope_freqs.weight".into(),
            shape: vec![factors.len()],
            format: Format::F32,
        });
    }
    let mut writer = Writer::create(out, &metadata, &specs)?;
    in_order(
        &jobs,
        |job| bytes(checkpoint, job, target),
        |bytes| {
            writer.tensor(&bytes)?;
            report(progress, &bytes)
        },
    )?;
    if let Some(factors) = factors {
        writer.tensor(&floats(&factors))?;
    }
    writer.finish()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn name(hf: &str) -> String {
    gguf_name(&format!("{hf}.weight")).expect("every name of a decoder has one in a GGUF")
}

fn spec(checkpoint: &Checkpoint, job: &Job, target: Target) -> Result<Spec> {
    let config = checkpoint.config();
    Ok(match job {
        Job::Norm { name: norm, width } => {
            Spec { name: name(norm), shape: vec![*width], format: Format::F32 }
        }
        Job::Projection { layer, name: projection } => {
            let weight = checkpoint.projection(*layer, projection)?;
            let (rows, cols) = projection_shape(config, projection);
            let format = if is_ternary(&weight)? { target.ternary } else { kept(weight.format) };
            Spec { name: name(&weight.name), shape: vec![rows, cols], format }
        }
        Job::Embedding => table_spec(&checkpoint.embedding()?, target),
        Job::Head => table_spec(&head(checkpoint)?, target),
    })
}

fn head(checkpoint: &Checkpoint) -> Result<Weight> {
    checkpoint.head()?.ok_or(Error::MissingTensor { name: "lm_head.weight".into() })
}

fn table_spec(weight: &Weight, target: Target) -> Spec {
    let format = target.embedding.unwrap_or(weight.format);
    Spec { name: name(&weight.name), shape: vec![weight.rows, weight.cols], format }
}

/// Whether a projection is computed with int8 activations; the others stay as they are.
fn is_ternary(weight: &Weight) -> Result<bool> {
    match weight.meaning {
        Meaning::Master | Meaning::FloatCodes(_) => Ok(true),
        _ if !weight.format.is_ternary() => Ok(false),
        // The scales of groups may be one for the matrix; only the values tell.
        _ if HAS_GROUPS.contains(&weight.format) => Ok(weight.ternary()?.is_some()),
        _ => Ok(true),
    }
}

/// The format that a matrix keeps. The older meaning of Q2_0 has no number of its own; its bytes are those of PQ2_0.
fn kept(format: Format) -> Format {
    if format == Format::Q2_0G128 { Format::Pq2 } else { format }
}

/// Ternary formats with a scale for each group of columns.
const HAS_GROUPS: [Format; 6] =
    [Format::Tq1, Format::Tq2, Format::Q2_0, Format::Q2_0G128, Format::Pq2, Format::Ptq1];

fn bytes(checkpoint: &Checkpoint, job: &Job, target: Target) -> Result<FileSlice> {
    match job {
        Job::Norm { name, width } => Ok(floats(&checkpoint.norm(name, *width)?).into()),
        Job::Embedding => Ok(table(&checkpoint.embedding()?, target.embedding)?.1),
        Job::Head => Ok(table(&head(checkpoint)?, target.embedding)?.1),
        Job::Projection { layer, name } => {
            let weight = checkpoint.projection(*layer, name)?;
            let config = checkpoint.config();
            let rotated =
                gguf_permutes_heads(config.family) && (name.ends_with("q_proj") || name.ends_with("k_proj"));
            projection(&weight, target.ternary, rotated.then_some(config.head_dim))
        }
    }
}

fn projection(weight: &Weight, format: Format, permuted: Option<usize>) -> Result<FileSlice> {
    let Some(matrix) = weight.ternary()? else { return dense(weight, permuted) };
    let matrix = match permuted {
        Some(head_dim) => permute(&matrix, head_dim),
        None => matrix,
    };
    Ok(format.pack(&with_scale(matrix)).map_err(|e| weight.error(e))?.into())
}

/// A matrix in the format of the source, rows in the order of the target.
fn dense(weight: &Weight, permuted: Option<usize>) -> Result<FileSlice> {
    if weight.permuted == permuted {
        return Ok(weight.bytes.clone());
    }
    let row_bytes = weight.row_bytes()?;
    let mut bytes = vec![0; weight.bytes.len()];
    for row in 0..weight.rows {
        let to = permuted.map_or(row, |head_dim| crate::arch::permuted_row(row, head_dim));
        bytes[to * row_bytes..][..row_bytes]
            .copy_from_slice(&weight.bytes[weight.stored_row(row) * row_bytes..][..row_bytes]);
    }
    Ok(bytes.into())
}

fn architecture(config: &Config) -> Result<&'static str> {
    match (config.family, config.activation) {
        (Family::BitNet, Activation::Relu2) => Ok("bitnet-b1.58"),
        (Family::BitNet, Activation::Silu) => Ok("bitnet"),
        (Family::Llama, Activation::Silu) => Ok("llama"),
        (Family::Qwen3, Activation::Silu) => Ok("qwen3"),
        (family, Activation::Relu2) => Err(Error::Config {
            field: "hidden_act".into(),
            value: "relu2".into(),
            rule: format!("silu: GGUF has no {} with another activation", family.name()),
        }),
    }
}

/// llama.cpp's number for a file whose matrices are mostly of a format (I2_S: Microsoft's).
fn file_type(format: Format) -> u32 {
    match format {
        Format::Tq1 => 36,
        Format::Tq2 => 37,
        _ => 40,
    }
}

/// What frequencies are divided by under Llama 3's scaling; other kinds are metadata.
fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    match &config.rope_scaling {
        RopeScaling::Factors(factors) => Some(factors.clone()),
        RopeScaling::Llama3 { .. } => Some(Rope::factors(config)),
        RopeScaling::None | RopeScaling::Linear { .. } => None,
    }
}

fn metadata(checkpoint: &Checkpoint, tokenizer: &Tokenizer, target: Target) -> Result<Metadata> {
    let config = checkpoint.config();
    let arch = architecture(config)?;
    let mut metadata = Metadata::default();
    let number = |n: usize| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
    metadata.set("general.architecture", arch);
    if let Source::Gguf(gguf) = checkpoint.source() {
        let kept = gguf.metadata().iter().filter(|(key, _)| key.starts_with(KEPT) && !OWN.contains(key));
        kept.for_each(|(key, value)| metadata.set(key, value.clone()));
    } else if let Some(name) = checkpoint.path().canonicalize().ok().as_deref().and_then(Path::file_name) {
        metadata.set("general.name", &*name.to_string_lossy());
    }
    metadata.set("general.file_type", Value::U32(file_type(target.ternary)));
    metadata.set("general.quantization_version", Value::U32(2));
    if target.ternary == Format::I2S {
        metadata.set(crate::checkpoint::STATED, "x86");
    }
    let mut set = |key: &str, value: Value| metadata.set(format!("{arch}.{key}"), value);
    set("vocab_size", number(config.vocab_size));
    set("context_length", number(config.max_position_embeddings));
    set("embedding_length", number(config.hidden_size));
    set("block_count", number(config.num_hidden_layers));
    set("feed_forward_length", number(config.intermediate_size));
    set("rope.dimension_count", number(config.head_dim));
    set("rope.freq_base", Value::F32(config.rope_theta));
    set("attention.head_count", number(config.num_attention_heads));
    set("attention.head_count_kv", number(config.num_key_value_heads));
    set("attention.layer_norm_rms_epsilon", Value::F32(config.rms_norm_eps));
    if config.head_dim * config.num_attention_heads != config.hidden_size || config.family == Family::Qwen3 {
        set("attention.key_length", number(config.head_dim));
        set("attention.value_length", number(config.head_dim));
    }
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        set("rope.scaling.type", "linear".into());
        set("rope.scaling.factor", Value::F32(factor));
    }
    vocabulary(&mut metadata, tokenizer.to_gguf()?, config.vocab_size);
    Ok(metadata)
}

/// The vocabulary, filled up to the rows of the embedding as other engines expect.
fn vocabulary(metadata: &mut Metadata, mut vocab: GgufVocab, rows: usize) {
    const UNUSED: i32 = 5;
    for id in vocab.tokens.len()..rows {
        vocab.tokens.push(&format!("[PAD{id}]"));
        vocab.token_types.get_or_insert_default().push(UNUSED);
        if let Some(scores) = &mut vocab.scores {
            scores.push(-(id as f32));
        }
    }
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            metadata.set(key, value);
        }
    };
    let strings = |list| Value::Array(Array::String(list));
    set("tokenizer.ggml.model", Some(vocab.model.as_str().into()));
    set("tokenizer.ggml.pre", vocab.pre.as_deref().map(Value::from));
    set("tokenizer.ggml.tokens", Some(strings(vocab.tokens)));
    set("tokenizer.ggml.scores", vocab.scores.map(|list| Value::Array(Array::F32(list))));
    set("tokenizer.ggml.token_type", vocab.token_types.map(|list| Value::Array(Array::I32(list))));
    set("tokenizer.ggml.merges", vocab.merges.map(strings));
    set("tokenizer.ggml.bos_token_id", vocab.bos.map(Value::U32));
    set("tokenizer.ggml.eos_token_id", vocab.eos.map(Value::U32));
    set("tokenizer.ggml.eot_token_id", vocab.eot.map(Value::U32));
    set("tokenizer.ggml.unknown_token_id", vocab.unknown.map(Value::U32));
    set("tokenizer.ggml.padding_token_id", vocab.padding.map(Value::U32));
    set("tokenizer.ggml.add_bos_token", vocab.add_bos.map(Value::Bool));
    set("tokenizer.ggml.add_space_prefix", vocab.add_space_prefix.map(Value::Bool));
    set("tokenizer.chat_template", vocab.chat_template.as_deref().map(Value::from));
}
