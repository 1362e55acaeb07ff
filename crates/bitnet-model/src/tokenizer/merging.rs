//! Tokens and merges on their way to the library: a `tokenizer.json` of them is made only where one is wanted, because writing and
//! reading 128,000 tokens and 280,000 merges takes longer than all other parts of a start.

use super::{
    Error, Result,
    guard::guard,
    json::{check, panicked},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
    models::bpe::{BPE, Vocab},
};

/// Ids of the tokens by their texts, and pairs that are merged, the first ones first.
pub(super) struct Merging {
    pub(super) ids: Vocab,
    pub(super) pairs: Vec<(String, String)>,
}

impl Merging {
    /// The merging part, of a `tokenizer.json` without tokens and merges.
    pub(super) fn build(self, json: &Value) -> Result<Tokenizer> {
        check(json)?;
        // The library joins merges in a buffer as long as the longest token, and panics at one that does not fit.
        let longest = self.ids.keys().map(String::len).max().unwrap_or(0);
        if self.pairs.iter().any(|(a, b)| a.len() + b.len() > longest) {
            self.check()?;
        }
        let failed = |reason: String| Error::Json { file: "the vocabulary", reason };
        guard(|| self.assemble(json))
            .map_err(|panic| failed(panicked(&panic)))?
            .map_err(|error| failed(error.to_string()))
    }

    fn assemble(self, json: &Value) -> tokenizers::Result<Tokenizer> {
        let model = &json["model"];
        let on = |flag: &str| model[flag] == true;
        let mut bpe = BPE::builder()
            .vocab_and_merges(self.ids, self.pairs)
            .fuse_unk(on("fuse_unk"))
            .byte_fallback(on("byte_fallback"))
            .ignore_merges(on("ignore_merges"));
        if let Some(unknown) = model["unk_token"].as_str() {
            bpe = bpe.unk_token(unknown.to_owned());
        }
        let mut tokenizer = Tokenizer::new(bpe.build()?);
        tokenizer
            .with_normalizer(part::<Option<NormalizerWrapper>>(json, "normalizer")?)?
            .with_pre_tokenizer(part::<Option<PreTokenizerWrapper>>(json, "pre_tokenizer")?)
            .with_post_processor(part::<Option<PostProcessorWrapper>>(json, "post_processor")?)
            .with_decoder(part::<Option<DecoderWrapper>>(json, "decoder")?);
        tokenizer.add_tokens(part::<Vec<AddedToken>>(json, "added_tokens")?)?;
        Ok(tokenizer)
    }

    /// Refuses the first merge of which a part, or what it makes, is no token.
    pub(super) fn check(&self) -> Result<()> {
        let known = |(a, b): &(String, String)| {
            [a, b, &format!("{a}{b}")].into_iter().all(|text| self.ids.contains_key(text.as_str()))
        };
        match self.pairs.iter().position(|pair| !known(pair)) {
            None => Ok(()),
            Some(index) => {
                let (a, b) = &self.pairs[index];
                Err(Error::Merge { index, merge: format!("{a} {b}") })
            }
        }
    }

    /// Puts tokens and merges into the model of a `tokenizer.json`.
    pub(super) fn write(self, model: &mut Value) {
        let mut ids: Vec<(String, u32)> = self.ids.into_iter().collect();
        ids.sort_by_key(|(_, id)| *id);
        model["vocab"] = ids.into_iter().map(|(text, id)| (text, json!(id))).collect::<Map<_, _>>().into();
        model["merges"] = self.pairs.into_iter().map(|(a, b)| json!([a, b])).collect();
    }
}

fn part<T: DeserializeOwned>(json: &Value, name: &str) -> serde_json::Result<T> {
    serde_json::from_value(json[name].clone())
}
