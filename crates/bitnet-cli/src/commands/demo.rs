//! A story by the model that is part of the program.

use crate::{
    args::{self, Cache, DeviceArgs, FileArgs, I2sLayout, Load},
    session::Session,
    ui::Ui,
};
use anyhow::Result;
use bitnet_inference::{Request, SamplingParams, StopRules};
use clap::Args;
use std::{io::Write, process::ExitCode};

/// 22 million ternary weights, trained on old books. Made by
/// `bitnet convert books-22m assets/books-22m.gguf --to tq1_0 --embedding q6_k`; see `assets/README.md`.
const MODEL: &[u8] = include_bytes!("../../assets/books-22m.gguf");
const PROMPT: &str = "It was a dark evening in November when the stranger knocked at the door.";
/// Tokens of a story.
const LENGTH: usize = 160;

/// Let the embedded model write a story.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bitnet demo \"The captain looked at the sea\"")]
pub(crate) struct DemoArgs {
    /// How the story begins.
    prompt: Option<String>,
    /// Seed of the random numbers.
    #[arg(short, long, default_value_t = 7, env = "BITNET_SEED")]
    seed: u64,
    /// Longest story, in tokens.
    #[arg(short = 'n', long, default_value_t = LENGTH, env = "BITNET_PREDICT")]
    predict: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Default for DemoArgs {
    fn default() -> Self {
        let device = DeviceArgs { device: "auto".into(), threads: None };
        Self { prompt: None, seed: 7, predict: LENGTH, device }
    }
}

pub(crate) fn run(args: &DemoArgs, ui: &Ui) -> Result<ExitCode> {
    let files = FileArgs { load_mode: Load::Auto, i2s_layout: I2sLayout::Auto };
    let options = args::options(&args.device, &files, 0, Cache::F16);
    let mut session = Session::embedded(MODEL, &options, ui)?;
    let prompt = args.prompt.as_deref().unwrap_or(PROMPT);
    std::io::stdout().write_all(prompt.as_bytes())?;
    let request = Request {
        tokens: session.tokenizer.encode(prompt, true)?,
        params: SamplingParams { seed: args.seed, ..SamplingParams::default() },
        stop: StopRules { eos: session.tokenizer.eos().to_vec(), ..StopRules::default() },
        max_tokens: Some(args.predict),
        ..Request::default()
    };
    let generation = session.stream(request, false)?;
    outln!()?;
    ui.figures(session.timings(&generation));
    Ok(ExitCode::SUCCESS)
}
