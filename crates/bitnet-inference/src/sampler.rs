//! Picks tokens: a function of a row of logits, the tokens so far, the parameters and the random stream.
//!
//! Penalties, then the bias, change logits; top-k, top-p and min-p drop the tail; the temperature shapes what
//! is left, and one number in `[0, 1)` picks from it. Defaults and order are llama.cpp's, which however adds
//! the bias before the penalties. Probabilities are `f64`, and `exp` and `log` come from `libm`, so that
//! every platform picks the same token.

mod params;
mod penalties;
mod ranked;

pub use params::SamplingParams;

use crate::error::{Error, Result};
use crate::event::TokenLogprob;
use bitnet_core::random::Rng;
use ranked::Ranked;

/// The scratch memory of sampling; carries nothing from one call to the next.
#[derive(Debug, Default)]
pub struct Sampler {
    row: Vec<f32>,
    window: Vec<u32>,
    ranked: Ranked,
}

impl Sampler {
    /// Picks the token after `history`, which is the prompt and everything generated.
    ///
    /// Temperature 0 takes the largest logit, the lowest token of equal ones, and draws nothing. Otherwise
    /// exactly one number is drawn from `rng`, and walks the candidates from the likeliest on.
    ///
    /// `params` are [valid](SamplingParams::validate).
    ///
    /// # Errors
    /// [`Error::LogitNotFinite`], and [`Error::NoCandidate`] when the bias leaves no token.
    pub fn pick(
        &mut self,
        logits: &[f32],
        history: &[u32],
        params: &SamplingParams,
        rng: &mut Rng,
    ) -> Result<u32> {
        check_finite(logits)?;
        self.row.clear();
        self.row.extend_from_slice(logits);
        penalties::apply(&mut self.row, history, params, &mut self.window);
        penalties::bias(&mut self.row, params);
        if params.temperature == 0.0 {
            return argmax(&self.row).ok_or(Error::NoCandidate);
        }
        match params.top_k {
            0 => self.ranked.fill(&self.row),
            k => self.ranked.fill_best(&self.row, k),
        }
        self.keep_top_p(params.top_p);
        self.keep_min_p(params.min_p);
        self.draw(params.temperature, rng)
    }

    /// The log-probability of `token` under the softmax of `logits`, and the `n` best tokens, best first.
    ///
    /// # Errors
    /// [`Error::LogitNotFinite`].
    pub fn score(
        &mut self,
        logits: &[f32],
        token: u32,
        n: usize,
    ) -> Result<(TokenLogprob, Vec<TokenLogprob>)> {
        check_finite(logits)?;
        let norm = log_sum_exp(logits);
        let score = |token, logit: f32| TokenLogprob { token, logprob: f64::from(logit) - norm };
        let mut top = Vec::new();
        if n > 0 {
            self.ranked.fill_best(logits, n);
            top.extend(self.ranked.items().iter().map(|c| score(c.token, c.logit)));
        }
        Ok((score(token, logits[token as usize]), top))
    }

    /// Keeps the likeliest candidates until their probabilities add up to `p`.
    fn keep_top_p(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let enough = f64::from(p) * self.ranked.total(1.0);
        let (mut sum, mut kept) = (0.0, 0);
        while sum < enough
            && let Some(candidate) = self.ranked.get(kept)
        {
            sum += self.ranked.weight(candidate, 1.0);
            kept += 1;
        }
        self.ranked.truncate(kept);
    }

    /// Keeps the candidates that are at least `p` times as likely as the likeliest.
    fn keep_min_p(&mut self, p: f32) {
        if p <= 0.0 {
            return;
        }
        let mut kept = 0;
        while let Some(candidate) = self.ranked.get(kept)
            && self.ranked.weight(candidate, 1.0) >= f64::from(p)
        {
            kept += 1;
        }
        self.ranked.truncate(kept);
    }

    fn draw(&mut self, temperature: f32, rng: &mut Rng) -> Result<u32> {
        let mut left = rng.next_f64() * self.ranked.total(temperature);
        let (mut token, mut next) = (None, 0);
        while let Some(candidate) = self.ranked.get(next) {
            let weight = self.ranked.weight(candidate, temperature);
            if weight > 0.0 {
                token = Some(candidate.token);
            }
            if left < weight {
                break;
            }
            left -= weight;
            next += 1;
        }
        token.ok_or(Error::NoCandidate)
    }
}

/// `ln(sum(exp(logits)))`, taken relative to the largest so that nothing overflows.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - max)).sum();
    max + libm::log(sum)
}

fn check_finite(logits: &[f32]) -> Result<()> {
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(at) => Err(Error::LogitNotFinite { token: at as u32, value: logits[at] }),
        None => Ok(()),
    }
}

fn argmax(row: &[f32]) -> Option<u32> {
    let mut best = (None, f32::NEG_INFINITY);
    for (token, &logit) in row.iter().enumerate() {
        if logit > best.1 {
            best = (Some(token as u32), logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::{Rng, Sampler, SamplingParams};
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

    fn params() -> impl Strategy<Value = SamplingParams> {
        let cuts = (prop_oneof![Just(0.0), 0.2..2f32], 0..12usize, 0.3..1f32, 0.0..0.3f32);
        let penalties = (prop_oneof![Just(1.0), 0.9..1.5f32], 0..20usize, -0.1..1f32, 0.0..0.5f32);
        let bias =
            prop::collection::btree_map(0..64u32, prop_oneof![Just(f32::NEG_INFINITY), -4.0..0.2f32], 0..5);
        (cuts, penalties, bias, any::<u64>()).prop_map(|(cuts, penalties, logit_bias, seed)| SamplingParams {
            temperature: cuts.0,
            top_k: cuts.1,
            top_p: cuts.2,
            min_p: cuts.3,
            repeat_penalty: penalties.0,
            repeat_last_n: penalties.1,
            presence_penalty: penalties.2,
            frequency_penalty: penalties.3,
            logit_bias,
            seed,
        })
    }

    proptest! {
        #[test]
        fn logits_that_decide_nothing_may_be_anything_small(
            params in params(),
            // Halves, so that many are alike.
            logits in prop::collection::vec((-12..12i8).prop_map(|x| f32::from(x) / 2.0), 64),
            history in prop::collection::vec(0..64u32, 0..30),
        ) {
            let Some(decisive) = params.decisive_logits(history.len()) else { return Ok(()) };
            let mut order = logits.clone();
            order.sort_by(|a, b| b.total_cmp(a));
            let least = order[decisive.min(64) - 1];
            let some: Vec<f32> = logits.iter().map(|&x| if x >= least { x } else { f32::MIN }).collect();
            let pick = |logits: &[f32]| {
                let mut rng = Rng::new(params.seed);
                (0..8).map(|_| Sampler::default().pick(logits, &history, &params, &mut rng).unwrap()).collect::<Vec<_>>()
            };
            prop_assert_eq!(pick(&some), pick(&logits));
        }
    }
}
