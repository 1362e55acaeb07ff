//! The environment: twins of flags, and folders of the user. Flags win over their twins; an empty variable is none.

use clap::{
    Arg, ArgAction, Command, Id,
    builder::{BoolishValueParser, Resettable},
    parser::ValueSource,
};
use std::{collections::HashSet, env, ffi::OsString, path::PathBuf};

/// What the command line itself says.
#[derive(Default)]
pub(crate) struct Given {
    /// The subcommand.
    pub(crate) command: Option<String>,
    ids: HashSet<Id>,
}

impl Given {
    /// Reads as much as can be understood.
    pub(crate) fn read(command: Command, args: &[OsString]) -> Self {
        let Ok(mut matches) = without_twins(command).ignore_errors(true).try_get_matches_from(args) else {
            return Self::default();
        };
        let Some((name, matches)) = matches.remove_subcommand() else { return Self::default() };
        let given = |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        Self { command: Some(name), ids: matches.ids().filter(given).cloned().collect() }
    }
}

/// The variable that a long flag has its value from.
pub(crate) fn source(command: &Command, given: &Given, long: &str) -> Option<String> {
    let sub = command.find_subcommand(given.command.as_deref()?)?;
    let mut all = sub.get_arguments().chain(command.get_arguments());
    let arg = all.find(|arg| arg.get_long() == Some(long))?;
    let twin = arg.get_env().filter(|_| is_set(arg) && !given.ids.contains(arg.get_id()))?;
    Some(twin.to_string_lossy().into_owned())
}

fn without_twins(command: Command) -> Command {
    command.mut_args(|arg| arg.env(Resettable::Reset)).mut_subcommands(without_twins)
}

/// Prepares the twins for a command line.
pub(crate) fn prepared(command: Command, given: &Given) -> Command {
    let adapt = |command: Command| {
        let all = command.clone();
        command.mut_args(|arg| twin(arg, &all, given))
    };
    adapt(command).mut_subcommands(adapt)
}

fn twin(arg: Arg, command: &Command, given: &Given) -> Arg {
    let arg = match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        ArgAction::Append if is_set(&arg) && !given.ids.contains(arg.get_id()) => {
            let delimiter = arg.get_value_delimiter().unwrap_or('\n');
            arg.value_delimiter(delimiter)
        }
        _ => arg,
    };
    if is_empty(&arg) || gives_way(&arg, command, given) { arg.env(Resettable::Reset) } else { arg }
}

fn is_set(arg: &Arg) -> bool {
    arg.get_env().and_then(env::var_os).is_some_and(|value| !value.is_empty())
}

fn is_empty(arg: &Arg) -> bool {
    arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty())
}

/// Whether something that excludes the twin of `arg` was given, or is set and stands before it.
fn gives_way(arg: &Arg, command: &Command, given: &Given) -> bool {
    let names = |from: &Arg, to: &Arg| {
        command.get_arg_conflicts_with(from).iter().any(|other| other.get_id() == to.get_id())
    };
    let mut before = true;
    command.get_arguments().any(|other| {
        before &= other.get_id() != arg.get_id();
        let wins = given.ids.contains(other.get_id()) || (before && is_set(other));
        wins && (names(arg, other) || names(other, arg))
    })
}

/// A variable that says when clap itself uses colors, before there is a command line to ask.
pub(crate) fn color() -> Option<String> {
    env::var("BITNET_COLOR").ok()
}

/// Where lines that were typed are kept, if not elsewhere.
pub(crate) fn history_file() -> Option<PathBuf> {
    let state = folder("XDG_STATE_HOME").or_else(|| Some(home()?.join(".local/state")));
    Some(state?.join("bitnet/chat_history"))
}

/// Where `bitnet tune` keeps what it found.
pub(crate) fn tune_file() -> Option<PathBuf> {
    let given = folder("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    Some(given.or_else(|| Some(home()?.join(".config")))?.join("bitnet/tune.json"))
}

/// The folder that `~` stands for.
pub(crate) fn home() -> Option<PathBuf> {
    folder("HOME").or_else(|| folder("USERPROFILE"))
}

fn folder(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
