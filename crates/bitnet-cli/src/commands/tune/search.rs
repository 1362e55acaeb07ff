//! The fastest number of threads, by measuring all in turns.

use crate::commands::bench::{Pass, median};
use anyhow::Result;
use bitnet_core::device::ThreadCounts;
use bitnet_inference::{LanguageModel, local::LocalModel};
use bitnet_model::batch::{BLOCK_LEN, Logits};
use std::time::{Duration, Instant};

/// Positions of the cache that a search needs, where the model has as many.
pub(super) const CONTEXT: usize = 640;
/// Positions before the tokens that are decoded.
const DEPTH: usize = CONTEXT / 5;
/// Seconds that a sample of the default takes, or a little more.
const SAMPLE: f64 = 0.1;
/// Rounds that a decision needs at least, and that are enough for one.
const ROUNDS: [usize; 2] = [5, 40];
/// A number of threads that takes this often the time of the default is out after the first round, or after some.
const HOPELESS: [f64; 2] = [2.0, 1.3];
/// The least share of the time that has to be saved.
const WORTH: f64 = 0.02;
/// Standard errors that a difference has to exceed, because several numbers are compared.
const ERRORS: f64 = 3.0;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Decode,
    Prefill,
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Prefill => "prefill",
        }
    }

    fn pass(self, tokens: usize, context: usize) -> Pass {
        let (start, chunk) = if self == Self::Decode { (depth(context), 1) } else { (0, tokens) };
        Pass { start, tokens, chunk, sequences: 1, blocks: context.div_ceil(BLOCK_LEN), logits: Logits::Last }
    }
}

fn depth(context: usize) -> usize {
    DEPTH.min(context / 5)
}

/// A number of threads, and the seconds a token of each round that it was part of.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) threads: usize,
    pub(super) seconds: Vec<f64>,
    out: bool,
}

/// How the time of a number of threads compares to that of the default, measured in the same rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    pub(super) median: f64,
    /// How far from 1 it has to be to count.
    pub(super) margin: f64,
}

impl Ratio {
    fn of(seconds: &[f64], default: &[f64]) -> Self {
        let ratios: Vec<f64> = seconds.iter().zip(default).map(|(a, b)| a / b).collect();
        let middle = median(&ratios);
        let deviations: Vec<f64> = ratios.iter().map(|ratio| (ratio - middle).abs()).collect();
        // 1.4826 makes a standard deviation of the median deviation, 1.2533 the error of a median of it, if errors are normal.
        let error = 1.2533 * 1.4826 * median(&deviations) / (ratios.len() as f64).sqrt();
        Self { median: middle, margin: WORTH.max(ERRORS * error) }
    }

    fn is_faster(self) -> bool {
        self.median < 1.0 - self.margin
    }
}

/// All numbers of threads for one kind of step.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) step: Step,
    /// Tokens of a sample.
    tokens: usize,
    pub(super) default: usize,
    pub(super) candidates: Vec<Candidate>,
}

impl Trial {
    fn new(step: Step, tokens: usize, default: usize, threads: &[usize]) -> Self {
        let candidate = |&threads| Candidate { threads, seconds: Vec::new(), out: false };
        Self { step, tokens, default, candidates: threads.iter().map(candidate).collect() }
    }

    fn baseline(&self) -> &[f64] {
        let default = self.candidates.iter().find(|candidate| candidate.threads == self.default);
        &default.expect("the default is a candidate").seconds
    }

    pub(super) fn ratio(&self, candidate: &Candidate) -> Ratio {
        Ratio::of(&candidate.seconds, self.baseline())
    }

    /// The number that is clearly faster than the default, or else the default.
    pub(super) fn best(&self) -> usize {
        let faster = self
            .candidates
            .iter()
            .filter(|candidate| candidate.seconds.len() >= ROUNDS[0] && self.ratio(candidate).is_faster());
        let best = faster.min_by(|a, b| f64::total_cmp(&self.ratio(a).median, &self.ratio(b).median));
        best.map_or(self.default, |candidate| candidate.threads)
    }

    /// Measures every number that is not out, beginning with another one in each round.
    fn round(&mut self, model: &mut LocalModel, round: usize) -> Result<()> {
        let len = self.candidates.len();
        for i in 0..len {
            let candidate = &mut self.candidates[(round + i) % len];
            if !candidate.out {
                candidate.seconds.push(seconds(model, self.step, self.tokens, candidate.threads)?);
            }
        }
        let limit = HOPELESS[usize::from(round + 1 >= ROUNDS[0])];
        let hopeless: Vec<bool> =
            self.candidates.iter().map(|candidate| self.ratio(candidate).median > limit).collect();
        for (candidate, hopeless) in self.candidates.iter_mut().zip(hopeless) {
            candidate.out |= hopeless;
        }
        Ok(())
    }
}

/// Seconds a token.
fn seconds(model: &mut LocalModel, step: Step, tokens: usize, threads: usize) -> Result<f64> {
    model.device().set_threads(ThreadCounts { decode: Some(threads), batch: Some(threads) });
    let begin = Instant::now();
    step.pass(tokens, model.context_length()).run(model)?;
    Ok(begin.elapsed().as_secs_f64() / tokens as f64)
}

/// Tries all `threads`, one of which is the default, until the deadline, or longer where a decision needs it.
pub(super) fn search(
    model: &mut LocalModel,
    default: usize,
    threads: &[usize],
    deadline: Instant,
    progress: impl Fn(),
) -> Result<Vec<Trial>> {
    let context = model.context_length();
    let (depth, room) = (depth(context).max(1), context - depth(context));
    // Brings weights into memory and fills the positions before the decoded ones.
    seconds(model, Step::Prefill, depth, default)?;
    let each = |model: &mut LocalModel, step, tokens: usize| seconds(model, step, tokens.min(room), default);
    let (prompt, token) = (each(model, Step::Prefill, 32)?, each(model, Step::Decode, 4)?);
    let enough = |each: f64, least: usize| ((SAMPLE / each) as usize).max(least).min(room);
    let mut trials = vec![
        Trial::new(Step::Decode, enough(token, 2), default, threads),
        Trial::new(Step::Prefill, enough(prompt, 32), default, threads),
    ];
    for round in 0..ROUNDS[1] {
        let begin = Instant::now();
        for trial in &mut trials {
            trial.round(model, round)?;
            progress();
        }
        if round + 1 >= ROUNDS[0] && begin.elapsed() > deadline.saturating_duration_since(Instant::now()) {
            break;
        }
    }
    Ok(trials)
}

/// Numbers of threads that are worth a try: powers of two and the numbers half way between, those of the physical cores and one less, all.
pub(super) fn numbers(physical: usize, usable: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1usize), |n| n.checked_mul(2)).take_while(|&n| n <= usable);
    let mut numbers: Vec<usize> =
        powers.flat_map(|n| [n, n + n / 2]).chain([physical, physical - 1, usable]).collect();
    numbers.retain(|n| (1..=usable).contains(n));
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Until when to measure.
pub(super) fn deadline(begin: Instant, seconds: u16) -> Instant {
    begin + Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(samples: &[(usize, [f64; 6])]) -> Trial {
        let threads: Vec<usize> = samples.iter().map(|(threads, _)| *threads).collect();
        let mut trial = Trial::new(Step::Decode, 1, 2, &threads);
        for (candidate, (_, seconds)) in trial.candidates.iter_mut().zip(samples) {
            candidate.seconds = seconds.to_vec();
        }
        trial
    }

    #[test]
    fn what_is_clearly_faster_is_taken_even_where_the_machine_changes_its_pace() {
        let default = [1.0, 2.0, 1.1, 3.0, 1.0, 1.5];
        let faster = default.map(|seconds| 0.9 * seconds);
        let fastest = default.map(|seconds| 0.8 * seconds);
        assert_eq!(trial(&[(1, faster), (2, default), (4, fastest)]).best(), 4);
    }

    #[test]
    fn differences_within_the_noise_leave_the_default() {
        let noisy = [0.7, 1.3, 0.9, 1.2, 0.8, 0.96];
        assert_eq!(trial(&[(1, noisy), (2, [1.0; 6]), (3, [0.985; 6])]).best(), 2);
    }

    #[test]
    fn a_few_rounds_decide_nothing() {
        let mut trial = trial(&[(1, [0.5; 6]), (2, [1.0; 6])]);
        assert_eq!(trial.best(), 1);
        trial.candidates.iter_mut().for_each(|candidate| candidate.seconds.truncate(4));
        assert_eq!(trial.best(), 2);
    }

    #[test]
    fn numbers_are_those_of_the_machine() {
        assert_eq!(numbers(1, 1), [1]);
        assert_eq!(numbers(2, 2), [1, 2]);
        assert_eq!(numbers(4, 8), [1, 2, 3, 4, 6, 8]);
        assert_eq!(numbers(28, 28), [1, 2, 3, 4, 6, 8, 12, 16, 24, 27, 28]);
    }
}
