//! What a person sees of a training run: a bar and lines, or the dashboard.

use crate::{
    dashboard::{Dashboard, State},
    ui::Ui,
};
use anyhow::{Result, ensure};
use bitnet_training::{
    Trainer,
    evaluate::Evaluation,
    log,
    progress::{Event, Step},
};
use indicatif::ProgressBar;

/// How a run is shown.
pub(crate) enum Watch<'a> {
    Lines(&'a Ui, ProgressBar),
    Dashboard(Dashboard),
}

/// Refuses a dashboard where there is no terminal for it.
pub(crate) fn check(dashboard: bool, ui: &Ui) -> Result<()> {
    ensure!(
        !dashboard || ui.is_terminal(),
        "--dashboard draws on a terminal, and stderr is none; leave it out (and unset BITNET_DASHBOARD), \
        or send stderr to a terminal"
    );
    Ok(())
}

impl<'a> Watch<'a> {
    /// Begins to show a run, whose log is open.
    pub(crate) fn new(trainer: &Trainer, dashboard: bool, ui: &'a Ui) -> Result<Self> {
        let training = &trainer.config().training;
        if dashboard {
            let lines = log::read(&training.out.join(log::FILE))?;
            return Ok(Self::Dashboard(Dashboard::open(State::new(trainer, &lines), ui.has_color())?));
        }
        let bar = ui.progress("training", training.steps, false);
        bar.set_position(trainer.step_count());
        bar.reset_eta();
        Ok(Self::Lines(ui, bar))
    }

    /// Shows the numbers of an event.
    pub(crate) fn event(&self, event: &Event) {
        match (self, event) {
            (Self::Dashboard(dashboard), _) => dashboard.event(event),
            (Self::Lines(_, bar), Event::Step(step)) => {
                bar.set_position(step.step);
                bar.set_message(format!("loss {:.4} · {:.0} tok/s", step.loss, rate(step)));
            }
            _ => {}
        }
    }

    /// Shows a text.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Lines(ui, bar) => bar.suspend(|| ui.line(text)),
            Self::Dashboard(dashboard) => dashboard.say(text),
        }
    }

    /// Leaves the terminal to what is said after the run.
    pub(crate) fn close(&mut self) {
        match self {
            Self::Lines(_, bar) => bar.finish_and_clear(),
            Self::Dashboard(dashboard) => dashboard.close(),
        }
    }
}

/// Tokens a second of a step.
pub(crate) fn rate(step: &Step) -> f64 {
    step.tokens as f64 / step.seconds.max(1e-9)
}

/// What is said of an evaluation.
pub(crate) fn evaluated(step: u64, evaluation: &Evaluation, best: bool) -> String {
    let best = if best { ", the best so far" } else { "" };
    format!(
        "step {step}: {:.4} nats a token, {:.4} bits a byte{best}",
        evaluation.nats, evaluation.bits_per_byte
    )
}

/// What is said of a step that was not made.
pub(crate) fn skipped(step: u64, what: &str) -> String {
    format!("step {step}: the {what} is not finite; the weights stay as they are")
}

/// What the model wrote after a step.
pub(crate) fn written(step: u64, text: &str) -> String {
    format!("step {step} writes: {}", text.trim())
}
