//! What the dashboard shows of a run.

use super::series::Series;
use crate::{ui::printable, watch};
use bitnet_training::{
    Trainer,
    evaluate::Evaluation,
    log::Line,
    progress::{Codes, Event, Step},
};
use std::{collections::VecDeque, time::Duration};

/// Messages that are kept.
const MESSAGES: usize = 100;
/// Weight of the last step in the rate that is shown.
const NEW: f64 = 0.1;

/// A run as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Output folder and size.
    pub(super) title: String,
    /// Steps of the run.
    pub(super) total: u64,
    /// Steps that were made.
    pub(super) step: u64,
    /// Steps that were made before this was shown.
    first: u64,
    /// Since this is shown.
    pub(super) elapsed: Duration,
    /// Whether the run ends after this step.
    pub(super) stopping: bool,
    pub(super) loss: Series,
    pub(super) held_out: Series,
    pub(super) lr: Series,
    pub(super) gradient_norm: Series,
    /// Tokens a second, smoothed.
    pub(super) rate: Option<f64>,
    /// Codes of the layers in the last step that says them.
    pub(super) layers: Vec<Codes>,
    /// The newest first.
    pub(super) messages: VecDeque<String>,
}

impl State {
    /// A run that begins or goes on after the lines of its log.
    pub(crate) fn new(trainer: &Trainer, log: &[Line]) -> Self {
        let training = &trainer.config().training;
        let title =
            format!("{} · {} parameters", training.out.display(), trainer.decoder().config.parameters());
        let mut state = Self::at(printable(&title), trainer.step_count(), training.steps);
        state.read(log);
        state
    }

    /// A run of which `step` of `total` steps were made.
    pub(super) fn at(title: String, step: u64, total: u64) -> Self {
        Self { title, total, step, first: step, ..Self::default() }
    }

    /// Takes what a log says.
    pub(super) fn read(&mut self, log: &[Line]) {
        let mut least = f64::INFINITY;
        for line in log {
            match line {
                Line::Step(step) => self.made(step),
                Line::Evaluation { step, evaluation } => {
                    self.evaluated(*step, evaluation);
                    self.say(&watch::evaluated(*step, evaluation, evaluation.nats < least));
                    least = least.min(evaluation.nats);
                }
                Line::Sample { step, text } => self.say(&watch::written(*step, text)),
                Line::Skipped { step, what } => self.say(&watch::skipped(*step, what)),
            }
        }
        self.rate = None;
    }

    /// Takes the numbers of an event.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Step(step) => self.made(step),
            Event::Evaluated { step, evaluation, .. } => self.evaluated(*step, evaluation),
            Event::Skipped { step, .. } => self.step = *step,
            Event::Saved { step, path } => {
                let name = path.file_name().unwrap_or_default();
                self.say(&format!("step {step}: {} is saved", name.display()));
            }
        }
    }

    fn made(&mut self, step: &Step) {
        self.step = step.step;
        self.loss.push(step.step, step.loss);
        self.lr.push(step.step, step.lr);
        self.gradient_norm.push(step.step, step.gradient_norm);
        let rate = watch::rate(step);
        self.rate = Some(self.rate.map_or(rate, |before| before + NEW * (rate - before)));
        if !step.layers.is_empty() {
            self.layers.clone_from(&step.layers);
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation) {
        self.held_out.push(step, evaluation.nats);
    }

    /// Takes a message, of one line or several.
    pub(super) fn say(&mut self, text: &str) {
        self.messages.push_front(printable(text));
        self.messages.truncate(MESSAGES);
    }

    /// The mean over layers of a share of their codes.
    pub(super) fn mean(&self, of: fn(&Codes) -> f64) -> Option<f64> {
        let sum: f64 = self.layers.iter().map(of).sum();
        (!self.layers.is_empty()).then(|| sum / self.layers.len() as f64)
    }

    /// Time until the last step, at the pace since this is shown.
    pub(super) fn left(&self) -> Option<Duration> {
        let made = self.step.checked_sub(self.first).filter(|made| *made > 0)?;
        let share = self.total.saturating_sub(self.step) as f64 / made as f64;
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * share).ok()
    }
}
