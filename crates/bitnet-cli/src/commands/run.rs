//! Continues a text.

use crate::{
    args::{ContextArgs, ModelArgs, SamplingArgs, StopArgs},
    interrupt,
    memory_report::MemoryArgs,
    session::{Session, read_text},
    ui::{self, Ui},
    values,
};
use anyhow::{Result, bail};
use bitnet_inference::{
    Event, FinishReason, Generation, Request, Stats, TextStream, TokenLogprob, local::LoadOptions,
    request::MAX_LOGPROBS,
};
use bitnet_model::Tokenizer;
use clap::Args;
use serde_json::{Value, json};
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Continue a text.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet run -m model.gguf -p \"Once upon a time\" -n 100\n  \
    bitnet run -m model.gguf --temp 0 < prompt.txt > answer.txt\n  \
    bitnet run -m model.gguf -p \"2+2=\" -n 1 --log-probs 5\n  \
    bitnet run -m model.gguf -f letter.txt --lookup 8 --show-timings\n  \
    bitnet run -m model.gguf -p \"Once upon a time\" --head q6_k --decode-copy -t 2 -tb 4")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue; stdin where neither this nor a file is given.
    #[arg(short, long, env = "BITNET_PROMPT", conflicts_with = "file")]
    prompt: Option<String>,
    /// File with the text to continue; - for stdin.
    #[arg(short, long, value_name = "FILE", env = "BITNET_FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    stop: StopArgs,
    /// Read names of control tokens in the prompt, such as <|eot_id|>, as those tokens.
    #[arg(long, env = "BITNET_SPECIAL")]
    special: bool,
    /// Write JSON lines with log-probabilities of the tokens and this many alternatives, instead of text.
    #[arg(long, value_name = "N", env = "BITNET_LOG_PROBS", value_parser = values::up_to(MAX_LOGPROBS))]
    log_probs: Option<usize>,
    /// Write the prompt before its continuation; with log-probabilities, their lines for the prompt too.
    #[arg(long, env = "BITNET_ECHO")]
    echo: bool,
    /// Say how long everything took, from the start to the first token too, and how much memory it used.
    #[arg(long, env = "BITNET_SHOW_TIMINGS")]
    show_timings: bool,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub(crate) fn run(args: &RunArgs, ui: &Ui) -> Result<ExitCode> {
    let prompt = prompt(args)?;
    let options = LoadOptions { tracking: args.memory.tracking(), ..args.context.options(&args.model, ui) };
    let mut session = Session::open(&args.model.model, &options, args.context.engine(), ui)?;
    let pool = session.engine.model().device().pool().clone();
    args.memory.begin(&pool);
    let request = request(args, &session.tokenizer, &prompt, ui)?;
    let opened = ui.elapsed();
    let generation = if args.log_probs.is_some() {
        scored(&mut session, request)?
    } else {
        if args.echo {
            ui::out(format_args!("{prompt}"))?;
        }
        let generation = session.stream(request, args.special)?;
        outln!()?;
        generation
    };
    session.explain_end(&generation, args.stop.limit(), ui);
    if args.show_timings {
        let first = (opened + generation.prefill).as_secs_f64() * 1e3;
        ui.figures(format!("first token after {first:.0} ms · {}", session.timings(&generation)));
        ui.figures(session.memory());
    }
    args.memory.write(&pool, ui)?;
    Ok(ExitCode::SUCCESS)
}

fn request(args: &RunArgs, tokenizer: &Tokenizer, prompt: &str, ui: &Ui) -> Result<Request> {
    let mut tokens = if args.special {
        tokenizer.encode_with_control(prompt, true)
    } else {
        tokenizer.encode(prompt, true)
    }?;
    // A rendered chat names the first token itself.
    if args.special && tokens.len() > 1 && tokenizer.bos() == Some(tokens[1]) && tokens[0] == tokens[1] {
        tokens.remove(0);
    }
    if !args.special
        && let Some(name) = control_token(tokenizer, prompt)?
    {
        ui.note(format!(
            "{name} in the prompt is read as plain text; --special reads it as the control token"
        ));
    }
    Ok(Request {
        tokens,
        params: args.sampling.params(),
        stop: args.stop.rules(tokenizer.eos()),
        max_tokens: args.stop.limit(),
        logprobs: args.log_probs,
        prompt_logprobs: args.log_probs.filter(|_| args.echo),
    })
}

/// The first name of a control token in a text.
fn control_token(tokenizer: &Tokenizer, text: &str) -> Result<Option<String>> {
    let tokens = tokenizer.encode_with_control(text, false)?;
    let control = tokens.into_iter().find(|&token| tokenizer.is_special(token));
    Ok(control.and_then(|token| tokenizer.token(token)))
}

fn prompt(args: &RunArgs) -> Result<String> {
    let text = match (&args.prompt, &args.file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => read_text(file)?,
        (None, None) if std::io::stdin().is_terminal() => {
            bail!("nothing to continue: give a prompt with -p, a file with -f, or text on stdin")
        }
        (None, None) => read_text(Path::new("-"))?,
    };
    Ok(args.stop.unescaped(&text))
}

/// Writes a JSON line for every token, as soon as it is there.
fn scored(session: &mut Session, request: Request) -> Result<Generation> {
    let writing = interrupt::writing();
    let mut lines = Lines::new(&session.tokenizer, &request);
    if request.prompt_logprobs.is_some() {
        lines.first(request.tokens[0])?;
    }
    let id = session.engine.submit(request)?;
    let mut reason = None;
    while reason.is_none() {
        for event in session.engine.step()? {
            match event {
                // A stop string in the last token allowed counts as the stop.
                Event::Finished { reason: end, stats, .. } => {
                    reason.get_or_insert(end);
                    lines.stats = stats;
                }
                event if reason.is_none() => reason = lines.take(event)?,
                // Tokens of the same step behind a stop string.
                _ => {}
            }
        }
        if writing.interrupted() {
            reason.get_or_insert(FinishReason::Cancelled);
        }
    }
    if let Some(Event::Finished { stats, .. }) = session.engine.cancel(id) {
        lines.stats = stats;
    }
    Ok(lines.generation(reason.unwrap_or(FinishReason::Cancelled)))
}

/// JSON lines of tokens and what is known of them in the end.
struct Lines {
    tokenizer: Tokenizer,
    stops: TextStream,
    text: String,
    tokens: Vec<u32>,
    stats: Stats,
}

impl Lines {
    fn new(tokenizer: &Tokenizer, request: &Request) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            stops: TextStream::new(&request.stop),
            text: String::new(),
            tokens: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Nothing predicts the first token of a prompt.
    fn first(&self, token: u32) -> Result<()> {
        outln!("{}", json!({ "id": token, "text": self.name(token), "logprob": null, "top": [] }))?;
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<Option<FinishReason>> {
        match event {
            Event::Prompt { score, top, .. } => self.line(&score, &top)?,
            Event::Token { token, logprob, top, .. } => {
                self.tokens.push(token);
                self.line(&TokenLogprob { token, logprob: logprob.unwrap_or_default() }, &top)?;
                let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
                return Ok(self.stops.push(bytes, &mut self.text).map(FinishReason::StopString));
            }
            Event::Failed { error, .. } => return Err(error.into()),
            _ => {}
        }
        Ok(None)
    }

    fn line(&self, score: &TokenLogprob, top: &[TokenLogprob]) -> Result<()> {
        let mut line = self.entry(score);
        line["top"] = top.iter().map(|score| self.entry(score)).collect();
        outln!("{line}")?;
        Ok(())
    }

    fn entry(&self, score: &TokenLogprob) -> Value {
        json!({ "id": score.token, "text": self.name(score.token), "logprob": score.logprob })
    }

    fn name(&self, token: u32) -> String {
        String::from_utf8_lossy(self.tokenizer.token_bytes(token).unwrap_or_default()).into_owned()
    }

    fn generation(self, reason: FinishReason) -> Generation {
        Generation {
            tokens: self.tokens,
            logprobs: Vec::new(),
            prompt_logprobs: Vec::new(),
            text: self.text,
            reason,
            prompt_tokens: self.stats.prompt_tokens,
            cached_tokens: self.stats.cached_tokens,
            drafted_tokens: self.stats.drafted_tokens,
            accepted_tokens: self.stats.accepted_tokens,
            prefill: self.stats.prefill,
            decode: self.stats.decode,
        }
    }
}
