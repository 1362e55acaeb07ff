//! Text to token ids and back.

use crate::{
    session::{read_text, resolve},
    ui::Ui,
};
use anyhow::{Result, bail};
use bitnet_model::{
    Tokenizer,
    weights::{LoadMode, Source},
};
use clap::Args;
use serde_json::json;
use std::{path::PathBuf, process::ExitCode};

/// Turn text into token ids, or ids into text.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet tokenize -m model.gguf \"Hello world\"\n  \
    bitnet tokenize -m model.gguf --ids 9906,1917\n  cat text | bitnet tokenize -m folder --json")]
pub(crate) struct TokenizeArgs {
    /// A GGUF file or a Hugging Face folder.
    #[arg(short, long, value_name = "PATH", env = "BITNET_MODEL")]
    model: PathBuf,
    /// The text; stdin where it is not given.
    text: Option<String>,
    /// Turn these ids, separated by commas, into text.
    #[arg(long, value_delimiter = ',', env = "BITNET_IDS", conflicts_with = "text")]
    ids: Vec<u32>,
    /// Read names of control tokens as those tokens.
    #[arg(long, env = "BITNET_SPECIAL")]
    special: bool,
    /// Leave out the token that begins a text.
    #[arg(long, env = "BITNET_NO_BOS")]
    no_bos: bool,
    /// Write every token with its text, as JSON.
    #[arg(long, env = "BITNET_JSON")]
    json: bool,
}

pub(crate) fn run(args: &TokenizeArgs, ui: &Ui) -> Result<ExitCode> {
    let source = Source::open(resolve(&args.model)?, LoadMode::Mmap)?;
    let (tokenizer, notes) = Tokenizer::of(&source)?;
    notes.iter().for_each(|note| ui.note(note));
    if let Some(id) = args.ids.iter().find(|&&id| tokenizer.token_bytes(id).is_none()) {
        bail!("there is no token {id}; the vocabulary has {}", tokenizer.vocab_size());
    }
    if !args.ids.is_empty() {
        outln!("{}", tokenizer.decode(&args.ids, false))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = match &args.text {
        Some(text) => text.clone(),
        None => read_text("-".as_ref())?,
    };
    let framed = !args.no_bos;
    let ids = if args.special {
        tokenizer.encode_with_control(&text, framed)
    } else {
        tokenizer.encode(&text, framed)
    }?;
    if args.json {
        let entry = |&id: &u32| json!({ "id": id, "text": tokenizer.decode(&[id], false), "special": tokenizer.is_special(id) });
        outln!("{}", json!(ids.iter().map(entry).collect::<Vec<_>>()))?;
    } else {
        outln!("{}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))?;
    }
    Ok(ExitCode::SUCCESS)
}
