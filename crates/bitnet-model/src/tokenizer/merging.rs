//! Tokens and merges on their way into tables: a `tokenizer.json` of those of a GGUF is made only where one is wanted, because writing
//! and reading 128,000 tokens and 280,000 merges takes longer than all other parts of a start.

use super::{
    Error, Result,
    bpe::{Bpe, Merge, Rules},
    guard::guard,
    json::{check, panicked},
    vocabulary::Vocabulary,
};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

/// A tokenizer of the library that merges by our tables.
pub(super) type Merger =
    TokenizerImpl<Bpe, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Tokens, and pairs that are merged, the first ones first.
pub(super) struct Merging {
    pub(super) vocabulary: Vocabulary,
    pub(super) merges: Vec<Merge>,
}

impl Merging {
    /// Reads the model of a `tokenizer.json`.
    pub(super) fn of_json(json: &Value) -> Result<Self> {
        check(json)?;
        let model = &json["model"];
        let refuse = |reason: String| Error::Json { file: "tokenizer.json", reason };
        let missing = |field: &str| refuse(format!("model.{field} is missing"));
        let tokens = model["vocab"].as_object().ok_or_else(|| missing("vocab"))?;
        let pairs = model["merges"].as_array().ok_or_else(|| missing("merges"))?;
        let mut vocabulary = Vocabulary::with_capacity(tokens.len());
        for (text, id) in tokens {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| refuse(format!("the id of {text:?} in model.vocab is no number")))?;
            // The texts of a map differ.
            _ = vocabulary.insert(text, id);
        }
        // Older files begin with a line for a version.
        let pairs = pairs.iter().filter(|m| !m.as_str().is_some_and(|line| line.starts_with("#version")));
        let pairs: Vec<&Value> = pairs.collect();
        let pairs = pairs.par_iter().map(|merge| {
            two_texts(merge).ok_or_else(|| refuse(format!("the merge {merge} is no pair of texts")))
        });
        let merges = Merge::all(&vocabulary, pairs).map_err(|error| match error {
            Error::Merge { merge, .. } => {
                refuse(format!("the merge {merge:?} has or makes a token that model.vocab does not have"))
            }
            other => other,
        })?;
        Ok(Self { vocabulary, merges })
    }

    /// The merging part, of a `tokenizer.json`, whose tokens and merges need not be there.
    pub(super) fn build(self, json: &Value) -> Result<Merger> {
        let failed = |reason: String| Error::Json { file: "tokenizer.json", reason };
        guard(|| self.assemble(json))
            .map_err(|panic| failed(panicked(&panic)))?
            .map_err(|error| failed(error.to_string()))
    }

    fn assemble(self, json: &Value) -> tokenizers::Result<Merger> {
        let model = &json["model"];
        let on = |flag: &str| part::<Option<bool>>(model, flag).map(Option::unwrap_or_default);
        let unknown = part::<Option<String>>(model, "unk_token")?;
        let rules = Rules {
            unknown: unknown.map(|text| self.vocabulary.id(text.as_bytes()).ok_or(text)),
            fuse_unknown: on("fuse_unk")?,
            byte_fallback: on("byte_fallback")?,
            ignore_merges: on("ignore_merges")?,
        };
        let mut tokenizer = Merger::new(Bpe::new(self.vocabulary, &self.merges, rules));
        tokenizer
            .with_normalizer(part::<Option<NormalizerWrapper>>(json, "normalizer")?)?
            .with_pre_tokenizer(part::<Option<PreTokenizerWrapper>>(json, "pre_tokenizer")?)
            .with_post_processor(part::<Option<PostProcessorWrapper>>(json, "post_processor")?)
            .with_decoder(part::<Option<DecoderWrapper>>(json, "decoder")?);
        tokenizer.add_tokens(part::<Option<Vec<AddedToken>>>(json, "added_tokens")?.unwrap_or_default())?;
        Ok(tokenizer)
    }

    /// Puts tokens and merges into the model of a `tokenizer.json`.
    pub(super) fn write(self, model: &mut Value) {
        let text = |id: u32| self.vocabulary.text(id).unwrap_or_default();
        let tokens = self.vocabulary.iter();
        model["vocab"] = tokens.map(|(text, id)| (text.to_owned(), json!(id))).collect::<Map<_, _>>().into();
        model["merges"] = self.merges.iter().map(|merge| json!(merge.pair.map(text))).collect();
    }
}

/// The parts of a merge: a list of them, or a text of both as older files have it.
fn two_texts(merge: &Value) -> Option<[&str; 2]> {
    if let Some(text) = merge.as_str() {
        return text.split_once(' ').filter(|(_, b)| !b.contains(' ')).map(|(a, b)| [a, b]);
    }
    match merge.as_array()?.as_slice() {
        [a, b] => Some([a.as_str()?, b.as_str()?]),
        _ => None,
    }
}

fn part<T: DeserializeOwned>(json: &Value, name: &str) -> serde_json::Result<T> {
    serde_json::from_value(json[name].clone())
}
