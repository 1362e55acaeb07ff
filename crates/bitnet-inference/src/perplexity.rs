//! How well a model predicts a text: mean negative log-likelihood in nats a token.

use crate::LanguageModel;
use bitnet_model::batch::{BLOCK_LEN, Batch, Logits};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Tokens of one forward pass: bounds the logits that are in memory at a time.
const CHUNK: usize = 64;

/// Which positions of a window are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Every position; windows overlap by the one token that is predicted across their border.
    Full,
    /// The second half of every window, whose first token is replaced by the beginning-of-text token, as
    /// llama.cpp's `llama-perplexity` does.
    LlamaCpp,
}

/// Negative log-likelihoods so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nll {
    /// In nats.
    pub sum: f64,
    /// Sum of squares, for the standard error.
    pub squares: f64,
    /// Tokens that were scored.
    pub tokens: usize,
}

impl Nll {
    /// Nats a token.
    pub fn mean(self) -> f64 {
        self.sum / self.tokens as f64
    }

    /// e to the mean.
    pub fn perplexity(self) -> f64 {
        self.mean().exp()
    }

    /// Standard error of the mean.
    pub fn standard_error(self) -> f64 {
        let n = self.tokens as f64;
        ((self.squares / n - self.mean().powi(2)).max(0.0) / (n - 1.0).max(1.0)).sqrt()
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            tokens: self.tokens + other.tokens,
        }
    }

    fn add(&mut self, nats: f64) {
        self.sum += nats;
        self.squares += nats * nats;
        self.tokens += 1;
    }
}

/// Windows of `context` tokens that a text is cut into.
pub fn windows(tokens: usize, context: usize, protocol: Protocol) -> usize {
    match protocol {
        Protocol::Full => tokens.saturating_sub(1) / context,
        Protocol::LlamaCpp => tokens / context,
    }
}

/// Scores window `index` of a text.
///
/// # Errors
/// What the model reports.
///
/// # Panics
/// Where the text has no such window.
pub fn score<M: LanguageModel + ?Sized>(
    model: &mut M,
    tokens: &[u32],
    index: usize,
    context: usize,
    protocol: Protocol,
    bos: Option<u32>,
) -> Result<Nll> {
    let start = index * context;
    match protocol {
        Protocol::Full => score_from(model, &tokens[start..=start + context], 0),
        Protocol::LlamaCpp => {
            let mut window = tokens[start..start + context].to_vec();
            if let Some(bos) = bos {
                window[0] = bos;
            }
            score_from(model, &window, context / 2)
        }
    }
}

/// Scores every token of a text after the first.
///
/// # Errors
/// What the model reports.
pub fn window<M: LanguageModel + ?Sized>(model: &mut M, tokens: &[u32]) -> Result<Nll> {
    score_from(model, tokens, 0)
}

/// Scores what positions from `first` on predict.
fn score_from<M: LanguageModel + ?Sized>(model: &mut M, tokens: &[u32], first: usize) -> Result<Nll> {
    let inputs = tokens.len() - 1;
    let blocks: Vec<u32> = (0..inputs.div_ceil(BLOCK_LEN) as u32).collect();
    let vocab = model.vocab_size();
    let mut nll = Nll::default();
    let mut logits = Vec::new();
    for start in (0..inputs).step_by(CHUNK) {
        let end = (start + CHUNK).min(inputs);
        let wanted = if end > first { Logits::All } else { Logits::None };
        let mut batch = Batch::default();
        batch.push(&tokens[start..end], start, blocks.clone(), wanted);
        logits.clear();
        model.forward(&batch, &mut logits)?;
        for (i, row) in logits.chunks(vocab).enumerate().filter(|(i, _)| start + i >= first) {
            nll.add(negative_log_likelihood(row, tokens[start + i + 1]));
        }
    }
    Ok(nll)
}

/// `log(sum(exp(row))) - row[token]` in f64.
fn negative_log_likelihood(row: &[f32], token: u32) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
    sum.ln() - f64::from(row[token as usize] - max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predicts the token after the last with logit 2, all others with 0.
    struct Successor(usize);

    impl LanguageModel for Successor {
        fn vocab_size(&self) -> usize {
            self.0
        }

        fn context_length(&self) -> usize {
            1024
        }

        fn kv_blocks(&self) -> usize {
            32
        }

        fn forward(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<()> {
            if batch.logits_rows() > 0 {
                for &token in &batch.tokens {
                    logits.extend(
                        (0..self.0).map(|v| if v == (token as usize + 1) % self.0 { 2.0 } else { 0.0 }),
                    );
                }
            }
            Ok(())
        }
    }

    #[test]
    fn a_text_that_the_model_expects_costs_the_log_of_its_probability() {
        let tokens: Vec<u32> = (0..=200).map(|i| i % 10).collect();
        let nll = window(&mut Successor(10), &tokens).unwrap();
        assert_eq!(nll.tokens, 200);
        assert!((nll.mean() - ((2f64.exp() + 9.0).ln() - 2.0)).abs() < 1e-9);
        assert!(nll.standard_error() < 1e-6);
    }

    #[test]
    fn the_protocols_score_every_position_or_the_second_half() {
        let tokens: Vec<u32> = (0..201).map(|i| i % 10).collect();
        assert_eq!(windows(201, 100, Protocol::Full), 2);
        let full = score(&mut Successor(10), &tokens, 1, 100, Protocol::Full, None).unwrap();
        let half = score(&mut Successor(10), &tokens, 1, 100, Protocol::LlamaCpp, None).unwrap();
        assert_eq!((full.tokens, half.tokens), (100, 49));
    }
}
