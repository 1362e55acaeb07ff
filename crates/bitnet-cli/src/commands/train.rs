//! Training from a configuration.

mod sample;

use super::eval::{self, checkpoint_of};
use crate::{
    interrupt,
    memory_report::MemoryArgs,
    session::resolve,
    ui::Ui,
    watch::{self, Watch},
};
use anyhow::{Context, Result, bail, ensure};
use bitnet_core::{Device, interchange::atomic::atomic_write};
use bitnet_model::{Decoder, checkpoint::Options};
use bitnet_training::{
    RunConfig, Trainer, checkpoint,
    log::{self, Log},
    progress::{Codes, Event, Step},
    report,
    tensorboard::Events,
    trainer::End,
};
use clap::Args;
use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Train a model, ternary or not, from text.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bitnet train --config configs/shakespeare-char.toml\n  \
    bitnet train --config run.toml --set schedule.lr=2e-3 --set training.seed=1 --out runs/seed1\n  \
    bitnet train --config run.toml --resume\n\n\
    The output folder gets checkpoints, which every command reads as a model, log.jsonl, report.html, and events for TensorBoard. \
    Ctrl-C ends the run after a checkpoint. Every key of a configuration: docs/training.md")]
pub(crate) struct TrainArgs {
    /// The run, a TOML file.
    #[arg(short = 'f', long, value_name = "FILE.toml", env = "BITNET_CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    how: RunArgs,
}

/// What a run may change about its configuration, and how it is made.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Change a key of the configuration; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE", env = "BITNET_SET", value_parser = change)]
    set: Vec<(String, String)>,
    /// Output folder, instead of that of the configuration.
    #[arg(short, long, value_name = "DIR", env = "BITNET_OUT")]
    out: Option<PathBuf>,
    /// Continue from the last checkpoint in the output folder.
    #[arg(long, env = "BITNET_RESUME")]
    resume: bool,
    /// Passes that are made at a time, instead of that of the configuration.
    #[arg(long, value_name = "N", env = "BITNET_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Checkpoints that are kept beside the best one, instead of what the configuration says.
    #[arg(long, value_name = "K", env = "BITNET_KEEP", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
    /// Threads of each pass [default: one with several workers, else one for each physical core].
    #[arg(short, long, value_name = "N", env = "BITNET_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Show the run on the whole terminal: losses, rates and the codes of layers. `q` ends it after a checkpoint.
    #[arg(long, env = "BITNET_DASHBOARD")]
    dashboard: bool,
    #[command(flatten)]
    memory: MemoryArgs,
}

fn change(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected section.key=value, as in schedule.lr=1e-3")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl RunArgs {
    /// Refuses what cannot be shown here.
    pub(crate) fn check(&self, ui: &Ui) -> Result<()> {
        watch::check(self.dashboard, ui)
    }

    /// Keys that are changed.
    pub(crate) fn changes(&self) -> Vec<(String, String)> {
        self.set.clone()
    }

    /// Whether a run is continued.
    pub(crate) fn resumes(&self) -> bool {
        self.resume
    }

    /// A configuration with what flags of their own say.
    pub(crate) fn overridden(&self, mut config: RunConfig) -> RunConfig {
        if let Some(out) = &self.out {
            config.training.out.clone_from(out);
        }
        if let Some(workers) = self.workers {
            config.training.workers = workers.into();
        }
        if let Some(keep) = self.keep {
            config.training.keep = keep.into();
        }
        config
    }

    /// The device of a run.
    pub(crate) fn device(&self, config: &RunConfig) -> Result<Device> {
        let threads = match (self.threads, config.training.workers) {
            (Some(threads), _) => Some(threads.into()),
            (None, 1) => None,
            (None, _) => Some(1),
        };
        ensure!(
            config.training.workers == 1 || threads == Some(1),
            "{} workers share threads only with -t 1",
            config.training.workers
        );
        let device = Device::open("cpu", threads)?;
        self.memory.begin(device.pool());
        Ok(device)
    }

    /// The trainer of a run, at its start or where it stopped.
    pub(crate) fn trainer(
        &self,
        config: RunConfig,
        device: &Device,
        base: Option<Decoder>,
        ui: &Ui,
    ) -> Result<Trainer> {
        let out = config.training.out.clone();
        let teacher = config.distillation.as_ref().map(|how| how.teacher.clone());
        let trainer = if self.resume {
            Trainer::resume(config, device)?
        } else {
            Self::expect_unused(&out)?;
            Trainer::new(config, device, base)?
        };
        let Some(teacher) = teacher else { return Ok(trainer) };
        let path = checkpoint_of(&resolve(&teacher)?)?;
        let (decoder, tokenizer) = eval::open(&path, Options::default(), device, ui)
            .with_context(|| format!("distillation.teacher {}", teacher.display()))?;
        Ok(trainer.with_teacher(decoder, &tokenizer)?)
    }

    fn expect_unused(out: &Path) -> Result<()> {
        if checkpoint::is_started(out)? {
            bail!(
                "{} holds a run; continue it with --resume, or choose another folder with --out",
                out.display()
            );
        }
        Ok(())
    }
}

pub(crate) fn run(args: &TrainArgs, ui: &Ui) -> Result<ExitCode> {
    args.how.check(ui)?;
    let config = args.how.overridden(RunConfig::read(&args.config, &args.how.set)?);
    let device = args.how.device(&config)?;
    let trainer = args.how.trainer(config, &device, None, ui)?;
    finish(trainer, &args.how, ui)
}

/// Makes the rest of a run and says how it went.
pub(crate) fn finish(mut trainer: Trainer, how: &RunArgs, ui: &Ui) -> Result<ExitCode> {
    let out = trainer.config().training.out.clone();
    introduce(&trainer, ui);
    let writing = interrupt::writing();
    let mut shown = Shown::new(&trainer, how, ui)?;
    let end = trainer.run(&mut |trainer, event| {
        shown.event(trainer, event);
        if writing.interrupted() || shown.failed.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    shown.watch.close();
    drop(writing);
    let written = write_report(&trainer);
    let end = end.with_context(|| format!("the run in {} ended", out.display()))?;
    if let Some(error) = shown.failed {
        return Err(error.into());
    }
    let page = written?;
    match end {
        End::Done => {}
        End::Patience => ui.note("the held-out loss did not fall any more"),
        End::Stopped => ui.note(format!("stopped after step {}; --resume goes on", trainer.step_count())),
    }
    ui.figures(format!("{} · {}", page.display(), trainer.decoder().device().pool().stats()));
    how.memory.write(trainer.decoder().device().pool(), ui)?;
    outln!("{}", checkpoint::last(&out)?.display())?;
    Ok(if end == End::Stopped { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

fn introduce(trainer: &Trainer, ui: &Ui) {
    let (config, shape) = (trainer.config(), &trainer.decoder().config);
    let [train, valid] = trainer.tokens();
    let t = &config.training;
    let each = t.batch * t.accumulation * config.data.context;
    ui.figures(format!(
        "{} parameters, {} tokens in the vocabulary · {train} tokens to learn, {valid} held out · {} steps of {each} tokens, {:.2} epochs",
        shape.parameters(),
        shape.vocab_size,
        t.steps,
        t.steps as f64 * each as f64 / train as f64
    ));
}

fn write_report(trainer: &Trainer) -> Result<PathBuf> {
    let config = trainer.config();
    let out = &config.training.out;
    let lines = log::read(&out.join(log::FILE))?;
    let title = format!("Training run {}", out.display());
    let page = report::page(&title, &lines, &config.to_toml());
    let path = out.join("report.html");
    atomic_write(&path, |file| file.write(page.as_bytes()))?;
    Ok(path)
}

/// What people and programs are told of a run.
struct Shown<'a> {
    watch: Watch<'a>,
    log: Log,
    events: Events,
    log_every: u64,
    failed: Option<bitnet_training::Error>,
}

impl<'a> Shown<'a> {
    fn new(trainer: &Trainer, how: &RunArgs, ui: &'a Ui) -> Result<Self> {
        let t = &trainer.config().training;
        let log = Log::open(&t.out, trainer.step_count())?;
        Ok(Self {
            watch: Watch::new(trainer, how.dashboard, ui)?,
            log,
            events: Events::create(&t.out.join("tensorboard"))?,
            log_every: t.log_every,
            failed: None,
        })
    }

    fn event(&mut self, trainer: &Trainer, event: &Event) {
        self.watch.event(event);
        if let Event::Evaluated { step, evaluation, best } = event {
            self.watch.say(&watch::evaluated(*step, evaluation, *best));
        }
        if let Event::Skipped { step, what } = event {
            self.watch.say(&watch::skipped(*step, what));
        }
        let mut recorded = self.record(event);
        if let Event::Evaluated { step, .. } = event
            && trainer.config().training.sample_tokens > 0
        {
            match sample::sample(trainer) {
                Ok(text) => {
                    self.watch.say(&watch::written(*step, &text));
                    recorded = recorded.and_then(|()| self.log.sample(*step, &text));
                }
                Err(error) => self.watch.say(&format!("step {step}: no sample: {error:#}")),
            }
        }
        if let Err(error) = recorded {
            self.failed.get_or_insert(error);
        }
    }

    fn record(&mut self, event: &Event) -> bitnet_training::Result<()> {
        self.log.write(event)?;
        match event {
            Event::Step(step) if step.step.is_multiple_of(self.log_every) => {
                self.events.scalars(step.step, &scalars(step))
            }
            Event::Evaluated { step, evaluation, .. } => self.events.scalars(
                *step,
                &[("valid/nats", evaluation.nats), ("valid/bits_per_byte", evaluation.bits_per_byte)],
            ),
            _ => Ok(()),
        }
    }
}

/// Numbers of a step by the names that TensorBoard shows.
fn scalars(step: &Step) -> Vec<(&'static str, f64)> {
    let mut values = vec![
        ("train/loss", step.loss),
        ("train/learning_rate", step.lr),
        ("train/weight_decay", step.weight_decay),
        ("train/gradient_norm", step.gradient_norm),
        ("train/tokens_per_second", watch::rate(step)),
    ];
    values.extend(step.distillation.map(|added| ("train/distillation", added)));
    let mean = |of: fn(&Codes) -> f64| step.layers.iter().map(of).sum::<f64>() / step.layers.len() as f64;
    if !step.layers.is_empty() {
        values.extend([("codes/density", mean(|c| c.density)), ("codes/flips", mean(|c| c.flips))]);
    }
    values
}
