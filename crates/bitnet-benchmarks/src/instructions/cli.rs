//! The command line of `instructions`.

use super::callgrind::{self, Error};
use super::cases;
use super::expected::Counts;
use crate::file;
use bitnet_core::cpu::kernels::Kernels;
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The flag with which the program runs under valgrind.
const CHILD: &str = "--run-cases";

/// Counts the instructions of the hot kernels and compares them to what is expected.
#[derive(Debug, Parser)]
#[command(
    name = "instructions",
    version,
    after_help = "Exit status: 0 where no kernel executes more instructions than expected or nothing can be counted, 1 where one does, \
        2 on errors."
)]
struct Cli {
    /// Store the counts as those that are expected.
    #[arg(long)]
    update: bool,
    /// The file of what is expected.
    #[arg(long, value_name = "FILE", default_value_os_t = file("crates/bitnet-benchmarks/instructions.json"))]
    expected: PathBuf,
    #[arg(long = "run-cases", hide = true)]
    child: bool,
}

/// Reads the command line, does what it says, and returns the exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.child {
        cases::run(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        return refuse("counts are of optimized code; run it with --release");
    }
    let counts = match count() {
        Ok(counts) => counts,
        Err(Error::Absent(reason)) => {
            eprintln!("instructions: not measured: {}", Error::Absent(reason));
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(error),
    };
    say_what_is_missing(&counts);
    if cli.update {
        return counts.write(&cli.expected).map_or_else(refuse, |()| ExitCode::SUCCESS);
    }
    match Counts::read(&cli.expected) {
        Ok(expected) if expected.architecture != counts.architecture => {
            let (here, there) = (&counts.architecture, &expected.architecture);
            eprintln!("instructions: not compared: this is {here}, expected counts are of {there}");
            ExitCode::SUCCESS
        }
        Ok(expected) => compare(&counts, &expected, &cli.expected),
        Err(error) => refuse(error),
    }
}

fn refuse(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("instructions: {error}");
    ExitCode::from(2)
}

fn count() -> Result<Counts, Error> {
    let failed = |error: std::io::Error| Error::Failed(error.to_string());
    let program = std::env::current_exe().map_err(failed)?;
    let folder = tempfile::tempdir().map_err(failed)?;
    let counts = callgrind::counts(&program, CHILD, folder.path())?;
    let (architecture, rustc) = (std::env::consts::ARCH.to_owned(), env!("BITNET_RUSTC").to_owned());
    Ok(Counts { architecture, rustc, counts })
}

fn say_what_is_missing(counts: &Counts) {
    let absent = |tier: &&&str| !counts.counts.keys().any(|name| name.starts_with(&format!("{tier}/")));
    for tier in cases::TIERS.iter().filter(absent) {
        eprintln!("instructions: {tier}: not measured: this processor, or valgrind, lacks it");
    }
    for tier in Kernels::available().map(|tier| tier.name).filter(|tier| !cases::TIERS.contains(tier)) {
        eprintln!("instructions: {tier}: not measured: valgrind does not know its instructions");
    }
}

fn compare(counts: &Counts, expected: &Counts, path: &Path) -> ExitCode {
    let differences = counts.differences(expected);
    for (name, difference) in &differences {
        println!("{name}: {}", difference.text());
    }
    let failed = differences.values().filter(|difference| difference.fails()).count();
    eprintln!("instructions: {} kernels counted, {failed} fail", counts.counts.len());
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    if counts.rustc != expected.rustc {
        eprintln!("instructions: this is {}, expected counts are of {}", counts.rustc, expected.rustc);
    }
    eprintln!("instructions: where that is meant, `--update` writes {}", path.display());
    ExitCode::FAILURE
}
