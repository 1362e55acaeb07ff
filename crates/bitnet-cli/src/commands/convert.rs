//! From one container and format to another.

use crate::{args::FileArgs, interrupt, session::resolve, ui::Ui};
use anyhow::{Result, ensure};
use bitnet_core::Device;
use bitnet_inference::local;
use bitnet_model::{
    Checkpoint, Tokenizer,
    checkpoint::Options,
    convert::{self, Target},
    weights::Source,
};
use bitnet_quant::Format;
use clap::{Args, ValueEnum};
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

/// Formats of projections that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// GGUF, 2 bits a weight, exact scale.
    #[value(name = "i2_s")]
    I2S,
    /// GGUF, 1.69 bits a weight, f16 scales.
    #[value(name = "tq1_0")]
    Tq1,
    /// GGUF, 2.06 bits a weight, f16 scales.
    #[value(name = "tq2_0")]
    Tq2,
    /// Hugging Face folder, 2 bits a weight, exact scale.
    #[value(name = "hf-packed")]
    HfPacked,
}

/// Formats of embeddings and heads that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Embedding {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q6_k")]
    Q6K,
}

/// Convert a model to another container or ternary format.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  bitnet convert ./folder model.gguf --to i2_s\n  \
    bitnet convert model.gguf small.gguf --to tq1_0 --embedding q6_k\n  bitnet convert model.gguf ./folder --to hf-packed")]
pub(crate) struct ConvertArgs {
    /// A GGUF file or a Hugging Face folder.
    #[arg(value_name = "IN", env = "BITNET_MODEL")]
    pub(crate) input: PathBuf,
    /// The GGUF file, or for hf-packed the folder, to write.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of the projections.
    #[arg(long, env = "BITNET_TO")]
    to: To,
    /// Format of embedding and head [default: that of the source].
    #[arg(long, env = "BITNET_EMBEDDING")]
    embedding: Option<Embedding>,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &ConvertArgs, ui: &Ui) -> Result<ExitCode> {
    let input = resolve(&args.input)?;
    let same = input.canonicalize().ok().is_some_and(|path| args.output.canonicalize().ok() == Some(path));
    ensure!(!same, "{} is the input itself; choose another name for the output", args.output.display());
    ensure!(
        args.output != Path::new("-"),
        "a conversion is written to a file or folder, not to stdout; name one"
    );
    args.check_embedding()?;
    let options =
        Options { load_mode: args.files.load_mode.into(), i2s_layout: args.files.i2s_layout.format() };
    let source = Source::open(&input, options.load_mode)?;
    let (tokenizer, notes) = Tokenizer::of(&source)?;
    notes.iter().for_each(|note| ui.note(note));
    let mut checkpoint = Checkpoint::from_source(source, options)?;
    let device = Device::open("cpu", None)?;
    local::settle_i2s_layout(&mut checkpoint, &device, &tokenizer)?.iter().for_each(|note| ui.note(note));
    let target = Target { ternary: args.to.format(), embedding: args.embedding.map(Embedding::format) };
    let begin = Instant::now();
    let bar = ui.progress("converting", checkpoint.weight_bytes(), true);
    let writing = interrupt::writing();
    let progress = |bytes| {
        bar.inc(bytes);
        if writing.interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let done = convert::convert(&checkpoint, &tokenizer, &args.output, target, &progress);
    bar.finish_and_clear();
    if matches!(done, Err(bitnet_model::Error::Stopped)) {
        ui.note("stopped; nothing was written");
        return Ok(ExitCode::from(130));
    }
    done?;
    let (seconds, bytes) = (begin.elapsed().as_secs_f64(), checkpoint.weight_bytes() as f64);
    let (mb, rate) = (bytes / 1e6, bytes / 1e6 / seconds);
    ui.figures(format!(
        "{} written: {mb:.1} MB of weights in {seconds:.2} s, {rate:.0} MB/s",
        args.output.display()
    ));
    Ok(ExitCode::SUCCESS)
}

impl ConvertArgs {
    /// A Hugging Face folder holds plain floats beside the packed weights.
    fn check_embedding(&self) -> Result<()> {
        let floats = matches!(self.embedding, None | Some(Embedding::F32 | Embedding::F16 | Embedding::Bf16));
        ensure!(self.to != To::HfPacked || floats, "--to hf-packed takes --embedding f32, f16 or bf16");
        Ok(())
    }
}

impl To {
    fn format(self) -> Format {
        match self {
            Self::I2S => Format::I2S,
            Self::Tq1 => Format::Tq1,
            Self::Tq2 => Format::Tq2,
            Self::HfPacked => Format::HfPacked,
        }
    }
}

impl Embedding {
    fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::Bf16 => Format::BF16,
            Self::Q8_0 => Format::Q8_0,
            Self::Q6K => Format::Q6K,
        }
    }
}
