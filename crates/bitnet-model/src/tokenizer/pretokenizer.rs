//! Ways of splitting text before merging, by the names that GGUF files use (llama.cpp, `llama-vocab.cpp`) and as the
//! `pre_tokenizer` of a `tokenizer.json` that means the same.

use super::{Error, Result};
use serde_json::{Value, json};

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Longest regular expression that is compiled; real ones have about 200 characters.
const MAX_REGEX: usize = 4096;

/// A way of splitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Splitting {
    Gpt2,
    Llama3,
    Qwen2,
    Falcon,
}

/// Names in GGUF files; the first one of a way is the one that is written.
const NAMES: [(&str, Splitting); 17] = [
    ("gpt-2", Splitting::Gpt2),
    ("phi-2", Splitting::Gpt2),
    ("jina-v2-es", Splitting::Gpt2),
    ("jina-v2-de", Splitting::Gpt2),
    ("roberta-bpe", Splitting::Gpt2),
    ("mpt", Splitting::Gpt2),
    ("olmo", Splitting::Gpt2),
    ("llama-bpe", Splitting::Llama3),
    ("llama3", Splitting::Llama3),
    ("llama-v3", Splitting::Llama3),
    ("falcon3", Splitting::Llama3),
    // Falcon-E; as ik_llama.cpp reads it (its issue 551).
    ("falcon_e", Splitting::Llama3),
    ("pixtral", Splitting::Llama3),
    ("qwen2", Splitting::Qwen2),
    ("deepseek-r1-qwen", Splitting::Qwen2),
    ("kormo", Splitting::Qwen2),
    ("falcon", Splitting::Falcon),
];

impl Splitting {
    pub(super) fn named(name: &str) -> Result<Self> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|&(_, splitting)| splitting).ok_or_else(|| Error::Unknown {
            field: "tokenizer.ggml.pre",
            value: format!("{name:?}"),
            expected: "gpt-2, llama-bpe, qwen2, falcon, falcon3 or another name for one of them",
        })
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, splitting)| *splitting == self).map_or("", |(name, _)| name)
    }

    /// Whether a piece that is a token as a whole is not merged.
    pub(super) fn ignores_merges(self) -> bool {
        self == Self::Llama3
    }

    /// Whether the model expects a first token where the file does not say.
    pub(super) fn adds_bos(self) -> bool {
        self == Self::Llama3
    }

    pub(super) fn json(self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let sequence = |list: Vec<Value>| json!({"type": "Sequence", "pretokenizers": list});
        match self {
            Self::Gpt2 => byte_level(true),
            Self::Llama3 => sequence(vec![split(LLAMA3), byte_level(false)]),
            Self::Qwen2 => sequence(vec![split(QWEN2), byte_level(false)]),
            Self::Falcon => sequence(vec![
                json!({"type": "Punctuation", "behavior": "Contiguous"}),
                byte_level(true),
                json!({"type": "Digits", "individual_digits": false}),
                split("[0-9][0-9][0-9]"),
            ]),
        }
    }

    /// What is done to a text before it is split.
    pub(super) fn normalizer(self) -> Value {
        if self == Self::Qwen2 { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// The way that a `pre_tokenizer` splits, told by its regular expressions and kinds.
    pub(super) fn of(json: &Value) -> Option<Self> {
        let wanted = essence(json);
        let all = [Self::Gpt2, Self::Llama3, Self::Qwen2, Self::Falcon];
        all.into_iter().find(|splitting| essence(&splitting.json()) == wanted)
    }

    /// The way that makes the same tokens where none of them holds two digits in a row: older files cut no runs of digits.
    pub(super) fn same_without_numbers(json: &Value) -> Option<Self> {
        (essence(json) == essence(&Self::Falcon.json())[..3]).then_some(Self::Falcon)
    }
}

/// The steps of a `pre_tokenizer` in order.
pub(super) fn steps(json: &Value) -> Vec<&Value> {
    match json["pretokenizers"].as_array() {
        Some(list) => list.iter().flat_map(steps).collect(),
        None => vec![json],
    }
}

/// What decides how text is split: the steps in order, without settings that only move offsets.
fn essence(json: &Value) -> Vec<String> {
    let step = |v: &Value| {
        let flags =
            [&v["pattern"], &v["add_prefix_space"], &v["individual_digits"], &v["invert"], &v["behavior"]];
        // Older files do not say it.
        let by_regex = v["use_regex"].as_bool().unwrap_or(true);
        format!("{} {by_regex} {flags:?}", v["type"])
    };
    steps(json).into_iter().map(step).collect()
}

/// Refuses regular expressions that are longer than any real one.
pub(super) fn check(json: &Value) -> Result<()> {
    for step in steps(json) {
        let regex = step["pattern"]["Regex"].as_str().unwrap_or_default();
        if regex.len() > MAX_REGEX {
            let value = format!("{} characters long", regex.len());
            let expected = "a regular expression of at most 4096 characters";
            return Err(Error::Unknown { field: "pre_tokenizer.pattern", value, expected });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_recognised_in_its_own_json() {
        for splitting in [Splitting::Gpt2, Splitting::Llama3, Splitting::Qwen2, Splitting::Falcon] {
            assert_eq!(Splitting::of(&splitting.json()), Some(splitting));
            assert_eq!(Splitting::named(splitting.name()).unwrap(), splitting);
        }
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        assert!(Splitting::named("smaug-2").unwrap_err().to_string().contains("smaug-2"));
    }
}
