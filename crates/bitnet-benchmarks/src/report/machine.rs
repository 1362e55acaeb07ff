//! The machine that the benchmarks run on, with its ceilings, and the commit that they run at.

use super::{Machine, Result};
use bitnet_core::cpu::{ceilings, kernels::Kernels, threads::Threads, topology::Topology};
use std::process::Command;

/// Bytes that are read to measure the bandwidth: more than the caches hold.
const SAMPLE: usize = 256 << 20;
/// Measurements of a ceiling, of which the best counts.
const PASSES: usize = 5;

/// Looks at this machine and measures its ceilings.
///
/// # Errors
/// Where memory runs out.
pub fn detect() -> Result<Machine> {
    let topology = Topology::detect();
    let (kernels, threads) = (Kernels::best(), Threads::new(topology.default_threads()));
    let data = ceilings::sample(SAMPLE)?;
    Ok(Machine {
        cpu: topology.model,
        architecture: std::env::consts::ARCH.to_owned(),
        tier: kernels.name.to_owned(),
        threads: threads.len(),
        read_bandwidth_gb_per_s: 1e-9 * ceilings::read_bandwidth(&threads, data.as_slice()?, PASSES),
        int8_gops_per_s: 2e-9 * ceilings::integer_peak(&threads, kernels, PASSES),
    })
}

impl Machine {
    /// This machine with the higher of two measurements of each ceiling: other work on it only ever lowers them.
    #[must_use]
    pub fn best(self, again: &Self) -> Self {
        Self {
            read_bandwidth_gb_per_s: self.read_bandwidth_gb_per_s.max(again.read_bandwidth_gb_per_s),
            int8_gops_per_s: self.int8_gops_per_s.max(again.int8_gops_per_s),
            ..self
        }
    }
}

/// The commit that is checked out in the current folder, with `-dirty` where tracked files differ from it.
pub fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { commit + "-dirty" })
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
