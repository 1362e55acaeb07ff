//! What one forward pass takes: a ragged batch of token runs.

/// Positions that one KV block holds. Attention works through a sequence in these blocks, counted from position 0.
pub const BLOCK_LEN: usize = 32;

/// Which rows of a span the caller wants logits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// No row: the middle of a chunked prefill.
    None,
    /// The last row: what the next token is sampled from.
    Last,
    /// Every row: perplexity and prompt log-probabilities.
    All,
}

/// A run of new tokens of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of new tokens.
    pub len: usize,
    /// Position of the first new token; everything before it is in the cache.
    pub start: usize,
    /// KV blocks of the sequence, in order of position; covers `start + len` positions.
    pub blocks: Vec<u32>,
    /// Rows to return logits for.
    pub logits: Logits,
    /// How many of the largest logits of each of these rows matter, all where it is `None`; any other may be `f32::MIN`.
    pub largest: Option<usize>,
}

impl Span {
    /// Number of logits rows that this span asks for.
    pub fn logits_rows(&self) -> usize {
        match self.logits {
            Logits::None => 0,
            Logits::Last => usize::from(self.len > 0),
            Logits::All => self.len,
        }
    }
}

/// Tokens of several sequences, ragged: training rows, prefill chunks and decode steps have this one shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// New tokens of all spans, one span after the other.
    pub tokens: Vec<u32>,
    /// The runs that `tokens` is made of.
    pub spans: Vec<Span>,
}

impl Batch {
    /// Adds a run of tokens, all of whose logits matter.
    pub fn push(&mut self, tokens: &[u32], start: usize, blocks: Vec<u32>, logits: Logits) {
        self.tokens.extend_from_slice(tokens);
        self.spans.push(Span { len: tokens.len(), start, blocks, logits, largest: None });
    }

    /// How many of the largest logits matter of each row that is asked for; `None` where all of any row do.
    pub fn largest(&self) -> Option<Vec<usize>> {
        let rows = self.spans.iter().flat_map(|span| std::iter::repeat_n(span.largest, span.logits_rows()));
        rows.collect()
    }

    /// Number of logits rows that the batch asks for, over all spans.
    pub fn logits_rows(&self) -> usize {
        self.spans.iter().map(Span::logits_rows).sum()
    }
}
