//! What ends a text: tokens, and strings that may be spread over tokens.

use crate::error::{Error, Result};

/// Most stop strings of a request.
pub const MAX_STOP_STRINGS: usize = 64;
/// Most bytes of a stop string.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most end-of-text and stop tokens of a request.
pub const MAX_STOP_TOKENS: usize = 256;

/// What ends a sequence, besides its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopRules {
    /// The model's end-of-text tokens.
    pub eos: Vec<u32>,
    /// Excludes the end-of-text tokens from sampling, as llama.cpp's `--ignore-eos` does.
    pub ignore_eos: bool,
    /// Further tokens that end the sequence.
    pub tokens: Vec<u32>,
    /// Strings that end the text. The engine works on tokens: whoever decodes them applies these with a
    /// [`StopMatcher`], as [`generate`](crate::generate()) does.
    pub strings: Vec<String>,
}

impl StopRules {
    /// Checks the numbers of rules and the lengths of strings.
    ///
    /// # Errors
    /// [`Error::Parameter`] names the first rule broken.
    pub fn validate(&self) -> Result<()> {
        let tokens = self.eos.len() + self.tokens.len();
        if tokens > MAX_STOP_TOKENS {
            return Err(Error::parameter("stop tokens", "at most 256", tokens));
        }
        if self.strings.len() > MAX_STOP_STRINGS {
            return Err(Error::parameter("stop strings", "at most 64", self.strings.len()));
        }
        match self.strings.iter().find(|s| s.is_empty() || s.len() > MAX_STOP_BYTES) {
            Some(s) => Err(Error::parameter("stop string", "1 to 1024 bytes", format!("{} bytes", s.len()))),
            None => Ok(()),
        }
    }

    /// Ignored end-of-text tokens are never picked, and need no exception here.
    pub(crate) fn ends_with(&self, token: u32) -> bool {
        self.tokens.contains(&token) || self.eos.contains(&token)
    }
}

/// Finds stop strings in bytes that arrive in pieces.
///
/// Of several matches the one that ends first counts, of those the longest: the result does not depend on
/// where the pieces are cut.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Vec<Vec<u8>>,
    /// The longest tail of the input that may still become a stop string.
    held: Vec<u8>,
    found: Option<usize>,
}

impl StopMatcher {
    /// Watches for `stops`; empty strings never match.
    pub fn new<S: AsRef<[u8]>>(stops: &[S]) -> Self {
        Self { stops: stops.iter().map(|s| s.as_ref().to_vec()).collect(), ..Self::default() }
    }

    /// Takes the next bytes, and appends to `out` those that no stop string can claim any more.
    ///
    /// Returns the index of the stop string found; from then on, nothing is taken or written.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if self.found.is_some() {
            return self.found;
        }
        let seen = self.held.len();
        self.held.extend_from_slice(bytes);
        if let Some((index, start)) = self.first_match(seen) {
            self.found = Some(index);
            out.extend_from_slice(&self.held[..start]);
            self.held.clear();
        } else {
            let safe = self.held.len() - self.open_tail();
            out.extend(self.held.drain(..safe));
        }
        self.found
    }

    /// Ends the input: what was held back is no stop string and goes to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Index and start of the first match that ends after byte `seen` of `held`.
    fn first_match(&self, seen: usize) -> Option<(usize, usize)> {
        (seen + 1..=self.held.len()).find_map(|end| {
            let ended = |stop: &Vec<u8>| !stop.is_empty() && self.held[..end].ends_with(stop);
            let matches = self.stops.iter().enumerate().filter(|(_, stop)| ended(stop));
            let (index, stop) =
                matches.max_by_key(|(index, stop)| (stop.len(), std::cmp::Reverse(*index)))?;
            Some((index, end - stop.len()))
        })
    }

    /// Length of the longest tail of `held` that some stop string begins with.
    fn open_tail(&self) -> usize {
        let longest = |stop: &Vec<u8>| {
            let most = self.held.len().min(stop.len().saturating_sub(1));
            (1..=most).rev().find(|&n| self.held.ends_with(&stop[..n])).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}
