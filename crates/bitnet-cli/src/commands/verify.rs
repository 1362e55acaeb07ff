//! Every check of the loader, and the hash of every file.

use crate::{args::FileArgs, session::resolve, ui::Ui};
use anyhow::{Context, Result};
use bitnet_core::Device;
use bitnet_inference::local;
use bitnet_model::{Checkpoint, Tokenizer, checkpoint::Options, weights::Source};
use clap::Args;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Check every tensor of a model, and print the hashes of its files.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bitnet verify model.gguf")]
pub(crate) struct VerifyArgs {
    /// A GGUF file or a Hugging Face folder.
    #[arg(value_name = "PATH", env = "BITNET_MODEL")]
    model: PathBuf,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &VerifyArgs, ui: &Ui) -> Result<ExitCode> {
    let path = resolve(&args.model)?;
    let options =
        Options { load_mode: args.files.load_mode.into(), i2s_layout: args.files.i2s_layout.format() };
    let source = Source::open(&path, options.load_mode)?;
    let (tokenizer, notes) = Tokenizer::of(&source)?;
    notes.iter().for_each(|note| ui.note(note));
    let mut checkpoint = Checkpoint::from_source(source, options)?;
    let device = Device::open("cpu", None)?;
    local::settle_i2s_layout(&mut checkpoint, &device, &tokenizer)?.iter().for_each(|note| ui.note(note));
    local::check_vocabulary(&checkpoint, &tokenizer)?;
    let bar = ui.progress("tensors", checkpoint.weight_bytes(), true);
    let checked = checkpoint.check_tensors(&|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    checked?;
    for file in files(&path)? {
        outln!("{}  {}", hash(&file, ui)?, file.display())?;
    }
    let config = checkpoint.config();
    outln!(
        "ok: {} with {} layers, {} parameters, {} tokens",
        config.family.name(),
        config.num_hidden_layers,
        config.parameters(),
        tokenizer.vocab_size(),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The files of a model, in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let known = |p: &Path| p.extension().is_some_and(|e| e == "safetensors" || e == "json" || e == "jinja");
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file() && known(p)).collect();
    files.sort();
    Ok(files)
}

/// SHA-256 of a file, in hexadecimal.
fn hash(path: &Path, ui: &Ui) -> Result<String> {
    let name = || path.display().to_string();
    let mut file = File::open(path).with_context(name)?;
    let bar = ui.progress("hashing", file.metadata().with_context(name)?.len(), true);
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).with_context(name)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
