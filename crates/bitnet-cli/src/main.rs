//! The `bitnet` command: runs, converts, inspects and measures ternary language models.
#![forbid(unsafe_code)]

/// Writes a line to stdout; a reader that went away is an error like any other, not a panic.
macro_rules! outln {
    () => { $crate::ui::out(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::ui::out(format_args!("{}\n", format_args!($($arg)*))) };
}

mod args;
mod commands;
mod dashboard;
mod interrupt;
mod llama;
mod markdown;
mod memory_report;
mod npy;
mod session;
mod tuned;
mod twins;
mod ui;
mod usage;
mod values;
mod watch;

use clap::{Arg, CommandFactory, Parser};
use std::{process::ExitCode, time::Instant};

/// Runs, converts, inspects and measures ternary (1.58-bit) language models.
#[derive(Debug, Parser)]
#[command(name = "bitnet", version, max_term_width = 100, args_override_self = true)]
#[command(after_help = "Without a command, an embedded model writes a story (`bitnet demo`).\n\n\
    Examples:\n  bitnet run -m model.gguf -p \"Once upon a time\"\n  bitnet chat -m ./folder-with-config.json\n  \
    bitnet convert in.gguf out.gguf --to tq1_0\n\n\
    Text goes to stdout, everything else to stderr. Every option can also be set by the environment variable in its help: \
    switches by 1, true, yes or on and their opposites, lists by their separator or one value a line. Options win over variables.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<commands::Command>,
    #[command(flatten)]
    ui: ui::Options,
}

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = match usage::read(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let command = cli.command.expect("without a command, the demo is read");
    let ui = match ui::Ui::new(&cli.ui, started) {
        Ok(ui) => ui,
        Err(error) => {
            ui::Ui::plain().error(&error);
            return ExitCode::FAILURE;
        }
    };
    match command.run(&ui) {
        Ok(code) => code,
        Err(error) if ui::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            ui.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The whole command line, in which a negative number after a flag is its value.
pub(crate) fn command_line() -> clap::Command {
    let signed = |arg: Arg| match arg.get_long() {
        Some(_) if arg.get_action().takes_values() => arg.allow_negative_numbers(true),
        _ => arg,
    };
    Cli::command().mut_subcommands(|command| command.mut_args(signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn every_option_has_an_environment_twin() {
        let command = Cli::command();
        for sub in command.get_subcommands() {
            for arg in sub.get_arguments().filter(|a| a.get_long().is_some()) {
                let name = arg.get_long().unwrap();
                let twin = arg.get_env().and_then(|twin| twin.to_str());
                assert!(twin.is_some() || ["help", "version"].contains(&name), "{} --{name}", sub.get_name());
                if let Some(own) = twin.and_then(|twin| twin.strip_prefix("BITNET_")) {
                    let named = name.replace('-', "_").to_uppercase();
                    assert!(
                        own == named || own.starts_with("BENCH_"),
                        "{} --{name}: BITNET_{own}",
                        sub.get_name()
                    );
                }
            }
        }
    }
}
