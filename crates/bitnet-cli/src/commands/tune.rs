//! The fastest numbers of threads of this machine, found out and remembered.

mod search;

use super::bench::{Weights, median};
use crate::{
    args::FileArgs,
    tuned::{self, Machine, Tuned},
    ui::Ui,
    values,
};
use anyhow::{Context, Result};
use bitnet_core::{
    Device,
    cpu::{kernels::Kernels, topology::Topology},
    ops::cache::CacheType,
};
use bitnet_inference::local::LocalModel;
use bitnet_model::synthetic;
use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use search::{Candidate, Trial};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

/// How the table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A Markdown table.
    Md,
    /// One JSON object with all samples.
    Json,
}

/// Find the fastest numbers of threads and use them from now on.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bitnet tune\n  bitnet tune model.gguf --dry-run\n  bitnet tune --forget\n\n\
    Decode steps and prompts are measured with every sensible number of threads in turns. A number is taken instead of the default only \
    where it is faster by more than the noise, and by 2 % at least. It is stored for this processor, its cores and this version, \
    and counts where --threads is not given; --threads-batch alone overrides that of prompts."
)]
pub(crate) struct TuneArgs {
    /// A GGUF file or a Hugging Face folder [default: random weights].
    #[arg(value_name = "MODEL", env = "BITNET_MODEL")]
    model: Option<PathBuf>,
    /// The shape of random weights.
    #[arg(long, value_name = "SHAPE", env = "BITNET_SYNTHETIC", conflicts_with = "model", default_value = "large",
        value_parser = PossibleValuesParser::new(synthetic::SHAPES.iter().map(|shape| shape.name)))]
    synthetic: String,
    /// About how long to measure, at least as long as a decision needs.
    #[arg(long, default_value_t = 30, value_name = "N", env = "BITNET_SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// Store nothing.
    #[arg(long, env = "BITNET_DRY_RUN")]
    dry_run: bool,
    /// Remove what is stored for this machine instead of measuring.
    #[arg(long, env = "BITNET_FORGET", conflicts_with = "dry_run")]
    forget: bool,
    /// How to write the results.
    #[arg(short, long, default_value = "md", env = "BITNET_OUTPUT")]
    output: Output,
    /// Device: auto, cpu, or a tier such as cpu/avx2 (see `bitnet devices`). Of another tier than runs by default nothing is stored.
    #[arg(long, default_value = "auto", env = "BITNET_DEVICE", value_parser = values::device)]
    device: String,
    #[command(flatten)]
    files: FileArgs,
}

impl TuneArgs {
    /// Whether other commands use this device where nothing is said: what was found counts for it alone.
    fn is_what_runs(&self) -> bool {
        let tier = self.device.strip_prefix("cpu/");
        tier.is_none_or(|tier| tier == Kernels::best().name)
    }
}

pub(crate) fn run(args: &TuneArgs, ui: &Ui) -> Result<ExitCode> {
    if args.forget {
        let forgotten = tuned::forget()?;
        ui.note(if forgotten {
            "forgotten: the default counts again"
        } else {
            "there was nothing to forget"
        });
        return Ok(ExitCode::SUCCESS);
    }
    let begin = Instant::now();
    // Better now than after half a minute.
    let path = if args.dry_run || !args.is_what_runs() {
        None
    } else {
        Some(tuned::writable().context("use --dry-run to store nothing")?)
    };
    let trials = measure(args, begin, ui)?;
    let [threads, threads_batch] = [&trials[0], &trials[1]].map(Trial::best);
    let tuned = Tuned { machine: Machine::here(), threads, threads_batch };
    if path.is_some() {
        tuned::store(tuned.clone())?;
    }
    match args.output {
        Output::Md => markdown(&trials)?,
        Output::Json => {
            outln!("{}", serde_json::to_string_pretty(&report(&tuned, &trials, path.as_deref())?)?)?
        }
    }
    let kept = match &path {
        Some(path) => format!("stored in {}; `bitnet tune --forget` removes it", path.display()),
        None if args.is_what_runs() => "not stored".to_owned(),
        None => format!("not stored, because without --device {} is used", Kernels::best().name),
    };
    ui.note(format!("--threads {threads} --threads-batch {threads_batch}, {kept}"));
    Ok(ExitCode::SUCCESS)
}

/// A trial of each kind of step.
fn measure(args: &TuneArgs, begin: Instant, ui: &Ui) -> Result<Vec<Trial>> {
    let topology = Topology::detect();
    let device = Device::open(&args.device, Some(topology.usable))?;
    let default = topology.default_threads().min(device.threads());
    let weights = Weights {
        model: args.model.as_deref(),
        synthetic: args.model.is_none().then_some(args.synthetic.as_str()),
        files: &args.files,
    };
    let (name, decoder) = weights.decoder(&device, ui)?;
    ui.note(format!("measuring {name} on {} for about {} s", device.name(), args.seconds));
    let context = search::CONTEXT.min(decoder.config.max_position_embeddings);
    let mut model = LocalModel::new(decoder, context, CacheType::default())?;
    model.screen_later().iter().for_each(|note| ui.note(note));
    model.finish_screen();
    let numbers = search::numbers(topology.physical, device.threads());
    let bar = ui.progress("measuring", args.seconds.into(), false);
    let trials = search::search(&mut model, default, &numbers, search::deadline(begin, args.seconds), || {
        bar.set_position(begin.elapsed().as_secs().min(args.seconds.into()));
    });
    bar.finish_and_clear();
    trials
}

fn rate(candidate: &Candidate) -> f64 {
    1.0 / median(&candidate.seconds)
}

fn markdown(trials: &[Trial]) -> Result<()> {
    outln!("| step | threads | t/s | time of the default | |")?;
    outln!("|---|---:|---:|---:|---|")?;
    for trial in trials {
        for candidate in &trial.candidates {
            let ratio = trial.ratio(candidate);
            let taken = if candidate.threads == trial.best() { "taken" } else { "" };
            let time = match candidate.threads == trial.default {
                true => "default".to_owned(),
                false => format!("{:.3} ± {:.3}", ratio.median, ratio.margin),
            };
            outln!(
                "| {} | {} | {:.2} | {time} | {taken} |",
                trial.step.name(),
                candidate.threads,
                rate(candidate)
            )?;
        }
    }
    Ok(())
}

fn report(tuned: &Tuned, trials: &[Trial], path: Option<&Path>) -> Result<Value> {
    let candidate = |trial: &Trial, candidate: &Candidate| {
        let ratio = trial.ratio(candidate);
        json!({
            "threads": candidate.threads,
            "samples_seconds_per_token": candidate.seconds,
            "median_tps": rate(candidate),
            "time_of_default": ratio.median,
            "margin": ratio.margin,
        })
    };
    let steps = trials.iter().map(|trial| {
        let candidates: Vec<Value> = trial.candidates.iter().map(|c| candidate(trial, c)).collect();
        json!({ "step": trial.step.name(), "default": trial.default, "taken": trial.best(), "candidates": candidates })
    });
    Ok(json!({
        "machine": serde_json::to_value(&tuned.machine)?,
        "threads": tuned.threads,
        "threads_batch": tuned.threads_batch,
        "steps": steps.collect::<Vec<_>>(),
        "stored": path,
    }))
}
