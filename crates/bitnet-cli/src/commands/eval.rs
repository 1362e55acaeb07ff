//! How well a model predicts a text, in units that do not depend on its tokenizer.

use crate::{
    args::{DeviceArgs, FileArgs},
    session::resolve,
    ui::Ui,
    values,
};
use anyhow::{Result, ensure};
use bitnet_core::Device;
use bitnet_inference::local;
use bitnet_model::{Checkpoint, Decoder, Tokenizer, checkpoint::Options, weights::Source};
use bitnet_training::{checkpoint, data, evaluate::evaluate, parallel::Team};
use clap::Args;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Evaluate a checkpoint or a model on a text: nats a token, perplexity, bits a byte.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet eval runs/shakespeare -d data/valid.txt\n  \
    bitnet eval model.gguf -d valid_ids.npy -c 512 --json")]
pub(crate) struct EvalArgs {
    /// A GGUF file, a Hugging Face folder, a checkpoint, or the output folder of a run, whose last checkpoint is taken.
    #[arg(value_name = "MODEL", env = "BITNET_MODEL")]
    model: PathBuf,
    /// What is predicted: text, .jsonl of documents or conversations, or .npy of token ids.
    #[arg(short, long, value_name = "FILE", env = "BITNET_DATA")]
    data: PathBuf,
    /// Tokens of a window; 0 takes what the model was trained for.
    #[arg(short, long, default_value_t = 0, value_name = "N", env = "BITNET_CTX_SIZE", value_parser = values::from(0))]
    ctx_size: usize,
    /// Most windows; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N", env = "BITNET_CHUNKS", value_parser = values::from(0))]
    chunks: usize,
    /// Write one JSON object.
    #[arg(long, env = "BITNET_JSON")]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &EvalArgs, ui: &Ui) -> Result<ExitCode> {
    let device = Device::open(&args.device.device, args.device.counts(ui))?;
    let path = checkpoint_of(&resolve(&args.model)?)?;
    let options =
        Options { load_mode: args.files.load_mode.into(), i2s_layout: args.files.i2s_layout.format() };
    let (decoder, tokenizer) = open(&path, options, &device, ui)?;
    let corpus = data::read(&args.data, &tokenizer)?;
    let context = if args.ctx_size > 0 { args.ctx_size } else { decoder.config.max_position_embeddings };
    ensure!(context > 1, "a window needs at least 2 tokens; use a larger -c");
    corpus.check(decoder.config.vocab_size, context)?;
    let found = evaluate(&decoder, &corpus, &tokenizer, (context, None), args.chunks, &Team::new(1)?)?;
    if args.json {
        let value = json!({ "nats": found.nats, "ppl": found.nats.exp(), "bits_per_byte": found.bits_per_byte, "tokens": found.tokens });
        outln!("{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    outln!(
        "{:.4} nats a token, perplexity {:.4}, {:.4} bits a byte",
        found.nats,
        found.nats.exp(),
        found.bits_per_byte
    )?;
    outln!("{} tokens scored in windows of {context}", found.tokens)?;
    Ok(ExitCode::SUCCESS)
}

/// The last checkpoint where the path is the output folder of a run.
pub(crate) fn checkpoint_of(path: &Path) -> Result<PathBuf> {
    let is_run = path.is_dir() && !path.join("config.json").exists() && checkpoint::is_started(path)?;
    Ok(if is_run { checkpoint::last(path)? } else { path.to_owned() })
}

/// A model as it is shipped; a checkpoint whose rounding no format holds as it is trained.
pub(crate) fn open(path: &Path, options: Options, device: &Device, ui: &Ui) -> Result<(Decoder, Tokenizer)> {
    if let Some(decoder) = checkpoint::unshippable(path, device)? {
        return Ok((decoder, Tokenizer::from_folder(path)?));
    }
    let source = Source::open(path, options.load_mode)?;
    let (tokenizer, notes) = Tokenizer::of(&source)?;
    notes.iter().for_each(|note| ui.note(note));
    let mut opened = Checkpoint::from_source(source, options)?;
    local::settle_i2s_layout(&mut opened, device, &tokenizer)?.iter().for_each(|note| ui.note(note));
    let bar = ui.progress("loading", opened.weight_bytes(), true);
    let decoder = opened.decoder(device, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    Ok((decoder, tokenizer))
}
