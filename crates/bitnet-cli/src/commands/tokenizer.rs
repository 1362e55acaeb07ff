//! Tokenizers made from text.

use crate::{ui::Ui, values};
use anyhow::{Context, Result, ensure};
use bitnet_core::interchange::atomic::AtomicFolder;
use bitnet_training::data;
use clap::{Args, Subcommand};
use std::{fs, path::PathBuf, process::ExitCode};

/// Make tokenizers.
#[derive(Debug, Args)]
pub(crate) struct TokenizerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(TrainArgs),
}

/// Learn a byte-level BPE vocabulary from text.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet tokenizer train books.txt --vocab-size 4096 --out tokenizer\n  \
    bitnet tokenizer train shakespeare.txt --chars --out chars")]
pub(crate) struct TrainArgs {
    /// Texts in UTF-8.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Tokens of the vocabulary.
    #[arg(long, default_value_t = 4096, value_name = "N", env = "BITNET_VOCAB_SIZE", value_parser = values::from(257))]
    vocab_size: usize,
    /// One token for each byte that occurs, instead.
    #[arg(long, env = "BITNET_CHARS")]
    chars: bool,
    /// Folder to write tokenizer.json to.
    #[arg(short, long, value_name = "DIR", env = "BITNET_OUT")]
    out: PathBuf,
}

pub(crate) fn run(args: &TokenizerArgs, ui: &Ui) -> Result<ExitCode> {
    let Command::Train(args) = &args.command;
    let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| path.display().to_string());
    let texts = args.files.iter().map(read).collect::<Result<Vec<_>>>()?;
    ensure!(texts.iter().any(|text| !text.is_empty()), "the texts are empty; there is nothing to learn from");
    let (json, settings) = match args.chars {
        true => (data::characters(&texts.concat()), None),
        false => {
            let (json, settings) = data::bpe(&texts, args.vocab_size)?;
            (json, Some(settings))
        }
    };
    let folder = AtomicFolder::create(&args.out)?;
    fs::write(folder.path().join("tokenizer.json"), json)?;
    if let Some(settings) = settings {
        fs::write(folder.path().join("tokenizer_config.json"), settings)?;
    }
    folder.commit()?;
    ui.figures(format!("{} written", args.out.join("tokenizer.json").display()));
    Ok(ExitCode::SUCCESS)
}
