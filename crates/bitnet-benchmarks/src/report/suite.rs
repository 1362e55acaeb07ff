//! Runs the benchmarks, or reads what an earlier run left, and makes a receipt of it.

use super::receipt::SCHEMA;
use super::{
    Benchmark, Error, Reading, Receipt, Result, Sensors, criterion, energy::Rapl, gpu, machine, throttle,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;
use std::{env, io};

/// Which benchmarks, and whether they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Criterion's filter: part of the name of a benchmark.
    pub filter: Option<String>,
    /// Files of benchmarks; all where there is none.
    pub benches: Vec<String>,
    /// How often everything runs.
    pub rounds: usize,
    /// Reads the results that are there instead.
    pub no_run: bool,
    /// Where criterion writes.
    pub home: PathBuf,
}

/// Makes a receipt.
///
/// # Errors
/// Where the benchmarks fail or leave no results.
pub fn receipt(selection: &Selection) -> Result<Receipt> {
    let before = machine::detect()?;
    let (benchmarks, sensors) = if selection.no_run { earlier(selection)? } else { run(selection)? };
    let program = env::args().skip(1);
    Ok(Receipt {
        schema: SCHEMA,
        commit: machine::commit(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        command: ["report".to_owned()].into_iter().chain(program).collect(),
        machine: before.best(&machine::detect()?),
        sensors,
        benchmarks,
    })
}

fn earlier(selection: &Selection) -> Result<(Vec<Benchmark>, Sensors)> {
    let filter = selection.filter.as_deref().unwrap_or_default();
    let benchmarks = criterion::read(&selection.home, None, filter)?;
    let reason = "the results are of an earlier run";
    let sensors = Sensors {
        cpu_energy: Reading::unavailable(reason),
        gpu_energy: Reading::unavailable(reason),
        throttling: Reading::unavailable(reason),
    };
    Ok((benchmarks, sensors))
}

fn run(selection: &Selection) -> Result<(Vec<Benchmark>, Sensors)> {
    bench(selection, &["--no-run"])?;
    let root = Path::new("/");
    let (rapl, meter, hot) = (Rapl::start(root), gpu::Meter::start(), throttle::count(root));
    let rounds = (0..selection.rounds).map(|_| round(selection)).collect::<Result<_>>();
    let sensors = Sensors {
        cpu_energy: rapl.stop(),
        gpu_energy: meter.stop(),
        throttling: throttle::between(hot, throttle::count(root)),
    };
    Ok((criterion::pool(rounds?), sensors))
}

fn round(selection: &Selection) -> Result<Vec<Benchmark>> {
    let start = SystemTime::now();
    bench(selection, &[])?;
    criterion::read(&selection.home, Some(start), "")
}

/// `cargo bench`. What it prints goes to the standard error stream: the standard output is for data.
fn bench(selection: &Selection, options: &[&str]) -> Result<()> {
    let home = std::path::absolute(&selection.home).map_err(Error::io(&selection.home))?;
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["bench", "--package", "bitnet-benchmarks"]).args(options);
    if cfg!(feature = "peers") {
        command.args(["--features", "peers"]);
    }
    if selection.benches.is_empty() {
        command.arg("--benches");
    }
    command.args(selection.benches.iter().flat_map(|name| ["--bench", name]));
    command.arg("--").args(&selection.filter);
    command.env("CRITERION_HOME", &home).stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().map_err(Error::io(Path::new("cargo")))?;
    if status.success() { Ok(()) } else { Err(Error::Bench { status }) }
}
