//! What is known of the machine and the runs, as tables.

use super::svg::escape;
use crate::report::{Machine, Reading, Receipt};
use std::fmt::Write;

/// Every receipt, the newest first.
pub(super) fn section(receipts: &[Receipt]) -> String {
    let rows: String = receipts.iter().rev().map(row).collect();
    format!(
        "<section class=\"card\" aria-label=\"Runs\">\n<table>\n<thead><tr><th>run</th><th>machine</th><th>energy</th>\
         <th>throttling</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</section>\n"
    )
}

fn row(receipt: &Receipt) -> String {
    let throttling = match &receipt.sensors.throttling {
        Reading::Value(count) => format!("cores {} times, packages {} times", count.core, count.package),
        Reading::Unavailable { unavailable } => {
            format!("<small>unavailable: {}</small>", escape(unavailable))
        }
    };
    let (label, command) = (escape(&receipt.label()), escape(&receipt.command.join(" ")));
    let (machine, energy) = (machine(&receipt.machine), energy(receipt));
    format!(
        "<tr><td>{label}<br><small><code>{command}</code></small></td><td>{machine}</td><td>{energy}</td><td>{throttling}</td></tr>\n"
    )
}

/// Processor and ceilings.
fn machine(machine: &Machine) -> String {
    let threads =
        if machine.threads == 1 { "one thread".to_owned() } else { format!("{} threads", machine.threads) };
    let (cpu, tier) = (escape(&machine.cpu), escape(&machine.tier));
    let (bandwidth, peak) = (machine.read_bandwidth_gb_per_s, machine.int8_gops_per_s);
    format!("{cpu}, {tier}, {threads}<br><small>reads {bandwidth:.1} GB/s, int8 peak {peak:.0} Gop/s</small>")
}

/// Joules of every domain and GPU, or why there are none.
fn energy(receipt: &Receipt) -> String {
    let mut text = String::new();
    match &receipt.sensors.cpu_energy {
        Reading::Value(domains) => domains.iter().for_each(|d| add(&mut text, &d.name, d.joules)),
        Reading::Unavailable { unavailable } => text += &missing("CPU", unavailable),
    }
    match &receipt.sensors.gpu_energy {
        Reading::Value(gpus) => gpus.iter().for_each(|g| add(&mut text, &g.name, g.joules)),
        Reading::Unavailable { unavailable } => text += &missing("GPU", unavailable),
    }
    text
}

fn add(text: &mut String, name: &str, joules: f64) {
    write!(text, "{} {joules:.1} J<br>", escape(name)).expect("a string takes everything");
}

fn missing(device: &str, reason: &str) -> String {
    format!("<small>{device} unavailable: {}</small><br>", escape(reason))
}
