//! The log of a run: a line of JSON for every step and evaluation, so that any program can draw it.

use crate::{
    Error, Result,
    evaluate::Evaluation,
    progress::{Event, Step},
};
use bitnet_core::interchange::atomic::atomic_write;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// Name of the log in the output folder.
pub const FILE: &str = "log.jsonl";

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// An update of the weights.
    Step(Step),
    /// Losses on what is held out.
    Evaluation {
        /// After so many steps.
        step: u64,
        /// What was found.
        #[serde(flatten)]
        evaluation: Evaluation,
    },
    /// What the model wrote.
    Sample {
        /// After so many steps.
        step: u64,
        /// Prompt and continuation.
        text: String,
    },
    /// A step that was not made.
    Skipped {
        /// Which step.
        step: u64,
        /// Loss or gradient.
        what: String,
    },
}

impl Line {
    fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Step(step) => Self::Step(step.clone()),
            Event::Evaluated { step, evaluation, .. } => {
                Self::Evaluation { step: *step, evaluation: *evaluation }
            }
            Event::Skipped { step, what } => Self::Skipped { step: *step, what: (*what).to_owned() },
            Event::Saved { .. } => return None,
        })
    }

    /// The step that it is about.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(step) => step.step,
            Self::Evaluation { step, .. } | Self::Sample { step, .. } | Self::Skipped { step, .. } => *step,
        }
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Continues the log of an output folder after `step` steps; what came later is forgotten.
    ///
    /// # Errors
    /// Where the folder or the log cannot be written.
    pub fn open(out: &Path, step: u64) -> Result<Self> {
        fs::create_dir_all(out).map_err(Error::io(out))?;
        let path = out.join(FILE);
        let mut text = String::new();
        for line in read(&path)?.iter().filter(|line| line.step() <= step) {
            text += &json(line);
        }
        atomic_write(&path, |file| file.write(text.as_bytes()))?;
        let file = File::options().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }

    /// Appends what happened.
    ///
    /// # Errors
    /// Where the log cannot be written.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        Line::of(event).map_or(Ok(()), |line| self.append(&line))
    }

    /// Appends what the model wrote after `step` steps.
    ///
    /// # Errors
    /// Where the log cannot be written.
    pub fn sample(&mut self, step: u64, text: &str) -> Result<()> {
        self.append(&Line::Sample { step, text: text.into() })
    }

    fn append(&mut self, line: &Line) -> Result<()> {
        self.file.write_all(json(line).as_bytes()).map_err(Error::io(&self.path))
    }
}

fn json(line: &Line) -> String {
    serde_json::to_string(line).expect("a line can be written") + "\n"
}

/// The lines of a log, none where there is no file. A line that was cut when the program ended is left out.
///
/// # Errors
/// Where the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Event {
        Event::Step(Step {
            step,
            loss: 1.5,
            distillation: None,
            lr: 1e-3,
            weight_decay: 0.1,
            gradient_norm: 0.5,
            tokens: 64,
            seconds: 0.1,
            layers: Vec::new(),
        })
    }

    #[test]
    fn a_continued_log_forgets_what_came_after_the_checkpoint() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut log = Log::open(dir.path(), 0).unwrap();
        (1..=5).for_each(|i| log.write(&step(i)).unwrap());
        let evaluation = Evaluation { nats: 1.0, bits_per_byte: 1.4, tokens: 10 };
        log.write(&Event::Evaluated { step: 5, evaluation, best: true }).unwrap();
        fs::write(dir.path().join("other"), "").unwrap();
        drop(log);
        let path = dir.path().join(FILE);
        let cut = fs::read_to_string(&path).unwrap() + "{\"event\":\"step\",\"st";
        fs::write(&path, cut).unwrap();
        let mut log = Log::open(dir.path(), 3).unwrap();
        log.write(&step(4)).unwrap();
        let steps: Vec<u64> = read(&path).unwrap().iter().map(Line::step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }
}
