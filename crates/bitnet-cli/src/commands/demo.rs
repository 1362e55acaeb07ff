//! A story by the model that is part of the program.

use crate::{
    args::{self, Cache, DeviceArgs, FileArgs, I2sLayout, Load},
    session::Session,
    ui::{self, Ui},
    values,
};
use anyhow::Result;
use bitnet_inference::{Request, SamplingParams, StopRules};
use clap::Args;
use std::process::ExitCode;

/// 22 million ternary weights, trained on old books. Made by
/// `bitnet convert books-22m assets/books-22m.gguf --to tq1_0 --embedding q6_k`; see `assets/README.md`.
const MODEL: &[u8] = include_bytes!("../../assets/books-22m.gguf");
const PROMPT: &str = "It was a dark evening in November when the stranger knocked at the door.";
/// Tokens of a story.
const LENGTH: i64 = 160;
/// What keeps a small model to its words, and from repeating itself.
const TEMPERATURE: f32 = 0.6;
const REPEAT_PENALTY: f32 = 1.15;

/// Let the embedded model write a story.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bitnet demo \"The captain looked at the sea\"")]
pub(crate) struct DemoArgs {
    /// How the story begins.
    prompt: Option<String>,
    /// Seed of the random numbers; -1 takes another one each time.
    #[arg(short, long, default_value_t = 7, env = "BITNET_SEED", value_parser = values::whole)]
    seed: i64,
    /// Longest story, in tokens; -1 goes on to the end of the context.
    #[arg(short = 'n', long, alias = "n-predict", default_value_t = LENGTH, value_name = "N", env = "BITNET_PREDICT", value_parser = values::whole)]
    predict: i64,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &DemoArgs, ui: &Ui) -> Result<ExitCode> {
    let files = FileArgs { load_mode: Load::Auto, i2s_layout: I2sLayout::Auto };
    let options = args::options(&args.device, &files, 0, Cache::F16, ui);
    let mut session = Session::embedded(MODEL, &options, ui)?;
    let prompt = args.prompt.as_deref().unwrap_or(PROMPT);
    ui::out(format_args!("{prompt}"))?;
    let request = Request {
        tokens: session.tokenizer.encode(prompt, true)?,
        params: SamplingParams {
            seed: args::seed(args.seed),
            temperature: TEMPERATURE,
            repeat_penalty: REPEAT_PENALTY,
            ..SamplingParams::default()
        },
        stop: StopRules { eos: session.tokenizer.eos().to_vec(), ..StopRules::default() },
        max_tokens: usize::try_from(args.predict).ok(),
        ..Request::default()
    };
    let limit = request.max_tokens;
    let generation = session.stream(request, false)?;
    outln!()?;
    session.explain_end(&generation, limit, ui);
    ui.figures(session.timings(&generation));
    Ok(ExitCode::SUCCESS)
}
