//! Energy of NVIDIA GPUs: `nvidia-smi` asks NVML for the power of each twice a second while the benchmarks run.

use super::Reading;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::{io, time::Instant};

/// Energy of a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Number and name.
    pub name: String,
    /// Mean power times the time of the run, in joules.
    pub joules: f64,
}

/// A running query.
#[derive(Debug)]
pub enum Meter {
    /// Nothing to ask, and why.
    Unavailable(String),
    /// The process that asks, and the thread that takes its answers.
    Running {
        /// Asks.
        child: Child,
        /// Takes the answers to their end.
        lines: JoinHandle<io::Result<String>>,
        /// Since when.
        start: Instant,
    },
}

const QUERY: [&str; 4] =
    ["--query-gpu=index,name,power.draw", "--format=csv,noheader,nounits", "--loop-ms", "500"];

impl Meter {
    /// Begins to ask.
    pub fn start() -> Self {
        let mut command = Command::new("nvidia-smi");
        let child =
            command.args(QUERY).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return Self::Unavailable(format!("nvidia-smi: {error}")),
        };
        let Some(stdout) = child.stdout.take() else {
            return Self::Unavailable("nvidia-smi: no output".to_owned());
        };
        let lines = thread::spawn(|| io::read_to_string(stdout));
        Self::Running { child, lines, start: Instant::now() }
    }

    /// Ends the query and adds its answers up.
    pub fn stop(self) -> Reading<Vec<Gpu>> {
        let (mut child, lines, start) = match self {
            Self::Unavailable(reason) => return Reading::unavailable(reason),
            Self::Running { child, lines, start } => (child, lines, start),
        };
        let seconds = start.elapsed().as_secs_f64();
        // It may have ended by itself, where there is no GPU.
        let ended = child.kill().and_then(|()| child.wait());
        match (ended, lines.join()) {
            (Ok(_), Ok(Ok(text))) => gpus(&text, seconds),
            (Err(error), _) | (_, Ok(Err(error))) => Reading::unavailable(format!("nvidia-smi: {error}")),
            (_, Err(_)) => Reading::unavailable("nvidia-smi: its output was lost"),
        }
    }
}

/// Lines of index, name and watts, over so many seconds.
fn gpus(text: &str, seconds: f64) -> Reading<Vec<Gpu>> {
    let mut powers = BTreeMap::<&str, Vec<f64>>::new();
    for line in text.lines() {
        if let Some((name, watts)) = line.rsplit_once(", ")
            && let Ok(watts) = watts.trim().parse()
        {
            powers.entry(name).or_default().push(watts);
        }
    }
    if powers.is_empty() {
        return Reading::unavailable("nvidia-smi: no power of any GPU");
    }
    let gpu = |(name, watts): (&str, Vec<f64>)| {
        let mean = watts.iter().sum::<f64>() / watts.len() as f64;
        Gpu { name: name.replacen(", ", " ", 1), joules: mean * seconds }
    };
    Reading::Value(powers.into_iter().map(gpu).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_the_mean_power_times_the_time() {
        let text = "0, NVIDIA H100, 100.0\n1, NVIDIA H100, 50.0\n0, NVIDIA H100, 200.0\n1, NVIDIA H100, 5";
        let gpu = |name: &str, joules| Gpu { name: name.to_owned(), joules };
        let expected = vec![gpu("0 NVIDIA H100", 1500.0), gpu("1 NVIDIA H100", 275.0)];
        assert_eq!(gpus(text, 10.0), Reading::Value(expected));
    }

    #[test]
    fn a_failed_query_is_no_energy() {
        let failed = gpus("NVIDIA-SMI has failed because it couldn't communicate with the driver.", 1.0);
        assert!(matches!(failed, Reading::Unavailable { .. }));
    }
}
