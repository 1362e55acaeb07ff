//! From the arguments of the program to a command, or to an error that says what to type instead.

use crate::{Cli, command_line, llama, twins};
use clap::{
    ColorChoice, Error, FromArgMatches,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::ffi::OsString;

/// Reads the arguments of the program, its name first.
pub(crate) fn read(typed: &[OsString]) -> Result<Cli, Error> {
    let mut args = llama::spelled_out(typed);
    if let Some((k, v)) = llama::different_cache_types(&args) {
        let message = format!(
            "--cache-type-k {k} and --cache-type-v {v}: keys and values are stored alike, both have to agree"
        );
        return Err(command_line().error(ErrorKind::ArgumentConflict, message));
    }
    let cli = parse(&args, typed)?;
    if cli.command.is_some() {
        return Ok(cli);
    }
    args.insert(1, "demo".into());
    parse(&args, typed)
}

fn parse(args: &[OsString], typed: &[OsString]) -> Result<Cli, Error> {
    let given = twins::Given::read(command_line(), args);
    let mut command = twins::prepared(command_line(), &given).color(color(args));
    let explained = |error: Error| explain(error, &given, typed);
    let mut matches = command.try_get_matches_from_mut(args).map_err(explained)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// When help and errors of the command line have colors.
fn color(args: &[OsString]) -> ColorChoice {
    match last_value(args, "--color").or_else(twins::color).as_deref() {
        Some("on") => ColorChoice::Always,
        Some("off") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// The last value given to a long flag, before anything else is known of the command line.
pub(crate) fn last_value(args: &[OsString], flag: &str) -> Option<String> {
    let text = |arg: &OsString| arg.to_str().map(str::to_owned);
    let value = |(i, arg): (usize, &OsString)| match text(arg)?.strip_prefix(flag)? {
        "" => text(args.get(i + 1)?),
        rest => rest.strip_prefix('=').map(str::to_owned),
    };
    args.iter().take_while(|arg| *arg != "--").enumerate().filter_map(value).last()
}

/// An error with what to type instead.
fn explain(mut error: Error, given: &twins::Given, typed: &[OsString]) -> Error {
    let invalid = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => vec![name.clone()],
        Some(ContextValue::Strings(names)) => names.clone(),
        _ => Vec::new(),
    };
    let tips = tips(error.kind(), &invalid, given, typed);
    if !tips.is_empty() {
        let tips = tips.into_iter().map(StyledStr::from).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    if let Some(short) = invalid.first().and_then(|long| llama::short(long, typed)) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(short.to_owned()));
    }
    error
}

fn tips(kind: ErrorKind, invalid: &[String], given: &twins::Given, typed: &[OsString]) -> Vec<String> {
    let first = invalid.first().map_or("", String::as_str);
    let name = first.trim_start_matches('-').split(' ').next().unwrap_or_default();
    match kind {
        ErrorKind::UnknownArgument => match llama::advice(name) {
            Some(advice) => vec![advice.to_owned()],
            None if given.command.is_none() => option_of_a_command(first, typed),
            None => Vec::new(),
        },
        ErrorKind::MissingRequiredArgument if invalid.iter().any(|name| name.starts_with("--model")) => vec![
            "a GGUF file, a folder, or a repository that was pulled: -m model.gguf".to_owned(),
            "without a model of your own, try `bitnet demo`".to_owned(),
        ],
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let variable = twins::source(&command_line(), given, name);
            variable.map(|name| format!("the value is that of the variable {name}")).into_iter().collect()
        }
        ErrorKind::InvalidSubcommand => {
            vec!["to let the embedded model go on with a text: bitnet demo \"TEXT\"".to_owned()]
        }
        _ => Vec::new(),
    }
}

/// Options stand behind a command: the whole line with the command that has this one.
fn option_of_a_command(option: &str, typed: &[OsString]) -> Vec<String> {
    let command = command_line();
    let has = |name: &&str| {
        let sub = command.find_subcommand(name);
        sub.into_iter().flat_map(clap::Command::get_arguments).any(|arg| {
            let long = arg.get_long_and_visible_aliases().unwrap_or_default();
            let short = arg.get_short_and_visible_aliases().unwrap_or_default();
            long.iter().any(|long| option == format!("--{long}"))
                || short.iter().any(|short| option == format!("-{short}"))
        })
    };
    let quoted = |arg: &OsString| match arg.to_string_lossy() {
        text if text.contains(char::is_whitespace) => format!("{text:?}"),
        text => text.into_owned(),
    };
    let rest = typed.iter().skip(1).map(quoted).collect::<Vec<_>>().join(" ");
    let line = |name: &str| format!("options stand behind a command: bitnet {name} {rest}");
    ["demo", "run"].iter().find(|name| has(name)).map(|name| line(name)).into_iter().collect()
}
