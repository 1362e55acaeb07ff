//! What is learnt from: token ids, and which of them count.

mod order;
#[cfg(feature = "parquet")]
mod parquet;
mod read;
mod tokenizer;

pub use order::{Order, Permutation};
pub use read::{CHARACTERS, read, tokenizer_of};
pub use tokenizer::{bpe, characters};

use crate::{Error, Result};
use bitnet_core::ops::cross_entropy::IGNORED;
use bitnet_model::{
    batch::{Batch, Logits},
    weights::FileSlice,
};
use sha2::{Digest, Sha256};
use std::{ops::Range, path::PathBuf};

/// Token ids of documents, one after the other.
#[derive(Clone, Debug)]
pub struct Corpus {
    path: PathBuf,
    tokens: Tokens,
    /// The part of the tokens that this corpus is.
    range: Range<usize>,
    /// Of each token whether it is learnt; all where there is none.
    counted: Option<Vec<bool>>,
}

#[derive(Clone, Debug)]
enum Tokens {
    Memory(Vec<u32>),
    /// Little-endian numbers in a file.
    Mapped {
        bytes: FileSlice,
        width: usize,
    },
}

impl Tokens {
    fn get(&self, range: Range<usize>) -> Vec<u32> {
        match self {
            Self::Memory(tokens) => tokens[range].to_vec(),
            Self::Mapped { bytes, width: 2 } => {
                let pairs = bytes[range.start * 2..range.end * 2].as_chunks::<2>().0;
                pairs.iter().map(|b| u32::from(u16::from_le_bytes(*b))).collect()
            }
            Self::Mapped { bytes, width } => {
                let ids = bytes[range.start * width..range.end * width].chunks(*width);
                // What does not fit into 32 bits is no token of any vocabulary.
                let id = |b: &[u8]| {
                    let high = b[4..].iter().any(|&b| b != 0);
                    if high { u32::MAX } else { u32::from_le_bytes([b[0], b[1], b[2], b[3]]) }
                };
                ids.map(id).collect()
            }
        }
    }
}

/// Windows of tokens as a forward pass takes them, and what is to come after each token.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The tokens.
    pub batch: Batch,
    /// The next token, or [`IGNORED`].
    pub targets: Vec<i64>,
}

impl Windows {
    /// Targets that count.
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }
}

impl Corpus {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Where it came from.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Some of its tokens.
    pub fn tokens(&self, range: Range<usize>) -> Vec<u32> {
        self.tokens.get(self.range.start + range.start..self.range.start + range.end)
    }

    /// Cuts off the last `fraction` as a corpus of its own.
    pub fn split(self, fraction: f64) -> (Self, Self) {
        let held_out = (self.len() as f64 * fraction).round() as usize;
        let middle = self.range.end - held_out;
        let second = Self { range: middle..self.range.end, ..self.clone() };
        (Self { range: self.range.start..middle, ..self }, second)
    }

    /// Refuses a corpus that a decoder of `vocab` tokens cannot learn in windows of `context`.
    ///
    /// # Errors
    /// Where there are too few tokens, one is outside of the vocabulary, or none counts.
    pub fn check(&self, vocab: usize, context: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::data(&self.path, reason));
        if self.is_empty() {
            return refuse("empty; there is nothing to learn from".into());
        }
        if self.len() <= context {
            return refuse(format!(
                "{} tokens are less than one window of {context} and the token after it; use a smaller data.context or more text",
                self.len()
            ));
        }
        const AT_A_TIME: usize = 1 << 20;
        for first in (0..self.len()).step_by(AT_A_TIME) {
            let tokens = self.tokens(first..self.len().min(first + AT_A_TIME));
            if let Some(at) = tokens.iter().position(|&id| id as usize >= vocab) {
                let (place, id) = (first + at, tokens[at]);
                return refuse(format!(
                    "token {place} is {id}, outside of the vocabulary of {vocab}; these are ids of another tokenizer"
                ));
            }
        }
        let counted = self.counted.as_ref().map(|c| &c[self.range.clone()]);
        if counted.is_some_and(|counted| counted[1..].iter().all(|counted| !counted)) {
            return refuse("no token counts: there is no answer of an assistant".into());
        }
        Ok(())
    }

    /// What identifies the tokens, as hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        const AT_A_TIME: usize = 1 << 20;
        let mut hash = Sha256::new();
        for first in (0..self.len()).step_by(AT_A_TIME) {
            let tokens = self.tokens(first..self.len().min(first + AT_A_TIME));
            let bytes: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        if let Some(counted) = &self.counted {
            let bytes: Vec<u8> = counted[self.range.clone()].iter().map(|&c| u8::from(c)).collect();
            hash.update(&bytes);
        }
        hex(&hash.finalize())
    }

    /// The windows that begin at these places, of `context` tokens each. A document begins with `separate`, where attention stays inside of
    /// documents.
    pub fn windows(&self, starts: &[usize], context: usize, separate: Option<u32>) -> Windows {
        let (mut batch, mut targets) = (Batch::default(), Vec::with_capacity(starts.len() * context));
        for &start in starts {
            let tokens = self.tokens(start..start + context + 1);
            let is_learnt = |i: usize| self.counted.as_ref().is_none_or(|c| c[self.range.start + start + i]);
            targets.extend((1..=context).map(|i| if is_learnt(i) { i64::from(tokens[i]) } else { IGNORED }));
            let mut first = 0;
            for i in 1..=context {
                if i == context || Some(tokens[i]) == separate {
                    batch.push(&tokens[first..i], 0, Vec::new(), Logits::All);
                    first = i;
                }
            }
        }
        Windows { batch, targets }
    }

    /// Number of windows that follow each other from the start.
    pub fn window_count(&self, context: usize) -> usize {
        self.len().saturating_sub(1) / context
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) fn corpus(tokens: Vec<u32>) -> Corpus {
    Corpus { path: "test".into(), range: 0..tokens.len(), tokens: Tokens::Memory(tokens), counted: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_predicts_the_token_after_each() {
        let windows = corpus((10..30).collect()).windows(&[3, 8], 4, None);
        assert_eq!(windows.batch.tokens, [13, 14, 15, 16, 18, 19, 20, 21]);
        assert_eq!(windows.targets, [14, 15, 16, 17, 19, 20, 21, 22]);
        assert_eq!(windows.batch.spans.iter().map(|s| s.len).collect::<Vec<_>>(), [4, 4]);
    }

    #[test]
    fn attention_stays_inside_of_documents() {
        let windows = corpus(vec![0, 7, 8, 0, 9, 9, 9, 0]).windows(&[1], 6, Some(0));
        assert_eq!(windows.batch.spans.iter().map(|s| s.len).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(windows.targets, [8, 0, 9, 9, 9, 0]);
    }

    #[test]
    fn tokens_that_do_not_count_are_no_targets() {
        let counted = Some(vec![false, false, true, true, false]);
        let windows = Corpus { counted, ..corpus(vec![1, 2, 3, 4, 5]) }.windows(&[0], 4, None);
        assert_eq!(windows.targets, [IGNORED, 3, 4, IGNORED]);
        assert_eq!(windows.counted(), 2);
    }

    #[test]
    fn the_end_is_held_out() {
        let (train, valid) = corpus((0..100).collect()).split(0.1);
        assert_eq!((train.len(), valid.tokens(0..10)), (90, (90..100).collect()));
        assert_ne!(train.fingerprint(), valid.fingerprint());
        assert_eq!(valid.window_count(9), 1);
        assert_eq!(valid.window_count(10), 0);
    }

    #[test]
    fn a_corpus_that_cannot_be_learnt_is_refused() {
        let refusal = |tokens: Vec<u32>| corpus(tokens).check(10, 4).unwrap_err().to_string();
        assert!(refusal(vec![]).contains("empty"));
        assert!(refusal(vec![1, 2, 3, 4]).contains("data.context"));
        assert!(refusal(vec![1, 2, 3, 4, 10]).contains("token 4 is 10"));
        assert!(corpus(vec![1; 5]).check(10, 4).is_ok());
        let counted = Some(vec![true, false, false, false, false]);
        let none = Corpus { counted, ..corpus(vec![1; 5]) };
        assert!(none.check(10, 4).unwrap_err().to_string().contains("no token counts"));
    }
}
