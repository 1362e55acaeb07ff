//! Control tokens in text: found where the caller wrote them, hidden where a user did.

use super::{Error, Result};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashSet;

/// A character that no text contains (a Unicode noncharacter), put into names of control tokens that a user wrote.
const BREAK: char = '\u{fdd0}';

/// Names of tokens that end a turn or a text, whatever a file says (the list of llama.cpp).
pub(super) const ENDS: [&str; 9] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "</s>",
    "<|end_of_turn|>",
];

/// Makes control tokens of the added tokens that end a text by name or are among `ids`, as llama.cpp does: were they plain, a
/// user could write them.
pub(super) fn mark(json: &mut Value, ids: &[u32]) {
    let added = json.get_mut("added_tokens").and_then(Value::as_array_mut);
    for token in added.into_iter().flatten() {
        let ends = token["content"].as_str().is_some_and(|text| ENDS.contains(&text));
        if ends || ids.iter().any(|&id| token["id"] == id) {
            token["special"] = Value::Bool(true);
        }
    }
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Plain(&'a str),
    Control(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Special {
    text: String,
    id: u32,
    lstrip: bool,
    rstrip: bool,
}

/// The control tokens of a vocabulary.
#[derive(Debug)]
pub(super) struct Specials {
    /// Longest first.
    all: Vec<Special>,
    ids: HashSet<u32>,
    /// Every token of `added_tokens`, whose text stands for itself.
    added: HashSet<u32>,
    /// Whether a control token begins with this byte.
    first: [bool; 256],
}

impl Specials {
    /// The special tokens among the `added_tokens` of a `tokenizer.json`.
    pub(super) fn read(json: &Value) -> Result<Self> {
        let (mut all, mut added) = (Vec::new(), HashSet::new());
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let flag = |name: &str| token[name].as_bool().unwrap_or(false);
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let (Some(id), Some(text)) = (id, token["content"].as_str()) else {
                let (value, expected) = (token.to_string(), "an id and a content");
                return Err(Error::Unknown { field: "added_tokens", value, expected });
            };
            added.insert(id);
            if flag("special") && !text.is_empty() {
                all.push(Special {
                    text: text.to_owned(),
                    id,
                    lstrip: flag("lstrip"),
                    rstrip: flag("rstrip"),
                });
            }
        }
        all.sort_by_key(|special| std::cmp::Reverse(special.text.len()));
        let ids = all.iter().map(|special| special.id).collect();
        let mut first = [false; 256];
        all.iter().for_each(|special| first[usize::from(special.text.as_bytes()[0])] = true);
        Ok(Self { all, ids, added, first })
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn is_added(&self, id: u32) -> bool {
        self.added.contains(&id)
    }

    /// The first control token at or after byte `from`, with its place; the longest where several begin.
    fn find(&self, text: &str, from: usize) -> Option<(usize, &Special)> {
        let bytes = text.as_bytes();
        (from..bytes.len()).filter(|&at| self.first[usize::from(bytes[at])]).find_map(|at| {
            let found = self.all.iter().find(|special| bytes[at..].starts_with(special.text.as_bytes()))?;
            Some((at, found))
        })
    }

    /// As [`Specials::find`], for what becomes a control token once a template makes letters small or large.
    fn find_in_any_case(&self, text: &str, from: usize) -> Option<(usize, &Special)> {
        let bytes = text.as_bytes();
        let begins = |at: usize| {
            let (small, large) = (bytes[at].to_ascii_lowercase(), bytes[at].to_ascii_uppercase());
            self.first[usize::from(small)] || self.first[usize::from(large)]
        };
        (from..bytes.len()).filter(|&at| begins(at)).find_map(|at| {
            let same =
                |name: &[u8]| bytes.get(at..at + name.len()).is_some_and(|b| b.eq_ignore_ascii_case(name));
            Some((at, self.all.iter().find(|special| same(special.text.as_bytes()))?))
        })
    }

    /// Where the end of a text, but for spaces, could begin the name of a control token that the next text goes on with: the place
    /// behind the first character of that name.
    fn begun(&self, text: &str) -> Option<usize> {
        let text = text.trim_end();
        let begins = |special: &Special| {
            let (name, most) = (special.text.as_str(), special.text.len().min(text.len() + 1));
            let len = (1..most).rev().find(|&len| {
                name.is_char_boundary(len)
                    && text.as_bytes()[text.len() - len..].eq_ignore_ascii_case(&name.as_bytes()[..len])
            })?;
            Some(text.len() - len + name.chars().next().map_or(1, char::len_utf8))
        };
        self.all.iter().filter_map(begins).min()
    }

    /// Cuts a text at the control tokens that it names.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let (mut parts, mut from) = (Vec::new(), 0);
        while let Some((at, special)) = self.find(text, from) {
            let before = &text[from..at];
            parts.push(Part::Plain(if special.lstrip { before.trim_end() } else { before }));
            parts.push(Part::Control(special.id));
            from = at + special.text.len();
            if special.rstrip {
                from = text.len() - text[from..].trim_start().len();
            }
        }
        parts.push(Part::Plain(&text[from..]));
        parts.retain(|part| *part != Part::Plain(""));
        parts
    }

    /// Breaks every name of a control token, so that [`Specials::split`] does not see it, whatever a template does to letters and
    /// whatever text it puts behind.
    pub(super) fn hide(&self, text: &str) -> String {
        // A user cannot smuggle in the break itself: it would vanish and leave a whole name.
        let text = text.replace(BREAK, "\u{fffd}");
        let (mut hidden, mut from) = (String::with_capacity(text.len()), 0);
        while let Some((at, special)) = self.find_in_any_case(&text, from) {
            let first = special.text.chars().next().map_or(1, char::len_utf8);
            hidden.push_str(&text[from..at + first]);
            hidden.push(BREAK);
            from = at + first;
        }
        hidden.push_str(&text[from..]);
        if let Some(at) = self.begun(&hidden) {
            hidden.insert(at, BREAK);
        }
        hidden
    }
}

/// Undoes [`Specials::hide`] once the text is cut.
pub(super) fn reveal(text: &str) -> Cow<'_, str> {
    if text.contains(BREAK) { Cow::Owned(text.replace(BREAK, "")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn specials() -> Specials {
        let token = |id, content: &str, rstrip| json!({"id": id, "content": content, "special": true, "rstrip": rstrip});
        Specials::read(&json!({"added_tokens": [token(1, "<s>", false), token(2, "<s>x", false), token(3, "[END]", true)]})).unwrap()
    }

    #[test]
    fn the_longest_name_wins_and_whitespace_goes_with_it() {
        let parts = specials().split("a<s>xb<s>[END]  c");
        let expected = [
            Part::Plain("a"),
            Part::Control(2),
            Part::Plain("b"),
            Part::Control(1),
            Part::Control(3),
            Part::Plain("c"),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_hidden_name_is_plain_text_and_comes_back_whole() {
        for text in ["say <s>!", "<<s>s>", "<\u{fdd0}s>", "[END][END]", "<S> [end]", "a <", "[EN  "] {
            let hidden = specials().hide(text);
            let parts = specials().split(&hidden);
            assert_eq!(parts, [Part::Plain(&hidden)], "{text}");
            let small = hidden.to_lowercase();
            assert_eq!(specials().split(&small), [Part::Plain(&small)], "{text}");
            assert_eq!(reveal(&hidden), text.replace(BREAK, "\u{fffd}"));
        }
    }

    #[test]
    fn two_texts_do_not_make_a_name_together() {
        for (first, second) in [("<", "s>"), ("a [EN", "D]"), ("[e", "ND]"), ("<s", ">"), ("[END", "]")] {
            let joined = specials().hide(first) + &specials().hide(second);
            assert_eq!(specials().split(&joined), [Part::Plain(&joined)], "{first} {second}");
        }
    }
}
