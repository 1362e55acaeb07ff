//! All logits of a prompt, for comparing engines.

use crate::{
    args::{Cache, ModelArgs},
    npy,
    session::Session,
    ui::Ui,
    values::{self, Ids},
};
use anyhow::{Result, anyhow, bail, ensure};
use bitnet_inference::{EngineOptions, LanguageModel};
use bitnet_model::batch::{BLOCK_LEN, Batch, Logits};
use clap::Args;
use std::{path::PathBuf, process::ExitCode};

/// Write all logits of a prompt as a NumPy file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet logits -m folder --ids 1,15043,29892 -o logits.npy\n  \
    bitnet logits -m model.gguf -p \"Hello\" -o logits.npy --device cpu/scalar -t 1 --chunk 7")]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids, separated by commas, or a .npy file with them.
    #[arg(
        long,
        value_name = "IDS",
        env = "BITNET_IDS",
        conflicts_with = "prompt",
        required_unless_present = "prompt"
    )]
    ids: Option<Ids>,
    /// A text; the model's first token is put before it.
    #[arg(short, long, env = "BITNET_PROMPT")]
    prompt: Option<String>,
    /// File to write: f32, one row of the vocabulary for every token.
    #[arg(short, long, value_name = "OUT.npy", env = "BITNET_OUT")]
    out: PathBuf,
    /// Tokens of a forward pass; 0 for the whole prompt. The logits do not depend on it.
    #[arg(long, default_value_t = 0, value_name = "N", env = "BITNET_CHUNK", value_parser = values::from(0))]
    chunk: usize,
    /// How keys and values are stored.
    #[arg(long, aliases = ["cache-type-k", "cache-type-v"], default_value = "f32", env = "BITNET_CACHE_TYPE")]
    cache_type: Cache,
}

pub(crate) fn run(args: &LogitsArgs, ui: &Ui) -> Result<ExitCode> {
    let same = args.model.model.canonicalize().ok().is_some_and(|m| args.out.canonicalize().ok() == Some(m));
    ensure!(!same, "{} is the model itself; choose another name for the output", args.out.display());
    let listed = match &args.ids {
        Some(Ids::List(ids)) => Some(ids.clone()),
        Some(Ids::File(path)) => Some(npy::read_ids(path)?),
        None => None,
    };
    let room = listed.as_ref().map_or(0, Vec::len);
    let options = args.model.options(room, args.cache_type, ui);
    let session = Session::open(&args.model.model, &options, EngineOptions::default(), ui)?;
    let tokens = match (listed, &args.prompt) {
        (Some(ids), _) => ids,
        (None, Some(prompt)) => session.tokenizer.encode(prompt, true)?,
        (None, None) => bail!("expected token ids (--ids) or a text (-p)"),
    };
    ensure!(!tokens.is_empty(), "no tokens");
    let mut model = session.engine.into_model();
    let (vocab, context) = (model.vocab_size(), model.context_length());
    ensure!(tokens.len() <= context, "{} tokens do not fit in a context of {context}", tokens.len());
    if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocab) {
        bail!("token {id} is outside of the model's vocabulary of {vocab}");
    }
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK_LEN) as u32).collect();
    let chunk = if args.chunk == 0 { tokens.len() } else { args.chunk };
    let mut out = npy::Writer::create(&args.out, tokens.len(), vocab)?;
    let mut logits = Vec::new();
    for (i, chunk_tokens) in tokens.chunks(chunk).enumerate() {
        let mut batch = Batch::default();
        batch.push(chunk_tokens, i * chunk, blocks.clone(), Logits::All);
        logits.clear();
        model.forward(&batch, &mut logits).map_err(|e| anyhow!(e))?;
        out.write(&logits)?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}
