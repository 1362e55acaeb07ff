//! What is known of the machine and the runs, as tables.

use super::svg::escape;
use crate::report::{Reading, Receipt};
use std::fmt::Write;

/// Machine of the last receipt, and all receipts.
pub(super) fn section(receipts: &[Receipt]) -> String {
    let rows: String = receipts.iter().rev().map(row).collect();
    format!(
        "<section class=\"card\" aria-label=\"Runs\">\n<table>\n<thead><tr><th>commit</th><th>date</th><th>machine</th>\
         <th class=\"n\">read bandwidth</th><th class=\"n\">int8 peak</th><th>energy</th><th>throttling</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</section>\n"
    )
}

fn row(receipt: &Receipt) -> String {
    let machine = &receipt.machine;
    let commit = receipt.commit.as_deref().map_or("none".to_owned(), crate::report::receipt::short);
    let threads =
        if machine.threads == 1 { "one thread".to_owned() } else { format!("{} threads", machine.threads) };
    let throttling = match &receipt.sensors.throttling {
        Reading::Value(count) => format!("cores {} times, packages {} times", count.core, count.package),
        Reading::Unavailable { unavailable } => format!("unavailable: {unavailable}"),
    };
    format!(
        "<tr><td><code>{}</code></td><td>{}</td><td>{}, {}, {threads}<br><code>{}</code></td><td class=\"n\">{:.1} GB/s</td>\
         <td class=\"n\">{:.0} Gop/s</td><td>{}</td><td>{}</td></tr>\n",
        escape(&commit),
        escape(&receipt.date),
        escape(&machine.cpu),
        escape(&machine.tier),
        escape(&receipt.command.join(" ")),
        machine.read_bandwidth_gb_per_s,
        machine.int8_gops_per_s,
        energy(receipt),
        escape(&throttling),
    )
}

/// Joules of every domain and GPU, or why there are none.
fn energy(receipt: &Receipt) -> String {
    let mut text = String::new();
    match &receipt.sensors.cpu_energy {
        Reading::Value(domains) => domains.iter().for_each(|d| add(&mut text, &d.name, d.joules)),
        Reading::Unavailable { unavailable } => {
            text += &format!("CPU unavailable: {}<br>", escape(unavailable))
        }
    }
    match &receipt.sensors.gpu_energy {
        Reading::Value(gpus) => gpus.iter().for_each(|g| add(&mut text, &g.name, g.joules)),
        Reading::Unavailable { unavailable } => text += &format!("GPU unavailable: {}", escape(unavailable)),
    }
    text
}

fn add(text: &mut String, name: &str, joules: f64) {
    write!(text, "{} {joules:.1} J<br>", escape(name)).expect("a string takes everything");
}
