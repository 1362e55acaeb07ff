//! Text of tokens as they come, never half a character.

use super::{Tokenizer, bytes::Alphabet};

/// Turns tokens into text one by one.
#[derive(Debug)]
pub struct Stream {
    tokenizer: Tokenizer,
    /// Bytes that are no whole character yet.
    pending: Vec<u8>,
    /// Whether the next text begins with a space that does not belong to it.
    strip: bool,
    show_special: bool,
}

impl Stream {
    /// A stream that begins after other text, as a continuation of a prompt does.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), pending: Vec::new(), strip: false, show_special: false }
    }

    /// A stream of a text of its own, such as the answer of a chat.
    pub fn at_start(tokenizer: &Tokenizer) -> Self {
        let strip = tokenizer.0.alphabet == Alphabet::SentencePiece;
        Self { strip, ..Self::new(tokenizer) }
    }

    /// Shows control tokens by name instead of leaving them out.
    #[must_use]
    pub fn with_special(self) -> Self {
        Self { show_special: true, ..self }
    }

    /// Takes a token and returns the text that is complete now, which may be empty.
    pub fn push(&mut self, id: u32) -> String {
        if !self.show_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        let bytes = if self.strip && bytes.first() == Some(&b' ') { &bytes[1..] } else { bytes };
        self.strip = false;
        self.pending.extend_from_slice(bytes);
        self.take(false)
    }

    /// Returns what is left; half a character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    fn take(&mut self, all: bool) -> String {
        let mut text = String::new();
        let mut rest: &[u8] = &self.pending;
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(len) => rest = &after[len..],
                        None if all => rest = &[],
                        None => {
                            rest = after;
                            break;
                        }
                    }
                    text.push('\u{fffd}');
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }
}
