//! Bytes that arrive in pieces, as text.

/// Turns pieces of UTF-8 into text without ever splitting a character.
///
/// Bytes that cannot be UTF-8 become U+FFFD exactly as in [`String::from_utf8_lossy`]: the concatenated
/// output equals its result on the concatenated input.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// The start of an unfinished character: at most 3 bytes between calls.
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Takes the next bytes, and appends the characters that are complete to `text`.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.held.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            match std::str::from_utf8(&self.held[done..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    done = self.held.len();
                    break;
                }
                Err(error) => {
                    let valid = &self.held[done..done + error.valid_up_to()];
                    text.push_str(std::str::from_utf8(valid).expect("`valid_up_to` bytes are valid"));
                    done += valid.len();
                    let Some(invalid) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    done += invalid;
                }
            }
        }
        self.held.drain(..done);
    }

    /// Ends the text: an unfinished character becomes one U+FFFD.
    pub fn finish(&mut self, text: &mut String) {
        if !self.held.is_empty() {
            self.held.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
