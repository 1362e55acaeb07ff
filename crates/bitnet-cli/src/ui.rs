//! What people see beside the text: progress bars, notes, errors; all on stderr.

use crate::values;
use anyhow::{Context, Error, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Work that is done sooner shows no bar.
const SHORT: Duration = Duration::from_millis(300);

/// When to use colors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What is said beside the text.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct Options {
    /// Say what is done and how long it takes; twice for even more.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, env = "BITNET_VERBOSE", value_parser = values::verbosity)]
    verbose: u8,
    /// What to log, such as bitnet=debug.
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG", value_parser = filter)]
    log_filter: Option<String>,
    /// Log to this file instead of stderr.
    #[arg(long, global = true, value_name = "FILE", env = "BITNET_LOG_FILE")]
    log_file: Option<PathBuf>,
    /// Colors on stderr.
    #[arg(long, global = true, default_value = "auto", env = "BITNET_COLOR")]
    color: Color,
    /// No colors, whatever the value.
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "1", env = "NO_COLOR")]
    no_color: Option<String>,
}

impl Options {
    fn color(&self, terminal: bool) -> bool {
        match self.color {
            Color::Auto => terminal && self.no_color.is_none(),
            Color::On => true,
            Color::Off => false,
        }
    }

    fn level(&self) -> LevelFilter {
        let least = u8::from(self.log_file.is_some());
        [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG]
            [usize::from(self.verbose.max(least).min(2))]
    }
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

/// Where messages go and how they look.
pub(crate) struct Ui {
    color: bool,
    terminal: bool,
    started: Instant,
}

impl Ui {
    /// Begins to log, in a program that started at `started`.
    pub(crate) fn new(options: &Options, started: Instant) -> Result<Self> {
        let terminal = io::stderr().is_terminal();
        let color = options.color(terminal);
        let filter = EnvFilter::builder()
            .with_default_directive(options.level().into())
            .parse_lossy(options.log_filter.as_deref().unwrap_or_default());
        // A line that cannot be written is lost; the program goes on.
        let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
        // Initialising fails only where a logger is there already.
        if let Some(path) = &options.log_file {
            let file = File::create(path).with_context(|| format!("--log-file {}", path.display()))?;
            let _ = log.with_ansi(false).with_writer(Mutex::new(file)).try_init();
        } else {
            let _ = log.with_ansi(color).without_time().with_writer(io::stderr).try_init();
        }
        Ok(Self { color, terminal, started })
    }

    /// Messages without colors and bars.
    pub(crate) fn plain() -> Self {
        Self { color: false, terminal: false, started: Instant::now() }
    }

    /// Time since the program started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether stderr is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether stderr has colors.
    pub(crate) fn has_color(&self) -> bool {
        self.color
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A line on stderr; where that cannot be written, nobody reads it.
    pub(crate) fn line(&self, text: &str) {
        let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
    }

    /// Something that the user should know but need not act on.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        self.line(&format!("{} {}", self.paint("36", "note:"), printable(text.as_ref())));
    }

    /// A line of figures.
    pub(crate) fn figures(&self, text: impl AsRef<str>) {
        self.line(&self.paint("2", text.as_ref()));
    }

    /// An error with its causes, each said once.
    pub(crate) fn error(&self, error: &Error) {
        let mut message = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if cause.starts_with(&message) {
                message = cause;
            } else if !message.contains(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        self.line(&format!("{} {}", self.paint("31;1", "error:"), printable(&message)));
    }

    /// A bar over bytes or things; invisible where stderr is no terminal or the work is short.
    pub(crate) fn progress(&self, what: &'static str, len: u64, bytes: bool) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::hidden());
        let template = if bytes {
            "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        } else {
            "{msg} {wide_bar} {pos}/{len} {eta}"
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        bar.set_style(style);
        bar.set_message(what);
        if self.terminal {
            let late = bar.clone();
            thread::spawn(move || {
                thread::sleep(SHORT);
                if !late.is_finished() {
                    late.set_draw_target(ProgressDrawTarget::stderr());
                }
            });
        }
        bar
    }
}

/// Longest message that is shown whole: one can quote a file.
const SHOWN: usize = 4000;

/// Text as a terminal may show it: what a file holds must neither move the cursor nor fill the screen.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(SHOWN));
    for (i, c) in text.chars().enumerate() {
        if i == SHOWN {
            shown.push('…');
            break;
        }
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// Writes to stdout, at once.
pub(crate) fn out(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.flush());
    written.map_err(|error| io::Error::new(error.kind(), format!("stdout: {error}")))
}

/// Whether an error only says that nobody reads stdout any more.
pub(crate) fn is_closed_pipe(error: &Error) -> bool {
    let broken = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_does_not_reach_the_terminal_as_commands() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}c\r\n\td é"), "a\\u{1b}[2Jb\\u{9b}c\\r\n\td é");
        assert_eq!(printable(&"x".repeat(5 * SHOWN)).chars().count(), SHOWN + 1);
    }
}
