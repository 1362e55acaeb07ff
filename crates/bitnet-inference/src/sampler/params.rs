//! The parameters of sampling.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// How tokens are picked; the default is llama.cpp's, with seed 0.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits of the candidates; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Keeps this many likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest tokens until their probabilities add up to this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies other logits of tokens seen in the last `repeat_last_n`; 1 changes
    /// nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens, with those of the prompt, the three penalties look at; 0 disables them
    /// and `usize::MAX` takes all.
    pub repeat_last_n: usize,
    /// Subtracted from the logit of every token seen.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token as often as it was seen.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens; negative infinity excludes a token.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Selects the random stream: the same request with the same seed gives the same tokens.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

impl SamplingParams {
    /// Always the likeliest token, without penalties.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks that every parameter has a meaning.
    ///
    /// # Errors
    /// [`Error::Parameter`] names the first that has none.
    pub fn validate(&self) -> Result<()> {
        let Self { temperature, top_p, min_p, repeat_penalty, .. } = *self;
        let checks = [
            ("temperature", "a finite number >= 0", temperature, temperature >= 0.0),
            ("top_p", "a number in (0, 1]", top_p, top_p > 0.0 && top_p <= 1.0),
            ("min_p", "a number in [0, 1]", min_p, (0.0..=1.0).contains(&min_p)),
            ("repeat_penalty", "a finite number > 0", repeat_penalty, repeat_penalty > 0.0),
            ("presence_penalty", "a finite number", self.presence_penalty, true),
            ("frequency_penalty", "a finite number", self.frequency_penalty, true),
        ];
        for (name, expected, value, in_range) in checks {
            if !(in_range && value.is_finite()) {
                return Err(Error::parameter(name, expected, value));
            }
        }
        let meaningless = |bias: &&f32| bias.is_nan() || **bias == f32::INFINITY;
        match self.logit_bias.values().find(meaningless) {
            Some(bias) => Err(Error::parameter("logit_bias", "finite numbers or -inf", bias)),
            None => Ok(()),
        }
    }

    /// How many of the largest logits decide what is picked after at most `history` tokens, whatever the others are; `None` where all do.
    ///
    /// Where penalties and bias only ever lower a logit, those kept are among as many as are kept and lowered.
    pub(crate) fn decisive_logits(&self, history: usize) -> Option<usize> {
        let kept = if self.temperature == 0.0 { 1 } else { self.top_k };
        let penalties = [self.repeat_penalty - 1.0, self.presence_penalty, self.frequency_penalty];
        let lowers = penalties.iter().all(|&p| p >= 0.0) && self.logit_bias.values().all(|&bias| bias <= 0.0);
        let penalized = if self.penalizes() { self.repeat_last_n.min(history) } else { 0 };
        (kept > 0 && lowers).then(|| kept.saturating_add(penalized).saturating_add(self.logit_bias.len()))
    }

    pub(super) fn penalizes(&self) -> bool {
        self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}
