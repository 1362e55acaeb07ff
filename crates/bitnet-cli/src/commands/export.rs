//! A checkpoint as a model to ship.

use super::{
    convert::{self, ConvertArgs},
    eval::checkpoint_of,
};
use crate::{session::resolve, ui::Ui};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// Freeze a trained checkpoint to any format of `convert`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet export runs/shakespeare shakespeare.gguf --to i2_s\n  \
    bitnet export runs/shakespeare/checkpoint-00002000 small.gguf --to i2_s --embedding q8_0")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    convert: ConvertArgs,
}

pub(crate) fn run(args: &ExportArgs, ui: &Ui) -> Result<ExitCode> {
    let mut convert = args.convert.clone();
    convert.input = checkpoint_of(&resolve(&args.convert.input)?)?;
    convert::run(&convert, ui)
}
