//! What this machine offers, and what would be used.

mod ceilings;

use crate::{commands::pull, tuned, ui::printable};
use anyhow::Result;
use bitnet_core::{
    Device,
    cpu::{self, kernels::Kernels, threads::Threads, topology::Topology},
};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Bytes that are read to measure the bandwidth: more than the caches hold.
const SAMPLE: usize = 256 << 20;

/// Show processor features, threads, memory and what would be used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet doctor\n  bitnet doctor --ceilings --json")]
pub(crate) struct DoctorArgs {
    /// Write one JSON object.
    #[arg(long, env = "BITNET_JSON")]
    json: bool,
    /// Measure read bandwidth, int8 peak and dense float products for each number of threads; takes a few seconds.
    #[arg(long, env = "BITNET_CEILINGS")]
    ceilings: bool,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let mut report = report()?;
    let ceilings = if args.ceilings { ceilings::measure()? } else { Vec::new() };
    if args.json {
        if args.ceilings {
            report["ceilings"] = ceilings.into();
        }
        outln!("{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (label, text) in lines(&report) {
        outln!("{label:<16} {text}")?;
    }
    if args.ceilings {
        outln!()?;
        ceilings::table(&ceilings).iter().try_for_each(|line| outln!("{line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The report for people.
fn lines(report: &Value) -> Vec<(&'static str, String)> {
    let text = |key: &str| match &report[key] {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    };
    let (used, all) = (text("threads_used"), text("hardware_threads"));
    let threads = |n: &str| if n == "1" { "one thread".to_owned() } else { format!("{n} threads") };
    vec![
        ("version", text("version")),
        ("processor", format!("{} ({})", text("cpu"), text("architecture"))),
        ("features", text("features")),
        ("tiers", format!("{}; {} is used", text("tiers"), text("tier_used"))),
        ("cores", format!("{} physical, {}", text("physical_cores"), threads(&all))),
        ("threads used", threads_used(report, &used)),
        ("device", format!("auto takes {}: {}", text("device"), text("device_reason"))),
        ("memory", format!("{} GiB, {} GiB available", text("memory_gib"), text("memory_available_gib"))),
        (
            "read bandwidth",
            format!(
                "{} GB/s ({}), {} GB/s (all {all})",
                text("read_bandwidth_gb_per_s"),
                threads(&used),
                text("read_bandwidth_all_threads_gb_per_s"),
            ),
        ),
        (
            "int8 peak",
            format!(
                "{} billion operations/s ({})",
                text("int8_gops_per_s"),
                threads(&text("threads_batch_used"))
            ),
        ),
        ("model cache", text("model_cache")),
    ]
}

fn threads_used(report: &Value, used: &str) -> String {
    match (&report["tuned"], &report["tuned_note"]) {
        (_, Value::String(note)) => format!("{used}; {}", printable(note)),
        (Value::Null, _) => format!("{used}; `bitnet tune` finds out whether other numbers are faster"),
        _ => format!("{used} for a token, {} for more, as `bitnet tune` found", report["threads_batch_used"]),
    }
}

fn report() -> Result<Value> {
    let topology = Topology::detect();
    let device = Device::open("auto", None)?;
    let reason = device.choice().map(|choice| choice.taken().reason.to_string());
    let (tuned, tuned_note) = match tuned::load() {
        Ok(tuned) => (tuned, None),
        Err(reason) => (None, Some(reason)),
    };
    let used = tuned.as_ref().map_or(topology.default_threads(), |tuned| tuned.threads);
    let batch = tuned.as_ref().map_or(used, |tuned| tuned.threads_batch);
    let gib = |bytes: usize| (bytes as f64 / (1u64 << 30) as f64 * 10.0).round() / 10.0;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": topology.model,
        "architecture": std::env::consts::ARCH,
        "features": features(),
        "tiers": Kernels::available().map(|k| k.name).collect::<Vec<_>>(),
        "tier_used": Kernels::best().name,
        "hardware_threads": topology.usable,
        "physical_cores": topology.physical,
        "threads_used": used,
        "threads_batch_used": batch,
        "tuned": tuned,
        "tuned_note": tuned_note,
        "device": device.name(),
        "device_reason": reason,
        "memory_gib": topology.memory.map(|m| gib(m.total)),
        "memory_available_gib": topology.memory.map(|m| gib(m.available)),
        "read_bandwidth_gb_per_s": bandwidth(used)?,
        "read_bandwidth_all_threads_gb_per_s": bandwidth(topology.usable)?,
        "int8_gops_per_s": gops(cpu::ceilings::integer_peak(&Threads::new(batch), Kernels::best(), 5)),
        "model_cache": pull::cache_dir(),
    }))
}

/// Billions of operations a second, from multiply-adds a second: each is two.
pub(crate) fn gops(multiply_adds: f64) -> f64 {
    (2e-9 * multiply_adds).round()
}

/// Gigabytes a second that `threads` threads read.
pub(crate) fn bandwidth(threads: usize) -> Result<f64> {
    let data = cpu::ceilings::sample(SAMPLE)?;
    let rate = cpu::ceilings::read_bandwidth(&Threads::new(threads), data.as_slice()?, 5);
    Ok((1e-8 * rate).round() / 10.0)
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! detect {
        ($($name:tt),*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
    }
    detect!(
        "sse4.1",
        "avx",
        "f16c",
        "fma",
        "avx2",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512vbmi"
    );
    found
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! detect {
        ($($name:tt),*) => { $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name); })* };
    }
    detect!("neon", "fp16", "dotprod", "i8mm", "sve");
    found
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}
