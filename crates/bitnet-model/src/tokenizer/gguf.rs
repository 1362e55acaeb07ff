//! The vocabulary inside of a GGUF. Keys and token types: ggml, `docs/gguf.md`.

use super::{
    Error, Parts, Result, bpe::Merge, bytes::byte_token, json::MAX_TOKEN, merging::Merging,
    pretokenizer::Splitting, special::ENDS, vocabulary::Vocabulary,
};
use crate::weights::gguf::{Array, Gguf, Strings};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;

pub(super) const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// Longest token that SentencePiece merges make: its trainer stops at 16 characters, and every way of cutting one is tried.
const MAX_MERGED: usize = 1024;

/// The template of microsoft/bitnet-b1.58-2B-4T, which the GGUF of the same model replaced by another one's.
const BITNET_TEMPLATE: &str = concat!(
    "{% for message in messages %}{% set content = message['role'] | capitalize + ': ' + message['content'] | trim + ",
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}",
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
);

/// The vocabulary of a GGUF as its metadata holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: `gpt2` or `llama`.
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Strings,
    /// `tokenizer.ggml.scores`.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`, pairs separated by a space.
    pub merges: Option<Strings>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub padding: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

/// What was repaired in a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// `tokenizer.ggml.pre` is missing and the tokens are Llama 3's.
    AssumedLlama3,
    /// The chat template is one that a converter writes into every file.
    ReplacedTemplate,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AssumedLlama3 => {
                "tokenizer.ggml.pre is missing; the vocabulary is Llama 3's, so text is split as `llama-bpe`"
            }
            Self::ReplacedTemplate => {
                "the chat template in the file was put there by a converter; using the one of the model's own repository"
            }
        })
    }
}

impl GgufVocab {
    /// Reads the metadata of a file.
    ///
    /// # Errors
    /// Names the key that is missing or of another type.
    pub fn read(gguf: &Gguf) -> crate::Result<Self> {
        let scores: Option<&Array> = gguf.find("tokenizer.ggml.scores")?;
        let types: Option<&Array> = gguf.find("tokenizer.ggml.token_type")?;
        // Asked for by type only where they hold something: some writers give an empty list another type.
        let scores: Option<&[f32]> =
            if scores.is_some_and(|s| !s.is_empty()) { gguf.find("tokenizer.ggml.scores")? } else { None };
        let types: Option<&[i32]> =
            if types.is_some_and(|t| !t.is_empty()) { gguf.find("tokenizer.ggml.token_type")? } else { None };
        Ok(Self {
            model: gguf.get::<&str>("tokenizer.ggml.model")?.to_owned(),
            pre: gguf.find::<&str>("tokenizer.ggml.pre")?.map(str::to_owned),
            tokens: gguf.get::<&Strings>("tokenizer.ggml.tokens")?.clone(),
            scores: scores.map(<[f32]>::to_vec),
            token_types: types.map(<[i32]>::to_vec),
            merges: gguf.find::<&Strings>("tokenizer.ggml.merges")?.cloned(),
            bos: gguf.find("tokenizer.ggml.bos_token_id")?,
            eos: gguf.find("tokenizer.ggml.eos_token_id")?,
            eot: gguf.find("tokenizer.ggml.eot_token_id")?,
            unknown: gguf.find("tokenizer.ggml.unknown_token_id")?,
            padding: gguf.find("tokenizer.ggml.padding_token_id")?,
            add_bos: gguf.find("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: gguf.find("tokenizer.ggml.add_space_prefix")?,
            chat_template: gguf.find::<&str>("tokenizer.chat_template")?.map(str::to_owned),
        })
    }

    /// The type of a token. One that begins or ends a text is a control token whatever the file says (llama.cpp overrides it
    /// too): were it plain, a user could write it, and the text would not end there.
    fn kind(&self, id: usize, text: &str) -> i32 {
        let kind = self.token_types.as_ref().map_or(NORMAL, |types| types[id]);
        let steers = [self.bos, self.eos, self.eot].contains(&u32::try_from(id).ok());
        let ends = kind != UNUSED && text.ends_with('>') && ENDS.contains(&text);
        if steers || ends { CONTROL } else { kind }
    }

    /// The id of a token by its text.
    fn find(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|t| t == text).and_then(|id| u32::try_from(id).ok())
    }

    /// Texts and ids of the tokens that stand for something.
    pub(super) fn used(&self) -> impl Iterator<Item = (&str, u32)> {
        let used = self.tokens.iter().enumerate().filter(|&(id, text)| self.kind(id, text) != UNUSED);
        used.map(|(id, text)| (text, id as u32))
    }

    /// Checks what the lists promise each other.
    fn check(&self) -> Result<()> {
        let expected = self.tokens.len();
        let counts = [
            ("tokenizer.ggml.scores", self.scores.as_ref().map(Vec::len)),
            ("tokenizer.ggml.token_type", self.token_types.as_ref().map(Vec::len)),
        ];
        for (key, got) in counts.into_iter().filter_map(|(key, len)| Some((key, len?))) {
            if got != expected {
                return Err(Error::Count { key, expected, got });
            }
        }
        let ids = [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.eot_token_id", self.eot),
        ];
        for (key, id) in ids.into_iter().filter_map(|(key, id)| Some((key, id?))) {
            if id as usize >= expected {
                return Err(Error::Id { key, id, len: expected });
            }
        }
        for (id, text) in self.tokens.iter().enumerate() {
            if text.len() > MAX_TOKEN {
                return Err(Error::TokenTooLong { id, bytes: text.len(), limit: MAX_TOKEN });
            }
            if self.kind(id, text) == BYTE && byte_token(text).is_none() {
                return Err(Error::ByteToken { id, text: text.to_owned() });
            }
        }
        Ok(())
    }

    /// Llama 3's vocabulary, told by its size and the places of its control tokens.
    fn is_llama3(&self) -> bool {
        let at = |id: usize, text: &str| self.tokens.get(id) == Some(text);
        let published =
            self.tokens.len() == 128_256 && at(128_000, "<|begin_of_text|>") && at(128_009, "<|eot_id|>");
        // Vocabularies of other sizes with the same control tokens, which is what tests and small models have.
        let small = self.tokens.len() < 128_256
            && [
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
            ]
            .iter()
            .all(|name| self.find(name).is_some_and(|id| self.kind(id as usize, name) == CONTROL));
        published || small
    }
}

/// The vocabulary as a `tokenizer.json` without tokens and merges, these, and what was repaired on the way.
pub(super) fn parts(vocab: &GgufVocab) -> Result<(Parts, Merging, Vec<Note>)> {
    vocab.check()?;
    let mut notes = Vec::new();
    let (json, merging, adds_bos) = match vocab.model.as_str() {
        "gpt2" => byte_level(vocab, &mut notes)?,
        "llama" => {
            let (json, merging) = sentence_piece(vocab)?;
            (json, merging, true)
        }
        other => {
            let (value, expected) =
                (format!("{other:?}"), "gpt2 (byte-level BPE) or llama (SentencePiece BPE)");
            return Err(Error::Unknown { field: "tokenizer.ggml.model", value, expected });
        }
    };
    let mut template = vocab.chat_template.clone();
    if template.as_ref().is_some_and(|t| t.contains("BITNETAssistant")) && vocab.find("<|eot_id|>").is_some()
    {
        template = Some(BITNET_TEMPLATE.to_owned());
        notes.push(Note::ReplacedTemplate);
    }
    let add_bos = Some(vocab.add_bos.unwrap_or(adds_bos));
    let eos = vocab.eos.into_iter().chain(vocab.eot).collect();
    Ok((Parts { json, bos: vocab.bos, eos, add_bos, template }, merging, notes))
}

fn byte_level(vocab: &GgufVocab, notes: &mut Vec<Note>) -> Result<(Value, Merging, bool)> {
    let splitting = match &vocab.pre {
        Some(name) => Splitting::named(name)?,
        None if vocab.is_llama3() => {
            notes.push(Note::AssumedLlama3);
            Splitting::Llama3
        }
        None => {
            let fix = "without it text is split wrongly; convert the model again with a current converter";
            return Err(Error::Missing { key: "tokenizer.ggml.pre", fix });
        }
    };
    let Some(merges) = &vocab.merges else {
        let fix = "byte-level BPE cannot merge without it; convert the model again";
        return Err(Error::Missing { key: "tokenizer.ggml.merges", fix });
    };
    let (vocabulary, added) = split_vocab(vocab)?;
    let merges = resolve(&vocabulary, merges)?;
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": splitting.normalizer(),
        "pre_tokenizer": splitting.json(),
        "post_processor": Value::Null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": model(None, splitting.ignores_merges()),
    });
    Ok((json, Merging { vocabulary, merges }, splitting.adds_bos()))
}

fn sentence_piece(vocab: &GgufVocab) -> Result<(Value, Merging)> {
    let (vocabulary, added) = split_vocab(vocab)?;
    let merges = match &vocab.merges {
        Some(merges) => resolve(&vocabulary, merges)?,
        None => merges_by_score(vocab, &vocabulary)?,
    };
    let unknown = vocab.unknown.or_else(|| vocab.find("<unk>")).and_then(|id| vocab.tokens.get(id as usize));
    let prefixed = vocab.add_space_prefix.unwrap_or(true);
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefixed {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": space_normalizers(prefixed)},
        "pre_tokenizer": Value::Null,
        "post_processor": Value::Null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model(unknown, false),
    });
    Ok((json, Merging { vocabulary, merges }))
}

/// The merges that lines of two texts stand for.
fn resolve(vocabulary: &Vocabulary, lines: &Strings) -> Result<Vec<Merge>> {
    let pair = |index: usize| {
        let line = lines.get(index).unwrap_or_default();
        let pair = line.split_once(' ').map(|(a, b)| [a, b]);
        pair.ok_or_else(|| Error::Merge { index, merge: line.to_owned() })
    };
    Merge::all(vocabulary, (0..lines.len()).into_par_iter().map(pair))
}

/// How SentencePiece writes spaces, and the one that it puts before a text.
pub(super) fn space_normalizers(prefixed: bool) -> Vec<Value> {
    let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    prefixed.then_some(prepend).into_iter().chain([replace]).collect()
}

fn model(unknown: Option<&str>, ignore_merges: bool) -> Value {
    json!({
        "type": "BPE",
        "dropout": Value::Null,
        "unk_token": unknown,
        "continuing_subword_prefix": Value::Null,
        "end_of_word_suffix": Value::Null,
        "fuse_unk": unknown.is_some(),
        "byte_fallback": unknown.is_some(),
        "ignore_merges": ignore_merges,
    })
}

/// Tokens that merging makes, and tokens that are found in text as a whole.
fn split_vocab(vocab: &GgufVocab) -> Result<(Vocabulary, Vec<Value>)> {
    let (mut vocabulary, mut added) = (Vocabulary::with_capacity(vocab.tokens.len()), Vec::new());
    let mut unused: HashMap<&str, u32> = HashMap::new();
    for (id, text) in vocab.tokens.iter().enumerate() {
        let (kind, id) = (vocab.kind(id, text), id as u32);
        if kind == UNUSED {
            // Padding rows of an embedding often share a text; a token that is used must not.
            if vocabulary.id(text.as_bytes()).is_none() {
                unused.entry(text).or_insert(id);
            }
            continue;
        }
        let duplicate = |first| Error::Duplicate { first, second: id, text: text.to_owned() };
        if let Some(&first) = unused.get(text) {
            return Err(duplicate(first));
        }
        // The library numbers an added token by its place in the vocabulary, so it has to have one there too.
        vocabulary.insert(text, id).map_err(duplicate)?;
        if matches!(kind, CONTROL | UNKNOWN | USER_DEFINED) {
            added.push(json!({
                "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind != USER_DEFINED,
            }));
        }
    }
    Ok((vocabulary, added))
}

/// Merges of a SentencePiece vocabulary: every way of making a token from two, the likelier token first, as transformers'
/// converters do.
fn merges_by_score(vocab: &GgufVocab, vocabulary: &Vocabulary) -> Result<Vec<Merge>> {
    let Some(scores) = &vocab.scores else {
        let fix = "SentencePiece cannot merge without it; convert the model again";
        return Err(Error::Missing { key: "tokenizer.ggml.scores", fix });
    };
    let mut merges: Vec<(f32, Merge)> = Vec::new();
    let normal = vocab.tokens.iter().enumerate().filter(|&(token, text)| vocab.kind(token, text) == NORMAL);
    for (token, text) in normal {
        if text.len() > MAX_MERGED {
            return Err(Error::TokenTooLong { id: token, bytes: text.len(), limit: MAX_MERGED });
        }
        for (at, _) in text.char_indices().skip(1) {
            let [a, b] = [&text[..at], &text[at..]].map(|part| vocabulary.id(part.as_bytes()));
            if let (Some(a), Some(b)) = (a, b) {
                merges.push((scores[token], Merge { pair: [a, b], into: token as u32 }));
            }
        }
    }
    merges.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.pair.cmp(&y.1.pair)));
    Ok(merges.into_iter().map(|(_, merge)| merge).collect())
}
