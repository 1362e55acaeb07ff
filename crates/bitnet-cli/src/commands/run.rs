//! Continues a text.

use crate::{
    args::{ContextArgs, ModelArgs, SamplingArgs},
    session::{Session, read_text},
    ui::Ui,
};
use anyhow::{Result, bail};
use bitnet_inference::{Generation, Request, StopRules, TokenLogprob};
use clap::Args;
use serde_json::json;
use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Continue a text.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet run -m model.gguf -p \"Once upon a time\" -n 100\n  \
    bitnet run -m model.gguf --temp 0 < prompt.txt > answer.txt\n  \
    bitnet run -m model.gguf -p \"2+2=\" -n 1 --log-probs 5")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The text to continue; stdin where neither this nor a file is given.
    #[arg(short, long, env = "BITNET_PROMPT", conflicts_with = "file")]
    prompt: Option<String>,
    /// File with the text to continue; - for stdin.
    #[arg(short, long, value_name = "FILE", env = "BITNET_FILE")]
    file: Option<PathBuf>,
    /// Most tokens to write; -1 goes on to the end of the context.
    #[arg(short = 'n', long, default_value_t = -1, value_name = "N", env = "BITNET_PREDICT", allow_negative_numbers = true)]
    predict: i64,
    /// Read \n, \t and \\ in the prompt as the characters that they stand for.
    #[arg(short, long, env = "BITNET_ESCAPE")]
    escape: bool,
    /// Read names of control tokens in the prompt, such as <|eot_id|>, as those tokens.
    #[arg(long, env = "BITNET_SPECIAL")]
    special: bool,
    /// End the text at this string; may be given several times.
    #[arg(short, long, value_name = "STRING", env = "BITNET_REVERSE_PROMPT")]
    reverse_prompt: Vec<String>,
    /// Go on where the model would end the text.
    #[arg(long, env = "BITNET_IGNORE_EOS")]
    ignore_eos: bool,
    /// Write JSON lines with log-probabilities of the tokens and this many alternatives, instead of text.
    #[arg(long, value_name = "N", env = "BITNET_LOG_PROBS")]
    log_probs: Option<usize>,
    /// Write the prompt before its continuation.
    #[arg(long, env = "BITNET_ECHO")]
    echo: bool,
    /// Say how long everything took and how much memory it used.
    #[arg(long, env = "BITNET_SHOW_TIMINGS")]
    show_timings: bool,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub(crate) fn run(args: &RunArgs, ui: &Ui) -> Result<ExitCode> {
    let params = args.sampling.params()?;
    let prompt = prompt(args)?;
    let options = args.model.options(args.context.ctx_size, args.context.cache_type);
    let mut session = Session::open(&args.model.model, &options, ui)?;
    let tokenizer = &session.tokenizer;
    let tokens = if args.special {
        tokenizer.encode_with_control(&prompt, true)
    } else {
        tokenizer.encode(&prompt, true)
    }?;
    let stop = StopRules {
        eos: tokenizer.eos().to_vec(),
        ignore_eos: args.ignore_eos,
        strings: args.reverse_prompt.clone(),
        ..StopRules::default()
    };
    let max_tokens = usize::try_from(args.predict).ok();
    let request =
        Request { tokens, params, stop, max_tokens, logprobs: args.log_probs, ..Request::default() };
    if args.echo {
        std::io::stdout().write_all(prompt.as_bytes())?;
    }
    let generation = if args.log_probs.is_some() {
        scored(&mut session, request)?
    } else {
        session.stream(request, args.special)?
    };
    if args.log_probs.is_none() {
        outln!()?;
    }
    if args.show_timings {
        ui.figures(session.timings(&generation));
        ui.figures(session.memory());
    }
    Ok(ExitCode::SUCCESS)
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
    Ok(if args.escape { unescape(&text) } else { text })
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.clone().next() } else { None };
        let plain = match next {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(c @ ('\\' | '\'' | '"')) => c,
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push(plain);
        chars.next();
    }
    out
}

/// Writes a JSON line for every token.
fn scored(session: &mut Session, request: Request) -> Result<Generation> {
    let tokenizer = session.tokenizer.clone();
    let bytes = |id: u32| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
    let interrupt = crate::session::interrupt();
    let generation = bitnet_inference::generate(&mut session.engine, request, bytes, |_| {
        if interrupt.load(std::sync::atomic::Ordering::SeqCst) {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    })?;
    let mut out = std::io::stdout().lock();
    let entry = |score: &TokenLogprob| {
        let text =
            String::from_utf8_lossy(tokenizer.token_bytes(score.token).unwrap_or_default()).into_owned();
        json!({ "id": score.token, "text": text, "logprob": score.logprob })
    };
    for (score, top) in &generation.logprobs {
        let mut line = entry(score);
        line["top"] = top.iter().map(entry).collect();
        writeln!(out, "{line}")?;
    }
    Ok(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_the_characters_that_they_stand_for() {
        assert_eq!(unescape(r"a\nb\\n\x\"), "a\nb\\n\\x\\");
    }
}
