//! Candidates in order of their logits, sorted only as far as anyone looks.

use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub token: u32,
    pub logit: f32,
}

impl Candidate {
    /// Falling logits, and of equal ones the lower token first.
    fn rank(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

/// How many candidates the first look sorts; every further one doubles it.
const FIRST_LOOK: usize = 128;

/// The tokens of a row that may be picked. Either all in order of tokens, or the first `sorted` ranked.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    items: Vec<Candidate>,
    sorted: usize,
    max: f32,
}

impl Ranked {
    /// Takes every token of `row` that is not excluded.
    pub fn fill(&mut self, row: &[f32]) {
        self.items.clear();
        self.items.extend(candidates(row));
        self.sorted = 0;
        self.max = self.items.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
    }

    /// Takes the `k` likeliest tokens of `row`, ranked.
    pub fn fill_best(&mut self, row: &[f32], k: usize) {
        let k = k.min(row.len());
        self.items.clear();
        let mut threshold = f32::NEG_INFINITY;
        for candidate in candidates(row) {
            // Tokens rise, so that a later one of equal logit never displaces an earlier one.
            if candidate.logit > threshold {
                self.items.push(candidate);
                if self.items.len() == k.saturating_mul(2) {
                    threshold = self.items.select_nth_unstable_by(k - 1, Candidate::rank).1.logit;
                    self.items.truncate(k);
                }
            }
        }
        self.items.sort_unstable_by(Candidate::rank);
        self.items.truncate(k);
        self.sorted = self.items.len();
        self.max = self.items.first().map_or(f32::NEG_INFINITY, |c| c.logit);
    }

    pub fn items(&self) -> &[Candidate] {
        &self.items
    }

    /// The candidate of rank `index`.
    pub fn get(&mut self, index: usize) -> Option<Candidate> {
        if index >= self.sorted && index < self.items.len() {
            self.sort_to((2 * self.sorted).max(FIRST_LOOK).max(index + 1));
        }
        self.items.get(index).copied()
    }

    /// Keeps the first `n`, which have been looked at.
    pub fn truncate(&mut self, n: usize) {
        debug_assert!(n <= self.sorted || n >= self.items.len());
        self.items.truncate(n);
        self.sorted = self.sorted.min(n);
    }

    /// `exp((logit - max) / temperature)`: the probability relative to the likeliest.
    pub fn weight(&self, candidate: Candidate, temperature: f32) -> f64 {
        libm::exp((f64::from(candidate.logit) - f64::from(self.max)) / f64::from(temperature))
    }

    /// Sum of all weights, in order of tokens before the first look and of ranks once everything is sorted.
    pub fn total(&self, temperature: f32) -> f64 {
        debug_assert!(self.sorted == 0 || self.sorted == self.items.len());
        self.items.iter().map(|&candidate| self.weight(candidate, temperature)).sum()
    }

    fn sort_to(&mut self, end: usize) {
        let end = end.min(self.items.len());
        let rest = &mut self.items[self.sorted..];
        let n = end - self.sorted;
        if n < rest.len() {
            rest.select_nth_unstable_by(n, Candidate::rank);
        }
        rest[..n].sort_unstable_by(Candidate::rank);
        self.sorted = end;
    }
}

fn candidates(row: &[f32]) -> impl Iterator<Item = Candidate> + '_ {
    let tokens = row.iter().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY);
    // Adding zero turns -0 into 0, which `total_cmp` tells apart.
    tokens.map(|(token, logit)| Candidate { token: token as u32, logit: logit + 0.0 })
}
