//! Tokenizers made from text.

use crate::{Error, Result};
use serde_json::json;
use std::collections::BTreeSet;
use tokenizers::{
    AddedToken, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainerBuilder},
    normalizers::NormalizerWrapper,
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
    processors::PostProcessorWrapper,
    tokenizer::SplitDelimiterBehavior,
};

/// How Llama 3 cuts a text into words before it merges their bytes.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The token that begins every document.
pub const DOCUMENT: &str = "<|endoftext|>";

/// A `tokenizer.json` with a token for each byte that occurs in `text`, in their order, and none for anything else. It cuts words as GPT-2 does,
/// which changes nothing where nothing is merged, and has a name in GGUF files.
pub fn characters(text: &str) -> String {
    let bytes: BTreeSet<u8> = text.bytes().collect();
    let vocab: serde_json::Map<_, _> =
        bytes.iter().zip(0..).map(|(&byte, id)| (letter(byte).to_string(), json!(id))).collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": [],
        },
    })
    .to_string()
}

/// The letter that stands for a byte in a byte-level vocabulary (GPT-2): itself where it can be printed, one from U+0100 on elsewhere.
fn letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + earlier).expect("there are 68 of them")
}

/// A `tokenizer.json` of `vocab_size` byte-level tokens merged from `texts`, and its `tokenizer_config.json`. Id 0 begins a document.
///
/// # Errors
/// Where the size has no room for all bytes, or the texts give too few tokens.
pub fn bpe(texts: &[String], vocab_size: usize) -> Result<(String, String)> {
    const BYTES: usize = 256;
    let refuse = |rule: String| Error::Config { key: "vocab_size", value: vocab_size.to_string(), rule };
    if vocab_size <= BYTES {
        return Err(refuse(format!("more than {BYTES}: all bytes and a token that begins documents")));
    }
    let split = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Isolated, false);
    let split = split.expect("the pattern is valid");
    let bytes = ByteLevel::new(false, true, false);
    let words = Sequence::new(vec![PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)]);
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        ByteLevel,
    >::default()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(words)))
    .with_decoder(Some(bytes))
    .build()
    .expect("all parts are there");
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(vocab_size)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(DOCUMENT, true)])
        .build();
    let failed = |e: tokenizers::Error| Error::data("text", e.to_string());
    tokenizer.train(&mut trainer, texts.iter()).map_err(failed)?;
    let found = tokenizer.get_vocab_size(true);
    if found < vocab_size {
        return Err(refuse(format!("at most {found}, which this text gives")));
    }
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": DOCUMENT, "eos_token": DOCUMENT, "add_bos_token": true,
    });
    Ok((tokenizer.to_string(true).map_err(failed)?, settings.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet_model::Tokenizer;

    #[test]
    fn characters_are_told_apart_and_come_back() {
        let text = "To be, or not to be: é\n";
        let tokenizer = Tokenizer::from_json(&characters(text), None).unwrap();
        let ids = tokenizer.encode(text, true).unwrap();
        assert_eq!(ids.len(), text.len());
        assert_eq!(tokenizer.decode(&ids, true), text);
        assert_eq!(tokenizer.vocab_size(), text.bytes().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn a_trained_tokenizer_begins_documents_and_gives_the_text_back() {
        let text = "The cat sat on the mat. The cat sat on the hat. ".repeat(50);
        let (json, settings) = bpe(&[text], 270).unwrap();
        let tokenizer = Tokenizer::from_json(&json, Some(&settings)).unwrap();
        assert_eq!(tokenizer.vocab_size(), 270);
        let ids = tokenizer.encode("The cat, 12345 héros!\n\n", true).unwrap();
        assert_eq!(ids[0], 0);
        assert_eq!(tokenizer.decode(&ids, true), "The cat, 12345 héros!\n\n");
        assert!(tokenizer.encode("The cat sat on", false).unwrap().len() < 8);
    }

    #[test]
    fn a_vocabulary_that_the_text_cannot_fill_is_refused() {
        assert!(bpe(&["abc".into()], 256).unwrap_err().to_string().contains("more than 256"));
        assert!(bpe(&["abc".into()], 4000).unwrap_err().to_string().contains("at most"));
    }
}
