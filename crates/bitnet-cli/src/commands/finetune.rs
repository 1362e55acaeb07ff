//! Training that goes on from a model.

use super::{
    eval::checkpoint_of,
    train::{self, RunArgs},
};
use crate::{args::FileArgs, session::resolve, ui::Ui};
use anyhow::{Result, ensure};
use bitnet_core::memory::Owner;
use bitnet_model::{Checkpoint, checkpoint::Options};
use bitnet_training::{RunConfig, config::ModelConfig};
use clap::{Args, ValueEnum};
use std::{path::PathBuf, process::ExitCode};

/// What a model becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Ternary weights and int8 activations.
    #[value(name = "1.58")]
    Ternary,
    /// Full precision.
    Full,
}

/// Go on training from a model: a ternary one as it is, or a full-precision one that becomes ternary.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet finetune ./llama-folder --to 1.58 --config tune.toml\n  \
    bitnet finetune runs/shakespeare --config tune.toml --out runs/tuned\n\n\
    The configuration has no section model. A full-precision model that becomes ternary gets sub-norms, and its rounding should be faded in: \
    [quantization] lambda_steps = N. Every key: docs/training.md")]
pub(crate) struct FinetuneArgs {
    /// A Hugging Face folder, a GGUF file, or the output folder of a run.
    #[arg(value_name = "BASE", env = "BITNET_MODEL")]
    base: PathBuf,
    /// The run, a TOML file without a section model.
    #[arg(short = 'f', long, value_name = "FILE.toml", env = "BITNET_CONFIG")]
    config: PathBuf,
    /// What the model becomes.
    #[arg(long, default_value = "1.58", env = "BITNET_TO")]
    to: To,
    /// Insert no sub-norms.
    #[arg(long, env = "BITNET_NO_SUB_NORMS")]
    no_sub_norms: bool,
    #[command(flatten)]
    how: RunArgs,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &FinetuneArgs, ui: &Ui) -> Result<ExitCode> {
    args.how.check(ui)?;
    let path = checkpoint_of(&resolve(&args.base)?)?;
    let options =
        Options { load_mode: args.files.load_mode.into(), i2s_layout: args.files.i2s_layout.format() };
    let base = Checkpoint::open(&path, options)?;
    let inserts =
        args.to == To::Ternary && !args.no_sub_norms && !base.config().sub_norms && !base.config().qk_norm;
    let mut shape = base.config().clone();
    shape.sub_norms |= inserts;
    let changes = [args.quantization(), args.how.changes()].concat();
    let config = RunConfig::read_finetune(&args.config, &changes, &shape, &std::path::absolute(&path)?)?;
    ensure!(
        config.model == ModelConfig::of(&shape),
        "the shape is that of {}; --set cannot change it",
        path.display()
    );
    let config = args.how.overridden(config);
    let device = args.how.device(&config)?;
    if args.how.resumes() {
        return train::finish(args.how.trainer(config, &device, None, ui)?, &args.how, ui);
    }
    let quantization = config.quantization(0);
    let weights = Owner::enter("weights");
    let decoder = if inserts {
        ui.note("sub-norms of ones are inserted before the output and down projections");
        base.latent_with_sub_norms(quantization, &device)?
    } else {
        base.latent(quantization, &device)?
    };
    drop(weights);
    train::finish(args.how.trainer(config, &device, Some(decoder), ui)?, &args.how, ui)
}

impl FinetuneArgs {
    /// What `--to` says, as keys of the configuration.
    fn quantization(&self) -> Vec<(String, String)> {
        let (weights, activations) = match self.to {
            To::Ternary => ("tensor", "int8"),
            To::Full => ("off", "off"),
        };
        let key = |key: &str, value: &str| (format!("quantization.{key}"), value.to_owned());
        vec![key("weights", weights), key("activations", activations)]
    }
}
