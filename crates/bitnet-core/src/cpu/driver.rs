//! The driver of the CPU: a device for each tier.

use super::{CpuBackend, kernels::Kernels, topology::Topology};
use crate::{
    Error, Result,
    backend::Backend,
    device::{Absence, Candidate, Driver, Kind, ThreadCounts},
};
use std::sync::Arc;

/// The CPU: `cpu` (the fastest tier it has) or `cpu/TIER`.
pub const DRIVER: Driver = Driver { name: "cpu", probe, open };

/// Vector tiers by architecture, from slow to fast.
const TIERS: [(&str, &[&str]); 2] =
    [("x86_64", &["avx2", "avxvnni", "avx512", "amx"]), ("aarch64", &["neon", "neon-dotprod", "neon-i8mm"])];

fn probe() -> Vec<Candidate> {
    let topology = Topology::detect();
    let candidate = |tier: &str, absence| Candidate {
        name: format!("cpu/{tier}"),
        kind: Kind::Cpu,
        model: topology.model.clone(),
        memory: topology.memory,
        threads: topology.default_threads(),
        worth_from: 0,
        absence,
    };
    let own = Kernels::lacking()
        .map(|(tier, lacking)| candidate(tier, (!lacking.is_empty()).then_some(Absence::Features(lacking))));
    let mut found: Vec<Candidate> = own.collect();
    found.reverse();
    let foreign = TIERS.iter().filter(|(architecture, _)| *architecture != std::env::consts::ARCH);
    found.extend(
        foreign
            .flat_map(|(architecture, tiers)| {
                let absence = Absence::Architecture(architecture);
                tiers.iter().rev().map(move |tier| (*tier, absence.clone()))
            })
            .map(|(tier, absence)| candidate(tier, Some(absence))),
    );
    found
}

fn open(name: &str, threads: ThreadCounts) -> Result<Arc<dyn Backend>> {
    let kernels = match name.strip_prefix("cpu/") {
        Some(tier) => Kernels::by_name(tier).ok_or_else(|| Error::unknown_device(name))?,
        None => Kernels::best(),
    };
    let (decode, batch) = threads.resolve_with(|| Topology::detect().default_threads());
    Ok(Arc::new(CpuBackend::new(kernels, decode, batch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_of_this_architecture_is_known_to_the_others() {
        let own = TIERS.iter().find(|(architecture, _)| *architecture == std::env::consts::ARCH);
        let vectors: Vec<&str> =
            Kernels::lacking().map(|(tier, _)| tier).filter(|t| *t != "scalar").collect();
        assert_eq!(vectors, own.map_or(&[][..], |(_, tiers)| *tiers));
    }
}
