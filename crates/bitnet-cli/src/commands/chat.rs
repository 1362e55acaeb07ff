//! A conversation at the terminal.

use crate::{
    args::{ContextArgs, ModelArgs, SamplingArgs},
    session::{Session, read_text},
    ui::Ui,
};
use anyhow::{Context, Result, bail, ensure};
use bitnet_inference::{FinishReason, Request, SamplingParams, StopRules};
use bitnet_model::template::Message;
use clap::Args;
use rustyline::{DefaultEditor, error::ReadlineError};
use std::{
    io::{BufRead, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

const HELP: &str = "\
/help                 this list
/system TEXT          set the system prompt and begin anew
/set NAME VALUE       change temp, top-k, top-p, min-p, repeat-penalty, seed or predict
/regen                answer the last message again
/save FILE, /load FILE  keep a conversation as JSON, and go on with one
/clear                forget the conversation
/exit                 end (Ctrl-D does too)
A message in \"\"\" quotes, or with \\ at the end of its lines, may have several lines. Ctrl-C ends an answer.";

/// Talk to a model.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bitnet chat -m model.gguf\n  bitnet chat -m model.gguf -sys \"You answer in rhymes.\"\n  \
    echo \"What is the capital of France?\" | bitnet chat -m model.gguf --single-turn"
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
        env = "BITNET_SYSTEM_FILE",
        conflicts_with = "system_prompt"
    )]
    system_prompt_file: Option<PathBuf>,
    /// The first message.
    #[arg(short, long, env = "BITNET_PROMPT")]
    prompt: Option<String>,
    /// End after one answer.
    #[arg(long, visible_alias = "st", env = "BITNET_SINGLE_TURN")]
    single_turn: bool,
    /// Most tokens of an answer; -1 goes on to the end of the context.
    #[arg(short = 'n', long, default_value_t = -1, value_name = "N", env = "BITNET_PREDICT", allow_negative_numbers = true)]
    predict: i64,
    /// Say after each answer how long it took.
    #[arg(long, env = "BITNET_SHOW_TIMINGS")]
    show_timings: bool,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// A conversation and how it goes on.
struct Chat<'a> {
    session: Session,
    messages: Vec<Message>,
    params: SamplingParams,
    predict: i64,
    timings: bool,
    ui: &'a Ui,
}

/// What a line asks for.
enum Next {
    Go,
    End,
}

pub(crate) fn run(args: &ChatArgs, ui: &Ui) -> Result<ExitCode> {
    let params = args.sampling.params()?;
    let options = args.model.options(args.context.ctx_size, args.context.cache_type);
    let session = Session::open(&args.model.model, &options, ui)?;
    if session.tokenizer.chat_template().is_none() {
        bail!(
            "{}: the model has no chat template; use `bitnet run`, or a model that was trained for chat",
            args.model.model.display()
        );
    }
    let system = match &args.system_prompt_file {
        Some(file) => Some(read_text(file)?),
        None => args.system_prompt.clone(),
    };
    let messages = system.map(|text| Message::new("system", text)).into_iter().collect();
    let mut chat = Chat { session, messages, params, predict: args.predict, timings: args.show_timings, ui };
    if let Some(prompt) = &args.prompt {
        chat.say(prompt)?;
    }
    if args.prompt.is_none() || !args.single_turn {
        let mut lines = Lines::new()?;
        while let Some(line) = lines.next_message()? {
            let spoken = !line.starts_with('/');
            match chat.take(&line) {
                Ok(Next::End) => break,
                Ok(Next::Go) if spoken && args.single_turn => break,
                Ok(Next::Go) => {}
                Err(error) if lines.interactive() && !crate::ui::is_closed_pipe(&error) => ui.error(&error),
                Err(error) => return Err(error),
            }
        }
        lines.keep();
    }
    Ok(ExitCode::SUCCESS)
}

impl Chat<'_> {
    fn take(&mut self, line: &str) -> Result<Next> {
        if line.trim().is_empty() {
            return Ok(Next::Go);
        }
        let Some(command) = line.strip_prefix('/') else {
            self.say(line)?;
            return Ok(Next::Go);
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match name {
            "exit" | "quit" | "bye" => return Ok(Next::End),
            "help" | "?" => eprintln!("{HELP}"),
            "clear" => self.messages.retain(|m| m.role == "system"),
            "system" => self.messages = vec![Message::new("system", rest)],
            "set" => self.set(rest)?,
            "regen" => self.regenerate()?,
            "save" => self.save(rest)?,
            "load" => self.load(rest)?,
            _ => bail!("/{name}: no such command; /help lists them"),
        }
        Ok(Next::Go)
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.messages.push(Message::new("user", text));
        let answered = self.answer();
        if answered.is_err() {
            self.messages.pop();
        }
        answered
    }

    fn regenerate(&mut self) -> Result<()> {
        if self.messages.last().is_some_and(|m| m.role == "assistant") {
            self.messages.pop();
        }
        ensure!(self.messages.last().is_some_and(|m| m.role == "user"), "nothing to answer yet");
        self.params.seed = self.params.seed.wrapping_add(1);
        self.answer()
    }

    fn answer(&mut self) -> Result<()> {
        let tokenizer = &self.session.tokenizer;
        let request = Request {
            tokens: tokenizer.encode_chat(&self.messages, true)?,
            params: self.params.clone(),
            stop: StopRules { eos: tokenizer.eos().to_vec(), ..StopRules::default() },
            max_tokens: usize::try_from(self.predict).ok(),
            ..Request::default()
        };
        let generation = self.session.stream(request, false)?;
        outln!()?;
        if generation.reason == FinishReason::Length && self.predict < 0 {
            self.ui.note("the context is full; /clear begins anew");
        }
        if self.timings {
            self.ui.figures(self.session.timings(&generation));
        }
        self.messages.push(Message::new("assistant", generation.text.trim()));
        Ok(())
    }

    fn set(&mut self, rest: &str) -> Result<()> {
        let (name, value) = rest.split_once(char::is_whitespace).context("expected /set NAME VALUE")?;
        let number = || value.trim().parse::<f32>().with_context(|| format!("{value}: expected a number"));
        let whole =
            || value.trim().parse::<i64>().with_context(|| format!("{value}: expected a whole number"));
        let mut params = self.params.clone();
        match name.trim_start_matches('-') {
            "temp" => params.temperature = number()?,
            "top-p" => params.top_p = number()?,
            "min-p" => params.min_p = number()?,
            "repeat-penalty" => params.repeat_penalty = number()?,
            "top-k" => params.top_k = usize::try_from(whole()?).context("expected 0 or more")?,
            "seed" => params.seed = u64::try_from(whole()?).context("expected 0 or more")?,
            "predict" => self.predict = whole()?,
            other => bail!("{other}: expected temp, top-k, top-p, min-p, repeat-penalty, seed or predict"),
        }
        params.validate()?;
        self.params = params;
        Ok(())
    }

    fn save(&self, path: &str) -> Result<()> {
        ensure!(!path.is_empty(), "expected /save FILE");
        let text = serde_json::to_string_pretty(&self.messages)?;
        bitnet_model::weights::atomic::atomic_write(path, |file| file.write(text.as_bytes()))?;
        Ok(())
    }

    fn load(&mut self, path: &str) -> Result<()> {
        ensure!(!path.is_empty(), "expected /load FILE");
        let text = read_text(Path::new(path))?;
        let wrong = || format!("{path}: expected a list of messages with role and content, as /save writes");
        self.messages = serde_json::from_str(&text).with_context(wrong)?;
        Ok(())
    }
}

/// Where messages come from: a terminal with history, or a pipe.
enum Lines {
    Terminal(Box<DefaultEditor>, Option<PathBuf>),
    Pipe,
}

impl Lines {
    fn new() -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let mut editor = DefaultEditor::new()?;
        let history = state_dir().map(|dir| dir.join("chat_history"));
        if let Some(path) = &history {
            // There is none before the first conversation.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal(Box::new(editor), history))
    }

    fn interactive(&self) -> bool {
        matches!(self, Self::Terminal(..))
    }

    /// The next message, its lines joined.
    fn next_message(&mut self) -> Result<Option<String>> {
        let Some(mut text) = self.line("> ")? else { return Ok(None) };
        if let Some(rest) = text.strip_prefix("\"\"\"") {
            let mut quoted = rest.to_owned();
            while !quoted.ends_with("\"\"\"") {
                let Some(line) = self.line(". ")? else { break };
                quoted = format!("{quoted}\n{line}");
            }
            return Ok(Some(quoted.trim_end_matches("\"\"\"").trim_matches('\n').to_owned()));
        }
        while let Some(open) = text.strip_suffix('\\') {
            let Some(line) = self.line(". ")? else { break };
            text = format!("{open}\n{line}");
        }
        Ok(Some(text))
    }

    fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        match self {
            Self::Terminal(editor, _) => match editor.readline(prompt) {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Pipe => {
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line).context("stdin")?;
                Ok((read > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
            }
        }
    }

    /// Writes the history down.
    fn keep(&mut self) {
        if let Self::Terminal(editor, Some(path)) = self {
            let folder = path.parent().map(std::fs::create_dir_all);
            if folder.is_some_and(|made| made.is_ok())
                && let Err(error) = editor.save_history(path)
            {
                tracing::warn!("the history cannot be kept: {error}");
            }
        }
    }
}

fn state_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || Some(set("HOME").or_else(|| set("USERPROFILE"))?.join(".local/state"));
    Some(set("XDG_STATE_HOME").or_else(home)?.join("bitnet"))
}
