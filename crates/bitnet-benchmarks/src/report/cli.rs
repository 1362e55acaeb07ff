//! The command line of `report`. Data goes to the standard output, everything else to the standard error stream.

use super::compare::{Comparison, Verdict};
use super::suite::{self, Selection};
use super::{Error, Receipt, Result, criterion, html, receipt};
use clap::{Args, Parser, Subcommand};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status of a regression, and of a benchmark that is not there any more.
const REGRESSION: u8 = 1;
/// Exit status of wrong usage, and of everything that keeps a report from being made.
const FAILURE: u8 = 2;

/// Receipts of benchmark runs: make them, compare them, draw them.
#[derive(Debug, Parser)]
#[command(
    name = "report",
    version,
    after_help = "Exit status: 0 on success, 1 where `regress` finds something slower or gone, 2 on errors."
)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the benchmarks and store a receipt; prints where.
    Run {
        #[command(flatten)]
        run: RunArgs,
        /// The file to write; `target/receipts/DATE-COMMIT.json` by default, `-` for the standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compare two receipts; changes count beyond three times the noise of both.
    Compare {
        /// The receipt of before.
        before: PathBuf,
        /// The receipt of after.
        after: PathBuf,
    },
    /// As `compare`, with a new run where there is no second receipt; exits with 1 where anything is slower or gone.
    Regress {
        /// Do not fail where benchmarks of before are gone.
        #[arg(long)]
        allow_missing: bool,
        /// The receipt of before.
        baseline: PathBuf,
        /// The receipt of after; the benchmarks run where there is none.
        new: Option<PathBuf>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Draw receipts, the oldest first, as one page that needs nothing else.
    Html {
        /// Receipts; distributions and roofline are of the last.
        #[arg(required = true, value_name = "RECEIPT")]
        receipts: Vec<PathBuf>,
        /// The page to write.
        #[arg(short, long, value_name = "FILE", default_value = "report.html")]
        output: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Only benchmarks whose name contains this, such as `memory/`.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Only this file of benchmarks, such as `memory`; may be repeated.
    #[arg(long = "bench", value_name = "NAME")]
    benches: Vec<String>,
    /// Run everything this often, so that what changes from run to run counts as noise.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Run nothing: take the results that criterion has left.
    #[arg(long, conflicts_with_all = ["rounds", "benches"])]
    no_run: bool,
    /// The folder that criterion writes to.
    #[arg(long, value_name = "DIR", default_value_os_t = criterion::home())]
    criterion: PathBuf,
}

impl RunArgs {
    /// Whether a run measures the benchmark of this name, whose first part is the file that it is in.
    fn selects(&self, id: &str) -> bool {
        let file = id.split('/').next().unwrap_or_default();
        let filtered = self.filter.as_ref().is_none_or(|filter| id.contains(filter));
        filtered && (self.benches.is_empty() || self.benches.iter().any(|bench| bench == file))
    }

    fn receipt(self) -> Result<Receipt> {
        suite::receipt(&Selection {
            filter: self.filter,
            benches: self.benches,
            rounds: self.rounds as usize,
            no_run: self.no_run,
            home: self.criterion,
        })
    }
}

/// Reads the command line, does what it says, and returns the exit status.
pub fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::from(FAILURE)
        }
    }
}

fn act(action: Action) -> Result<ExitCode> {
    match action {
        Action::Run { run, output } => store(&run.receipt()?, output)?,
        Action::Compare { before, after } => {
            show(&Receipt::read(&before)?, &Receipt::read(&after)?)?;
        }
        Action::Regress { allow_missing, baseline, new, run } => {
            let mut before = Receipt::read(&baseline)?;
            before.benchmarks.retain(|benchmark| run.selects(&benchmark.id));
            let after = new.map_or_else(|| run.receipt(), |path| Receipt::read(&path))?;
            let comparison = show(&before, &after)?;
            comparison.vanished.iter().for_each(|id| eprintln!("report: {id} is gone"));
            let gone = !allow_missing && !comparison.vanished.is_empty();
            if gone || comparison.count(Verdict::Slower) > 0 {
                return Ok(ExitCode::from(REGRESSION));
            }
        }
        Action::Html { receipts, output } => {
            let receipts: Vec<Receipt> =
                receipts.iter().map(|path| Receipt::read(path)).collect::<Result<_>>()?;
            std::fs::write(&output, html::page(&receipts)).map_err(Error::io(&output))?;
            print(&format!("{}\n", output.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn store(receipt: &Receipt, output: Option<PathBuf>) -> Result<()> {
    let path = output.unwrap_or_else(|| default_path(receipt));
    if path == Path::new("-") {
        let text = serde_json::to_string_pretty(receipt).map_err(Error::json(&path))?;
        return print(&(text + "\n"));
    }
    receipt.write(&path)?;
    eprintln!("{} benchmarks", receipt.benchmarks.len());
    print(&format!("{}\n", path.display()))
}

fn default_path(receipt: &Receipt) -> PathBuf {
    let commit = receipt.commit.as_deref().map_or("none".to_owned(), receipt::short);
    // Not every file system takes a colon.
    let name = format!("{}-{commit}.json", receipt.date.replace(':', ""));
    ["target", "receipts", &name].iter().collect()
}

fn show(before: &Receipt, after: &Receipt) -> Result<Comparison> {
    let comparison = Comparison::new(before, after)?;
    comparison.notes.iter().for_each(|note| eprintln!("report: {note}"));
    print(&comparison.table())?;
    eprintln!("{}", comparison.summary());
    Ok(comparison)
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).map_err(Error::io(Path::new("standard output")))
}
