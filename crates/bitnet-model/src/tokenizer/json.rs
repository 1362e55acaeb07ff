//! `tokenizer.json` and the small files beside it.

use super::{
    Error, Parts, Result, Tokenizer,
    bytes::Alphabet,
    guard::guard,
    merging::{Merger, Merging},
    special::Specials,
    vocabulary::ById,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tokenizers::PreTokenizerWrapper;

/// Largest file that is read: the largest real vocabularies take about 35 MB.
const MAX_FILE: u64 = 128 << 20;
/// Longest text of a token.
pub(super) const MAX_TOKEN: usize = 65_536;
/// Most replacements of a normalizer, and the longest text that one puts there.
const MAX_REPLACES: usize = 4;
const MAX_REPLACEMENT: usize = 16;
/// Most entries of a vocabulary.
const MAX_VOCAB: u32 = 4 << 20;

/// Reads a file, if it is there.
fn read(dir: &Path, name: &str) -> Result<Option<String>> {
    let path = dir.join(name);
    let Ok(data) = fs::metadata(&path) else { return Ok(None) };
    if !data.is_file() {
        // A pipe would wait for its writer, a device never end.
        return Err(Error::Io { path, error: std::io::Error::other("not a regular file") });
    }
    if data.len() > MAX_FILE {
        return Err(Error::FileTooLong { path, bytes: data.len(), limit: MAX_FILE });
    }
    fs::read_to_string(&path).map(Some).map_err(|error| Error::Io { path, error })
}

/// Reads the files of a folder.
pub(super) fn folder(dir: &Path) -> Result<Parts> {
    let Some(tokenizer) = read(dir, "tokenizer.json")? else {
        let reason =
            "missing; save the tokenizer with transformers' `save_pretrained` (a fast tokenizer writes it)";
        return Err(Error::Json { file: "tokenizer.json", reason: reason.into() });
    };
    let config = read(dir, "tokenizer_config.json")?;
    let others: Vec<String> = ["generation_config.json", "config.json"]
        .into_iter()
        .filter_map(|name| read(dir, name).transpose())
        .collect::<Result<_>>()?;
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let mut parts = texts(&tokenizer, config.as_deref(), &others)?;
    if let Some(template) = read(dir, "chat_template.jinja")? {
        parts.template = Some(template);
    }
    Ok(parts)
}

/// Reads the texts of the files; `others` may name the ids that end a text.
pub(super) fn texts(tokenizer: &str, config: Option<&str>, others: &[&str]) -> Result<Parts> {
    let json = parse("tokenizer.json", tokenizer)?;
    let config = config.map(|text| parse("tokenizer_config.json", text)).transpose()?.unwrap_or(Value::Null);
    let ids = |value: &Value| -> Vec<u32> {
        let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
        match value {
            Value::Array(list) => list.iter().filter_map(one).collect(),
            other => one(other).into_iter().collect(),
        }
    };
    let mut eos = Vec::new();
    eos.extend(named(&json, &config["eos_token"]));
    let mut bos = named(&json, &config["bos_token"]);
    for text in others {
        let value = parse("config.json", text)?;
        eos.extend(ids(&value["eos_token_id"]));
        bos = bos.or_else(|| ids(&value["bos_token_id"]).first().copied());
    }
    Ok(Parts {
        json,
        bos,
        eos,
        add_bos: config["add_bos_token"].as_bool(),
        template: template(&config["chat_template"]),
    })
}

fn parse(file: &'static str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Error::Json { file, reason: format!("not valid JSON: {e}") })
}

/// The id of a token that a configuration names by its text, or by an object with its text.
fn named(json: &Value, token: &Value) -> Option<u32> {
    let text = token.as_str().or_else(|| token["content"].as_str())?;
    let added = json["added_tokens"].as_array().into_iter().flatten().find(|t| t["content"] == text);
    let id = added.map_or(&json["model"]["vocab"][text], |t| &t["id"]);
    id.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// A template, or the default one of a list of named templates.
fn template(value: &Value) -> Option<String> {
    match value {
        Value::String(source) => Some(source.clone()),
        Value::Array(list) => {
            let default = list.iter().find(|t| t["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// The merging part, and another one for text behind a control token, where a space goes before the first word of a text only.
pub(super) fn build(json: &Value) -> Result<(Merger, Option<Merger>)> {
    let merges = Merging::of_json(json)?.build(json)?;
    let mut pre = json["pre_tokenizer"].clone();
    if !never_prepends(&mut pre) {
        return Ok((merges, None));
    }
    let mut later = merges.clone();
    later.with_pre_tokenizer(Some(pre_tokenizer(pre)?));
    Ok((merges, Some(later)))
}

fn pre_tokenizer(json: Value) -> Result<PreTokenizerWrapper> {
    serde_json::from_value(json)
        .map_err(|error| Error::Json { file: "tokenizer.json", reason: error.to_string() })
}

/// Turns a space before the first word of a text into none; false where there is no such.
fn never_prepends(pre: &mut Value) -> bool {
    let parts = match pre["pretokenizers"].as_array_mut() {
        Some(list) => list.iter_mut().collect(),
        None => vec![pre],
    };
    let mut differs = false;
    for part in parts {
        if part["type"] == "Metaspace" && part["prepend_scheme"] == "first" {
            part["prepend_scheme"] = "never".into();
            differs = true;
        }
    }
    differs
}

/// Where in a text, in bytes, the tokens of `wanted` lie.
pub(super) fn places(
    merges: &Merger,
    text: &str,
    wanted: impl Fn(u32) -> bool,
) -> Result<Vec<std::ops::Range<usize>>> {
    let encoding = guard(|| merges.encode(text, false))
        .unwrap_or_else(|panic| Err(panicked(&panic).into()))
        .map_err(|e| Error::Encode { reason: e.to_string() })?;
    let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
    Ok(tokens.filter(|(id, _)| wanted(**id)).map(|(_, &(start, end))| start..end).collect())
}

/// Ids of a text, with what the post-processor puts around it if that is asked for.
pub(super) fn encode(merges: &Merger, text: &str, framed: bool) -> Result<Vec<u32>> {
    guard(|| merges.encode_fast(text, framed).map(|encoding| encoding.get_ids().to_vec()))
        .unwrap_or_else(|panic| Err(panicked(&panic).into()))
        .map_err(|e| Error::Encode { reason: e.to_string() })
}

pub(super) fn panicked(words: &str) -> String {
    format!("the tokenizer library fails at tokenizer.json: {words}")
}

/// Limits that the library does not have.
pub(super) fn check(json: &Value) -> Result<()> {
    if !json["model"]["dropout"].is_null() && json["model"]["dropout"].as_f64() != Some(0.0) {
        let value = json["model"]["dropout"].to_string();
        return Err(Error::Unknown {
            field: "model.dropout",
            value,
            expected: "null: random merges have no right ids",
        });
    }
    let version = &json["version"];
    if !version.is_null() && version != "1.0" {
        return Err(Error::Unknown { field: "version", value: version.to_string(), expected: "\"1.0\"" });
    }
    // Byte-level and SentencePiece models have neither, and merging here knows of none.
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let value = &json["model"][field];
        if !value.is_null() && value != "" {
            let (value, expected) = (value.to_string(), "null or empty");
            return Err(Error::Unknown { field: "affix of a token in model", value, expected });
        }
    }
    let vocab = json["model"]["vocab"].as_object().into_iter().flatten();
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.map(|t| (t["content"].as_str().unwrap_or_default(), &t["id"]));
    for (text, id) in vocab.map(|(text, id)| (text.as_str(), id)).chain(added) {
        let Some(id) = id.as_u64().filter(|&id| id < u64::from(MAX_VOCAB)) else {
            return Err(Error::Unknown {
                field: "id of a token",
                value: id.to_string(),
                expected: "a number below 4194304",
            });
        };
        if text.len() > MAX_TOKEN {
            return Err(Error::TokenTooLong { id: id as usize, bytes: text.len(), limit: MAX_TOKEN });
        }
    }
    check_normalizer(&json["normalizer"])?;
    super::pretokenizer::check(&json["pre_tokenizer"])
}

/// Refuses normalizers that can make a text any number of times longer, or that the library reads a table of any size for.
/// Byte-level and SentencePiece models have a Prepend and a Replace at most.
fn check_normalizer(json: &Value) -> Result<()> {
    let steps: Vec<&Value> = match json["normalizers"].as_array() {
        Some(list) => list.iter().collect(),
        None => vec![json],
    };
    let of = |kind: &'static str| steps.iter().copied().filter(move |step| step["type"] == kind);
    let long = |step: &Value| step["content"].as_str().is_some_and(|text| text.len() > MAX_REPLACEMENT);
    let nested = steps.iter().find(|step| step["normalizers"].is_array());
    let refused = of("Precompiled").next().or_else(|| of("Replace").nth(MAX_REPLACES)).or(nested.copied());
    match refused.or_else(|| of("Replace").find(|step| long(step))) {
        None => Ok(()),
        Some(step) => {
            let expected = "at most 4 replacements by at most 16 bytes, and no table";
            Err(Error::Unknown { field: "normalizer", value: step.to_string(), expected })
        }
    }
}

/// The bytes of every id.
pub(super) fn pieces<'a>(
    texts: impl Iterator<Item = (&'a str, u32)>,
    alphabet: Alphabet,
    specials: &Specials,
) -> ById {
    let mut pieces = ById::with_capacity(texts.size_hint().0);
    let mut bytes = Vec::new();
    for (text, id) in texts {
        bytes.clear();
        match specials.is_added(id) {
            true => bytes.extend_from_slice(text.as_bytes()),
            false => alphabet.write_bytes(text, &mut bytes),
        }
        pieces.set(id, &bytes);
    }
    pieces
}

/// What the post-processor puts before and after a text.
pub(super) fn frame(merges: &Merger) -> Result<(Vec<u32>, Vec<u32>)> {
    let (plain, framed) = (encode(merges, "a", false)?, encode(merges, "a", true)?);
    let at = framed.windows(plain.len().max(1)).position(|window| window == plain).unwrap_or(0);
    let end = (at + plain.len()).min(framed.len());
    Ok((framed[..at].to_vec(), framed[end..].to_vec()))
}

/// A post-processor that puts a token before a text.
pub(super) fn begins_with(bos: u32, text: &str) -> Value {
    let token = json!({ "SpecialToken": { "id": text, "type_id": 0 } });
    let sequence = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    json!({
        "type": "TemplateProcessing",
        "single": [token, sequence("A", 0)],
        "pair": [token, sequence("A", 0), sequence("B", 1)],
        "special_tokens": { text: { "id": text, "ids": [bos], "tokens": [text] } },
    })
}

/// A `tokenizer_config.json`.
pub(super) fn config_of(tokenizer: &Tokenizer) -> Value {
    let name = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).map_or(Value::Null, Value::String);
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "bos_token": name(tokenizer.bos()),
        "eos_token": name(tokenizer.eos().first().copied()),
        "add_bos_token": tokenizer.adds_bos(),
    });
    if let Some(template) = tokenizer.chat_template() {
        config["chat_template"] = Value::String(template.source().to_owned());
    }
    config
}
