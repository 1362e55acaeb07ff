//! Where messages come from: a terminal with history, or a pipe.

use crate::ui::Ui;
use anyhow::{Context as _, Result};
use rustyline::{
    Behavior, Config, Context, Editor, Helper, completion::Completer, error::ReadlineError,
    highlight::Highlighter, hint::Hinter, history::FileHistory, validate::Validator,
};
use std::{
    cell::Cell,
    io::{BufRead, IsTerminal},
    path::PathBuf,
};

const QUOTES: &str = "\"\"\"";

/// What was typed: a command without its slash, or a message.
pub(super) enum Entry {
    Command(String),
    Message(String),
}

pub(super) enum Lines {
    Terminal(Box<Terminal>),
    Pipe,
}

/// An editor of lines. It never writes to stdout where that is not the terminal.
pub(super) struct Terminal {
    editor: Editor<Typed, FileHistory>,
    history: Option<PathBuf>,
}

/// What came of asking for a line.
enum Line {
    Text(String),
    /// Ctrl-C, and whether it took something back.
    Interrupted {
        typed: bool,
    },
    End,
}

impl Lines {
    pub(super) fn new(history: Option<PathBuf>) -> Result<Self> {
        if std::io::stdin().is_terminal() {
            Ok(Self::Terminal(Box::new(Terminal::new(history)?)))
        } else {
            Ok(Self::Pipe)
        }
    }

    pub(super) fn interactive(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next command, or the next message with its lines joined.
    pub(super) fn next_entry(&mut self, ui: &Ui) -> Result<Option<Entry>> {
        let mut warned = false;
        loop {
            match self.line("> ")? {
                Line::Text(text) => {
                    warned = false;
                    if let Some(entry) = self.entry(text)? {
                        return Ok(Some(entry));
                    }
                }
                Line::Interrupted { typed: true } => warned = false,
                Line::Interrupted { typed: false } if !warned => {
                    ui.note("Ctrl-C once more, Ctrl-D or /exit ends the conversation");
                    warned = true;
                }
                Line::Interrupted { .. } | Line::End => return Ok(None),
            }
        }
    }

    /// What begins with `text`; nothing if it was taken back.
    fn entry(&mut self, text: String) -> Result<Option<Entry>> {
        if let Some(rest) = text.strip_prefix(QUOTES) {
            return Ok(self.quoted(rest.to_owned())?.map(Entry::Message));
        }
        match text.strip_prefix('/') {
            Some(command) if !command.starts_with('/') => Ok(Some(Entry::Command(command.to_owned()))),
            Some(message) => Ok(self.continued(message.to_owned())?.map(Entry::Message)),
            None => Ok(self.continued(text)?.map(Entry::Message)),
        }
    }

    fn quoted(&mut self, mut text: String) -> Result<Option<String>> {
        while !text.ends_with(QUOTES) {
            match self.line(". ")? {
                Line::Text(line) => text = format!("{text}\n{line}"),
                Line::Interrupted { .. } => return Ok(None),
                Line::End => break,
            }
        }
        let text = text.strip_suffix(QUOTES).unwrap_or(&text);
        Ok(Some(text.trim_matches('\n').to_owned()))
    }

    fn continued(&mut self, mut text: String) -> Result<Option<String>> {
        while let Some(open) = text.strip_suffix('\\') {
            match self.line(". ")? {
                Line::Text(line) => text = format!("{open}\n{line}"),
                Line::Interrupted { .. } => return Ok(None),
                Line::End => break,
            }
        }
        Ok(Some(text))
    }

    fn line(&mut self, prompt: &str) -> Result<Line> {
        if let Self::Terminal(terminal) = self {
            return terminal.line(prompt);
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).context("stdin")?;
        if read == 0 {
            return Ok(Line::End);
        }
        Ok(Line::Text(line.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

impl Terminal {
    fn new(history: Option<PathBuf>) -> Result<Self> {
        let to_stdout = std::io::stdout().is_terminal();
        let behavior = if to_stdout { Behavior::Stdio } else { Behavior::PreferTerm };
        let mut editor = Editor::with_config(Config::builder().behavior(behavior).build())?;
        editor.set_helper(Some(Typed::default()));
        if let Some(path) = &history {
            // There is none before the first conversation.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    fn line(&mut self, prompt: &str) -> Result<Line> {
        self.set_typed(false);
        match self.editor.readline(prompt) {
            Ok(line) => {
                self.keep(&line);
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted { typed: self.typed() }),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a line down at once: the program may end by a signal.
    fn keep(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line);
        let Some(path) = self.history.as_deref().filter(|_| matches!(added, Ok(true))) else { return };
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let kept = folder.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(path));
        if let Err(error) = kept {
            tracing::warn!("{}: the history cannot be kept: {error}", path.display());
            self.history = None;
        }
    }

    fn typed(&self) -> bool {
        self.editor.helper().is_some_and(|helper| helper.0.get())
    }

    fn set_typed(&self, typed: bool) {
        if let Some(helper) = self.editor.helper() {
            helper.0.set(typed);
        }
    }
}

/// Remembers whether the line has text; the editor does not tell when it is interrupted.
#[derive(Default)]
struct Typed(Cell<bool>);

impl Hinter for Typed {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.set(!line.is_empty());
        None
    }
}

impl Completer for Typed {
    type Candidate = String;
}

impl Highlighter for Typed {}
impl Validator for Typed {}
impl Helper for Typed {}
