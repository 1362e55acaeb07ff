//! What people see beside the text: progress bars, notes, errors; all on stderr.

use anyhow::Error;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

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

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Say more; twice for even more.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, env = "BITNET_VERBOSE")]
    verbose: u8,
    /// Colors on stderr.
    #[arg(long, global = true, default_value = "auto", env = "BITNET_COLOR")]
    color: Color,
}

/// Where messages go and how they look.
pub(crate) struct Ui {
    color: bool,
    terminal: bool,
}

impl Ui {
    pub(crate) fn new(options: &Options) -> Self {
        let terminal = io::stderr().is_terminal();
        let wanted = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let color = match options.color {
            Color::Auto => wanted,
            Color::On => true,
            Color::Off => false,
        };
        let level =
            [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG][usize::from(options.verbose.min(2))];
        let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
        let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(color).with_env_filter(filter);
        // Fails only where a logger is there already.
        let _ = log.without_time().try_init();
        Self { color, terminal }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Something that the user should know but need not act on.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        eprintln!("{} {}", self.paint("36", "note:"), text.as_ref());
    }

    /// A line of figures.
    pub(crate) fn figures(&self, text: impl AsRef<str>) {
        eprintln!("{}", self.paint("2", text.as_ref()));
    }

    /// An error with its causes, each said once.
    pub(crate) fn error(&self, error: &Error) {
        let mut message = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !message.contains(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        eprintln!("{} {message}", self.paint("31;1", "error:"));
    }

    /// A bar over bytes or things; invisible where stderr is no terminal.
    pub(crate) fn progress(&self, what: &'static str, len: u64, bytes: bool) -> ProgressBar {
        let bar = ProgressBar::new(len);
        bar.set_draw_target(if self.terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let template = if bytes {
            "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        } else {
            "{msg} {wide_bar} {pos}/{len} {eta}"
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        bar.set_style(style);
        bar.set_message(what);
        bar
    }
}

/// Whether an error only says that nobody reads stdout any more.
pub(crate) fn is_closed_pipe(error: &Error) -> bool {
    let broken = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}
