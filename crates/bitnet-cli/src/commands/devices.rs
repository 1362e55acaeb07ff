//! Which devices there are, which one is taken and why, and what each computes itself.

use crate::{
    markdown::table,
    session::resolve,
    tuned::{self, Tuned},
    ui::Ui,
    values,
};
use anyhow::{Context, Result};
use bitnet_core::{
    Device,
    device::{
        Choice, Judged, Task, Work,
        capabilities::{Capability, Support},
        drivers,
    },
    memory::Bytes,
};
use bitnet_model::weights;
use clap::Args;
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode};

/// Show the devices, the one that is taken by itself and why, and what each computes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bitnet devices\n  bitnet devices -m model.gguf --batch-size 1\n  bitnet devices --json\n\n\
    Capabilities are found out by running every op with every kind of operand: `native` is computed by the device, `host` by the \
    reference on the host with copies to and fro, what is not listed is refused."
)]
pub(crate) struct DevicesArgs {
    /// Choose for this model: a GGUF file, a Hugging Face folder, or a repository that was pulled.
    #[arg(short, long, value_name = "PATH", env = "BITNET_MODEL")]
    model: Option<PathBuf>,
    /// Tokens that are computed at once.
    #[arg(short, long, default_value_t = 1, value_name = "N", env = "BITNET_BATCH_SIZE", value_parser = values::from(1))]
    batch_size: usize,
    /// Choose for training instead of inference.
    #[arg(long, env = "BITNET_TRAINING")]
    training: bool,
    /// Write one JSON object.
    #[arg(long, env = "BITNET_JSON")]
    json: bool,
}

pub(crate) fn run(args: &DevicesArgs, ui: &Ui) -> Result<ExitCode> {
    let device = Device::open_for("auto", None, &work(args)?)?;
    let choice = device.choice().context("a device that is opened as auto was chosen")?;
    let columns = columns()?;
    let tuned = tuned::load().unwrap_or_else(|reason| {
        ui.note(reason);
        None
    });
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&report(choice, &columns, tuned.as_ref()))?)?;
    } else {
        outln!("{}", text(choice, &columns, tuned.as_ref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn work(args: &DevicesArgs) -> Result<Work> {
    let weights = match &args.model {
        Some(path) => weights::stored_bytes(&resolve(path)?),
        None => 0,
    };
    let task = if args.training { Task::Training } else { Task::Inference };
    Ok(Work { task, weights, beside: 0, tokens: args.batch_size })
}

/// The capabilities of each driver's fastest device, by the name of the driver.
type Column = (&'static str, Vec<Capability>);

fn columns() -> Result<Vec<Column>> {
    let present = |driver: &bitnet_core::device::Driver| (driver.probe)().iter().any(|c| c.absence.is_none());
    let open = |name| Ok((name, Capability::all(&Device::open(name, Some(1))?)));
    drivers().iter().filter(|driver| present(driver)).map(|driver| open(driver.name)).collect()
}

fn report(choice: &Choice, columns: &[Column], tuned: Option<&Tuned>) -> Value {
    let rows = |column: &[Capability]| -> Value {
        let row = |c: &Capability| json!({ "op": c.op, "operand": c.operand, "support": c.support.name() });
        column.iter().map(row).collect()
    };
    let columns = columns.iter().map(|(name, column)| ((*name).to_owned(), rows(column)));
    json!({
        "work": {
            "task": choice.work.task.name(),
            "weight_bytes": choice.work.weights,
            "tokens": choice.work.tokens,
        },
        "taken": choice.taken().candidate.name,
        "reason": choice.taken().reason.to_string(),
        "tuned": tuned,
        "devices": choice.judged.iter().map(device).collect::<Vec<_>>(),
        "capabilities": columns.collect::<serde_json::Map<_, _>>(),
    })
}

fn device(Judged { candidate, reason }: &Judged) -> Value {
    json!({
        "name": candidate.name,
        "kind": candidate.kind.name(),
        "tier": candidate.name.split_once('/').map(|(_, tier)| tier),
        "hardware": candidate.model,
        "memory_bytes": candidate.memory.map(|memory| memory.total),
        "memory_available_bytes": candidate.memory.map(|memory| memory.available),
        "threads": candidate.threads,
        "verdict": reason.verdict().name(),
        "reason": reason.to_string(),
    })
}

/// Markdown for people.
fn text(choice: &Choice, columns: &[Column], tuned: Option<&Tuned>) -> String {
    let mut devices = vec![
        ["device", "kind", "hardware", "memory", "available", "threads", "verdict", "reason"]
            .map(String::from)
            .to_vec(),
    ];
    devices.extend(choice.judged.iter().map(|Judged { candidate, reason }| {
        let memory = candidate.memory.filter(|_| candidate.absence.is_none());
        let bytes = |bytes: Option<usize>| bytes.map_or_else(String::new, |bytes| Bytes(bytes).to_string());
        let threads = candidate.absence.is_none().then(|| candidate.threads.to_string());
        vec![
            candidate.name.clone(),
            candidate.kind.name().to_owned(),
            memory.map(|_| candidate.model.clone()).unwrap_or_default(),
            bytes(memory.map(|m| m.total)),
            bytes(memory.map(|m| m.available)),
            threads.unwrap_or_default(),
            reason.verdict().name().to_owned(),
            reason.to_string(),
        ]
    }));
    let (devices, capabilities) = (table(&devices), capabilities(columns));
    let task = choice.work.task.name();
    let tuned = tuned.map_or_else(String::new, |Tuned { threads, threads_batch, .. }| {
        format!(" Threads: {threads} for a token, {threads_batch} for more, as `bitnet tune` found.")
    });
    format!("{devices}\nFor {task}, auto takes {choice}.{tuned}\n\n{capabilities}").trim_end().to_owned()
}

/// A row an op and a way that it is computed, with the operands that it is computed so for.
fn capabilities(columns: &[Column]) -> String {
    let Some((_, first)) = columns.first() else { return String::new() };
    let mut ops: Vec<&str> = first.iter().map(|capability| capability.op).collect();
    ops.dedup();
    let names = columns.iter().map(|(name, _)| (*name).to_owned());
    let mut rows = vec![["op".to_owned()].into_iter().chain(names).collect::<Vec<_>>()];
    for op in ops {
        let cells = columns.iter().map(|(_, column)| cell(column, op));
        rows.push([op.to_owned()].into_iter().chain(cells).collect());
    }
    table(&rows)
}

/// Who computes an op for which operands.
fn cell(column: &[Capability], op: &str) -> String {
    let with = |support: Support| {
        let rows = column.iter().filter(|row| row.op == op && row.support == support);
        let operands: Vec<&str> = rows.map(|row| row.operand).collect();
        (!operands.is_empty()).then(|| format!("{}: {}", support.name(), operands.join(" ")))
    };
    let parts: Vec<String> = [Support::Native, Support::Host].into_iter().filter_map(with).collect();
    if parts.is_empty() { Support::None.name().to_owned() } else { parts.join("; ") }
}
