//! Completions for shells.

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;
use std::process::ExitCode;

/// Write completions for a shell to stdout.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  bitnet completions bash > ~/.local/share/bash-completion/completions/bitnet"
)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command_line(), "bitnet", &mut script);
    crate::ui::out(format_args!("{}", String::from_utf8_lossy(&script)))?;
    Ok(ExitCode::SUCCESS)
}
