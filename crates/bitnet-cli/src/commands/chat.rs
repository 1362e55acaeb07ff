//! A conversation at the terminal.

mod conversation;
mod lines;
mod settings;

use crate::{
    args::{ContextArgs, ModelArgs, SamplingArgs, StopArgs},
    interrupt,
    session::{Session, read_text},
    twins,
    ui::{self, Ui},
    values,
};
use anyhow::{Context, Result};
use bitnet_model::{Tokenizer, template::Message};
use clap::Args;
use conversation::{Chat, Next};
use lines::{Entry, Lines};
use serde_json::Value;
use std::{path::PathBuf, process::ExitCode};

/// Talk to a model.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bitnet chat -m model.gguf\n  bitnet chat -m model.gguf -sys \"You answer in rhymes.\"\n  \
    echo \"What is the capital of France?\" | bitnet chat -m model.gguf -st\n\n\
    -sys, -sysf and -st are short for --system-prompt, --system-prompt-file and --single-turn."
)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is told before the conversation.
    #[arg(long, visible_alias = "sys", env = "BITNET_SYSTEM_PROMPT")]
    system_prompt: Option<String>,
    /// File with what the model is told before the conversation.
    #[arg(
        long,
        visible_alias = "sysf",
        value_name = "FILE",
        env = "BITNET_SYSTEM_PROMPT_FILE",
        conflicts_with = "system_prompt"
    )]
    system_prompt_file: Option<PathBuf>,
    /// The first message.
    #[arg(short, long, env = "BITNET_PROMPT", conflicts_with = "file")]
    prompt: Option<String>,
    /// File with the first message; - for stdin.
    #[arg(short, long, value_name = "FILE", env = "BITNET_FILE")]
    file: Option<PathBuf>,
    /// End after one answer.
    #[arg(long, visible_alias = "st", env = "BITNET_SINGLE_TURN")]
    single_turn: bool,
    /// Jinja template of the conversation, instead of the model's own.
    #[arg(long, value_name = "TEXT", env = "BITNET_CHAT_TEMPLATE", value_parser = values::template, conflicts_with = "chat_template_file")]
    chat_template: Option<String>,
    /// File with such a template.
    #[arg(long, value_name = "FILE", env = "BITNET_CHAT_TEMPLATE_FILE")]
    chat_template_file: Option<PathBuf>,
    /// Where lines that were typed are kept [default: bitnet/chat_history in XDG_STATE_HOME].
    #[arg(long, value_name = "FILE", env = "BITNET_HISTORY_FILE")]
    history_file: Option<PathBuf>,
    /// Say after each answer how long it took.
    #[arg(long, env = "BITNET_SHOW_TIMINGS")]
    show_timings: bool,
    #[command(flatten)]
    stop: StopArgs,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub(crate) fn run(args: &ChatArgs, ui: &Ui) -> Result<ExitCode> {
    let first = first(args)?;
    let mut chat = open(args, ui)?;
    if let Some(text) = &first {
        chat.say(text)?;
    }
    if first.is_none() || !args.single_turn {
        converse(&mut chat, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn open<'a>(args: &ChatArgs, ui: &'a Ui) -> Result<Chat<'a>> {
    let text = |given: &Option<String>, file: &Option<PathBuf>| match (given, file) {
        (Some(text), _) => Ok(Some(text.clone())),
        (None, Some(file)) => read_text(file).map(Some),
        (None, None) => Ok(None),
    };
    let system = text(&args.system_prompt, &args.system_prompt_file)?;
    let template = text(&args.chat_template, &args.chat_template_file)?;
    let options = args.context.options(&args.model, ui);
    let session = Session::open(&args.model.model, &options, args.context.engine(), ui)?;
    let framing = match template {
        Some(template) => with_template(&session.tokenizer, template)?,
        None => session.tokenizer.clone(),
    };
    framing.chat_template().with_context(|| {
        let model = args.model.model.display();
        format!("{model}: the model has no chat template; use `bitnet run`, a model that was trained for chat, or --chat-template-file")
    })?;
    Ok(Chat {
        session,
        framing,
        messages: system.map(|text| Message::new("system", text)).into_iter().collect(),
        sampling: args.sampling.clone(),
        stop: args.stop.clone(),
        retries: 0,
        timings: args.show_timings,
        ui,
    })
}

fn first(args: &ChatArgs) -> Result<Option<String>> {
    let text = match (&args.prompt, &args.file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => read_text(file)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(args.stop.unescaped(&text)))
}

/// The same tokenizer with another template.
fn with_template(tokenizer: &Tokenizer, template: String) -> Result<Tokenizer> {
    let (json, config) = tokenizer.to_json();
    let mut config: Value = serde_json::from_str(&config)?;
    config["chat_template"] = template.into();
    Ok(Tokenizer::from_json(&json, Some(&config.to_string()))?)
}

fn converse(chat: &mut Chat<'_>, args: &ChatArgs) -> Result<()> {
    let history = args.history_file.clone().or_else(twins::history_file);
    let mut lines = Lines::new(history)?;
    if lines.interactive() {
        interrupt::conversing();
    }
    while let Some(entry) = lines.next_entry(chat.ui)? {
        let spoken = matches!(entry, Entry::Message(_));
        match chat.take(entry) {
            Ok(Next::End) => break,
            Ok(Next::Answered) if spoken && args.single_turn => break,
            Ok(_) => {}
            Err(error) if lines.interactive() && !ui::is_closed_pipe(&error) => chat.ui.error(&error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
