//! The vocabulary of a tokenizer as the metadata of a GGUF. A GGUF says little about how text is cut: what its readers would
//! cut otherwise is refused by name.

use super::{
    Error, GgufVocab, Inner, Result, Tokenizer,
    bytes::{Alphabet, byte_token},
    gguf::{BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, space_normalizers},
    pretokenizer::Splitting,
};
use crate::weights::gguf::Strings;
use serde_json::Value;

/// The vocabulary of a tokenizer as GGUF metadata.
pub(super) fn export(tokenizer: &Tokenizer) -> Result<GgufVocab> {
    let inner = &*tokenizer.0;
    check_frame(tokenizer)?;
    check_added(inner)?;
    let json = &inner.whole_json();
    let byte_level = inner.alphabet == Alphabet::ByteLevel;
    let (pre, add_space_prefix) =
        if byte_level { (Some(splitting(inner, json)?), None) } else { (None, Some(space_prefix(json)?)) };
    let merge = |m: &Value| match m {
        Value::String(text) => Some(text.clone()),
        pair => Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)),
    };
    let merges =
        json["model"]["merges"].as_array().into_iter().flatten().map(merge).collect::<Option<Strings>>();
    let unknown = json["model"]["unk_token"].as_str().and_then(|text| tokenizer.id(text));
    let (tokens, kinds) = tokens(tokenizer);
    // Likelier tokens come first in a vocabulary that was trained by merging.
    let scores = (!byte_level).then(|| (0..tokens.len()).map(|id| -(id as f32)).collect());
    Ok(GgufVocab {
        model: if byte_level { "gpt2" } else { "llama" }.to_owned(),
        pre: pre.map(|splitting| splitting.name().to_owned()),
        tokens,
        scores,
        token_types: Some(kinds),
        merges,
        bos: tokenizer.bos(),
        eos: tokenizer.eos().first().copied(),
        eot: tokenizer.eos().get(1).copied(),
        unknown,
        padding: None,
        add_bos: Some(tokenizer.adds_bos()),
        add_space_prefix,
        chat_template: tokenizer.chat_template().map(|t| t.source().to_owned()),
    })
}

/// The text and the type of every id.
fn tokens(tokenizer: &Tokenizer) -> (Strings, Vec<i32>) {
    let inner = &*tokenizer.0;
    let one = |id: u32| {
        let Some(text) = tokenizer.token(id) else { return (format!("[PAD{id}]"), UNUSED) };
        let kind = if inner.specials.is_special(id) {
            CONTROL
        } else if inner.specials.is_added(id) {
            USER_DEFINED
        } else if inner.alphabet == Alphabet::SentencePiece && byte_token(&text).is_some() {
            BYTE
        } else {
            NORMAL
        };
        (text, kind)
    };
    let (texts, kinds): (Vec<String>, Vec<i32>) = (0..tokenizer.vocab_size() as u32).map(one).unzip();
    (texts.into_iter().collect(), kinds)
}

fn refusal(field: &'static str, value: &Value, expected: &'static str) -> Error {
    Error::Unknown { field, value: value.to_string(), expected }
}

/// A GGUF can say no more than whether a text begins with `bos`.
fn check_frame(tokenizer: &Tokenizer) -> Result<()> {
    let inner = &*tokenizer.0;
    let plain = inner.suffix.is_empty()
        && (inner.prefix.is_empty() || inner.prefix[..] == [inner.bos.unwrap_or(u32::MAX)]);
    let expected =
        "one that puts nothing but bos before a text, as GGUF files have it; keep this model as a folder";
    if plain { Ok(()) } else { Err(refusal("post_processor", &inner.json["post_processor"], expected)) }
}

/// Added tokens of a GGUF are found in the text as it is, and take nothing around them along.
fn check_added(inner: &Inner) -> Result<()> {
    let expected = "one without lstrip, rstrip, single_word and normalized, as GGUF files have it; keep this model as a folder";
    let normalizes = !inner.json["normalizer"].is_null() && inner.alphabet == Alphabet::SentencePiece;
    for token in inner.json["added_tokens"].as_array().into_iter().flatten() {
        let flag = |name: &str| token[name] == true;
        let normalized = normalizes && flag("normalized") && !flag("special");
        if flag("lstrip") || flag("rstrip") || flag("single_word") || normalized {
            return Err(refusal("an added token", token, expected));
        }
    }
    Ok(())
}

/// The name of a byte-level tokenizer's way of splitting, where its readers do all the rest as this tokenizer does.
fn splitting(inner: &Inner, json: &Value) -> Result<Splitting> {
    let expected =
        "one that has a name in GGUF files (gpt-2, llama-bpe, qwen2, falcon); keep this model as a folder";
    let splitting = Splitting::of(&json["pre_tokenizer"])
        .or_else(|| Splitting::same_without_numbers(&json["pre_tokenizer"]).filter(|_| !has_numbers(json)))
        .ok_or_else(|| refusal("pre_tokenizer", &json["pre_tokenizer"], expected))?;
    if json["normalizer"] != splitting.normalizer() {
        let expected = "NFC with the splitting of qwen2 and none with others, as GGUF files have it; keep this model as a folder";
        return Err(refusal("normalizer", &json["normalizer"], expected));
    }
    let ignores = json["model"]["ignore_merges"] == true;
    if ignores != splitting.ignores_merges() && !merges_make_every_token(inner, json)? {
        let expected = "true with the splitting of llama-bpe and false with others, as GGUF files have it; keep this model as a folder";
        return Err(refusal("model.ignore_merges", &json["model"]["ignore_merges"], expected));
    }
    Ok(splitting)
}

/// Whether a token holds two digits in a row, so that it matters where runs of them are cut.
fn has_numbers(json: &Value) -> bool {
    let vocab = json["model"]["vocab"].as_object().into_iter().flatten();
    vocab
        .into_iter()
        .any(|(text, _)| text.as_bytes().windows(2).any(|two| two.iter().all(u8::is_ascii_digit)))
}

/// Whether merging makes every token of its own text, so that looking for it as a whole first changes nothing.
fn merges_make_every_token(inner: &Inner, json: &Value) -> Result<bool> {
    let model = inner.merges.get_model();
    for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        let mut made = model.merge(text).map_err(|e| Error::Encode { reason: e.to_string() })?;
        let whole = made.next().is_some_and(|(made, _)| *id == made) && made.next().is_none();
        let added = id.as_u64().is_some_and(|id| inner.specials.is_added(id as u32));
        if !whole && !added {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a SentencePiece tokenizer puts a space before a text, where its readers do all the rest as this tokenizer does.
fn space_prefix(json: &Value) -> Result<bool> {
    let model = &json["model"];
    if model["ignore_merges"] == true || model["byte_fallback"] != true || !model["unk_token"].is_string() {
        let expected = "byte_fallback and unk_token, without ignore_merges, as GGUF files have it; keep this model as a folder";
        let flags = serde_json::json!({
            "ignore_merges": model["ignore_merges"], "byte_fallback": model["byte_fallback"], "unk_token": model["unk_token"],
        });
        return Err(refusal("model", &flags, expected));
    }
    let (normalizer, pre) = (&json["normalizer"], &json["pre_tokenizer"]);
    let normalizers = match &normalizer["normalizers"] {
        Value::Array(list) => list.clone(),
        _ => (!normalizer.is_null()).then(|| normalizer.clone()).into_iter().collect(),
    };
    let found = [true, false].into_iter().find(|&prefixed| normalizers == space_normalizers(prefixed));
    let metaspace = pre["type"] == "Metaspace" && pre["replacement"] == "\u{2581}";
    let never = metaspace && pre["prepend_scheme"] == "never" && pre["split"] == false;
    match found {
        Some(prefixed) if pre.is_null() => Ok(prefixed),
        None if normalizers.is_empty() && never => Ok(false),
        _ => {
            let expected = "a Prepend and a Replace normalizer, as GGUF files have it (Metaspace puts a space before other texts); \
                keep this model as a folder";
            let parts = serde_json::json!({"normalizer": normalizer, "pre_tokenizer": pre});
            Err(refusal("how spaces are written", &parts, expected))
        }
    }
}
