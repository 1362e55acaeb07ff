//! The bytes behind the text of a token.

use super::{Error, Result};
use serde_json::Value;

/// How the text of a token stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// Every byte is one printable character (GPT-2).
    ByteLevel,
    /// UTF-8 with `▁` for a space and `<0xAB>` for single bytes (SentencePiece).
    SentencePiece,
}

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '\u{2581}';

impl Alphabet {
    /// Told by the decoder of a `tokenizer.json`.
    pub(super) fn of(json: &Value) -> Result<Self> {
        let kind = json["model"]["type"].as_str().unwrap_or("BPE");
        if kind != "BPE" {
            return Err(Error::Unknown { field: "model.type", value: kind.into(), expected: "BPE" });
        }
        let decoder = &json["decoder"];
        let mut types = vec![decoder["type"].as_str()];
        types.extend(decoder["decoders"].as_array().into_iter().flatten().map(|d| d["type"].as_str()));
        if types.contains(&Some("ByteLevel")) {
            Ok(Self::ByteLevel)
        } else if types.contains(&Some("ByteFallback")) {
            Ok(Self::SentencePiece)
        } else {
            let expected = "ByteLevel, or a sequence with ByteFallback";
            Err(Error::Unknown { field: "decoder", value: decoder.to_string(), expected })
        }
    }

    /// Appends the bytes of a token's text; text that is not in the alphabet stands for itself.
    pub(super) fn write_bytes(self, text: &str, bytes: &mut Vec<u8>) {
        match self {
            Self::ByteLevel => {
                let start = bytes.len();
                for character in text.chars() {
                    let Some(byte) = byte_of(character) else {
                        bytes.truncate(start);
                        return bytes.extend_from_slice(text.as_bytes());
                    };
                    bytes.push(byte);
                }
            }
            Self::SentencePiece => match byte_token(text) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(text.replace(SPACE, " ").as_bytes()),
            },
        }
    }
}

/// The byte of `<0xAB>`.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if plain { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The byte that a character of GPT-2's alphabet stands for (openai/gpt-2, `encoder.py`, `bytes_to_unicode`): printable Latin-1
/// stands for itself, the other 68 bytes follow from U+0100 on.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_byte_alphabet_has_every_byte_once() {
        let bytes: HashSet<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!((byte_of('Ġ'), byte_of('Ċ'), byte_of('A')), (Some(b' '), Some(b'\n'), Some(b'A')));
        assert_eq!((byte_of('\u{120}'), byte_of('ġ')), (Some(0x20), Some(0x7f)));
    }

    #[test]
    fn byte_tokens_are_two_hexadecimal_digits() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        for bad in ["<0x-1>", "<0xZZ>", "<0x+1>", "<0x1>", "<0x001>", "0x0A"] {
            assert_eq!(byte_token(bad), None, "{bad}");
        }
    }
}
