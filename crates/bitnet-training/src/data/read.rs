//! Text, documents, conversations and token ids from files.

use super::{Corpus, Tokens, tokenizer};
use crate::{Error, Result};
use bitnet_core::interchange::npy::{Header, Kind};
use bitnet_model::{
    Tokenizer,
    template::Message,
    weights::{FileBytes, LoadMode, Source},
};
use rayon::prelude::*;
use serde::Deserialize;
use std::{fs, path::Path};

/// The tokenizer that has one token for each byte that occurs.
pub const CHARACTERS: &str = "chars";
/// A line that ends a document.
const SEPARATOR: &str = "<|endoftext|>";
/// Longest file of text.
const MAX_BYTES: u64 = 16 << 30;

/// The tokenizer that a configuration names: that of a file, folder or model, or one of the characters of the text `train`.
///
/// # Errors
/// Where a file cannot be read or is no tokenizer.
pub fn tokenizer_of(name: &str, train: &Path) -> Result<Tokenizer> {
    if name == CHARACTERS {
        if !is_text(train) {
            let reason = "characters are those of a text; name a tokenizer.json for other data";
            return Err(Error::data(train, reason));
        }
        let json = tokenizer::characters(&text(train)?);
        return Ok(Tokenizer::from_json(&json, None)?);
    }
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Tokenizer::from_folder(path)?);
    }
    if extension(path) == Some("gguf") {
        return Ok(Tokenizer::of(&Source::open(path, LoadMode::default())?)?.0);
    }
    let json = fs::read_to_string(path).map_err(Error::io(path))?;
    let beside = path.with_file_name("tokenizer_config.json");
    let settings = fs::read_to_string(beside).ok();
    Ok(Tokenizer::from_json(&json, settings.as_deref())?)
}

/// Reads a corpus: `.jsonl` as documents or conversations, `.npy` as token ids, everything else as text.
///
/// # Errors
/// Names the file and what in it cannot be learnt.
pub fn read(path: &Path, tokenizer: &Tokenizer) -> Result<Corpus> {
    match extension(path) {
        Some("npy") => shard(path),
        #[cfg(feature = "parquet")]
        Some("parquet") => rows(path, tokenizer),
        #[cfg(not(feature = "parquet"))]
        Some("parquet") => {
            let reason = "this program was built without the feature parquet; build it with --features parquet, or write the text as .jsonl \
                          with a key \"text\" on each line";
            Err(Error::data(path, reason))
        }
        Some("jsonl") => lines(path, tokenizer),
        _ => plain(path, tokenizer),
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|e| e.to_str())
}

fn is_text(path: &Path) -> bool {
    !matches!(extension(path), Some("npy" | "parquet" | "jsonl"))
}

fn text(path: &Path) -> Result<String> {
    let found = fs::metadata(path).map_err(Error::io(path))?;
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(Error::data(path, "not a regular file of at most 16 GiB"));
    }
    let bytes = fs::read(path).map_err(Error::io(path))?;
    String::from_utf8(bytes).map_err(|e| {
        let place = e.utf8_error().valid_up_to();
        Error::data(path, format!("byte {place} is not UTF-8; convert the text first"))
    })
}

/// Documents end with a line of [`SEPARATOR`]; a text without one is a single document.
fn plain(path: &Path, tokenizer: &Tokenizer) -> Result<Corpus> {
    let text = text(path)?;
    let has_documents = text.lines().any(|line| line == SEPARATOR);
    let documents: Vec<&str> = if has_documents { documents(&text) } else { vec![&text] };
    let encoded = documents.par_iter().map(|text| Ok(tokenizer.encode(text, true)?));
    let encoded = encoded.collect::<Result<Vec<_>>>()?;
    Ok(memory(path, encoded.concat(), None))
}

/// Newlines at both ends of a document are none of it.
fn documents(text: &str) -> Vec<&str> {
    let (mut documents, mut begin, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end_matches(['\n', '\r']) == SEPARATOR {
            documents.push(&text[begin..at]);
            begin = at + line.len();
        }
        at += line.len();
    }
    documents.push(&text[begin..]);
    documents.into_iter().map(|text| text.trim_matches('\n')).filter(|text| !text.is_empty()).collect()
}

fn memory(path: &Path, tokens: Vec<u32>, counted: Option<Vec<bool>>) -> Corpus {
    Corpus { path: path.into(), range: 0..tokens.len(), tokens: Tokens::Memory(tokens), counted }
}

/// A line of a `.jsonl` file, or a row of a Parquet file.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Document { text: String },
    Conversation { messages: Vec<Turn> },
}

#[derive(Deserialize)]
pub(super) struct Turn {
    pub role: String,
    pub content: String,
}

/// Token ids, and which of them count.
type Encoded = (Vec<u32>, Vec<bool>);

fn lines(path: &Path, tokenizer: &Tokenizer) -> Result<Corpus> {
    let text = text(path)?;
    let lines: Vec<(usize, &str)> = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).collect();
    let encoded = lines.par_iter().map(|&(number, line)| {
        let refuse = |reason: String| Error::data(path, format!("line {}: {reason}", number + 1));
        let expected = "expected {\"text\": ..} or {\"messages\": [{\"role\": .., \"content\": ..}, ..]}";
        let line: Line = serde_json::from_str(line).map_err(|e| refuse(format!("{e}; {expected}")))?;
        encode(&line, tokenizer, refuse)
    });
    Ok(joined(path, encoded.collect::<Result<Vec<Encoded>>>()?))
}

#[cfg(feature = "parquet")]
fn rows(path: &Path, tokenizer: &Tokenizer) -> Result<Corpus> {
    let rows = super::parquet::rows(path, MAX_BYTES)?;
    let encoded = rows.par_iter().enumerate().map(|(number, row)| {
        encode(row, tokenizer, |reason| Error::data(path, format!("row {}: {reason}", number + 1)))
    });
    Ok(joined(path, encoded.collect::<Result<Vec<Encoded>>>()?))
}

fn encode(line: &Line, tokenizer: &Tokenizer, refuse: impl Fn(String) -> Error) -> Result<Encoded> {
    match line {
        Line::Document { text } => {
            let tokens = tokenizer.encode(text, true)?;
            let counted = vec![true; tokens.len()];
            Ok((tokens, counted))
        }
        Line::Conversation { messages } => conversation(messages, tokenizer, refuse),
    }
}

fn joined(path: &Path, encoded: Vec<Encoded>) -> Corpus {
    let (tokens, counted): (Vec<_>, Vec<_>) = encoded.into_iter().unzip();
    let (tokens, counted) = (tokens.concat(), counted.concat());
    let all = counted.iter().all(|&counted| counted);
    memory(path, tokens, (!all).then_some(counted))
}

/// A conversation in the model's template, of which the answers count: what stands between the prompt for an answer and its end.
fn conversation(turns: &[Turn], tokenizer: &Tokenizer, refuse: impl Fn(String) -> Error) -> Result<Encoded> {
    let messages: Vec<Message> =
        turns.iter().map(|t| Message { role: t.role.clone(), content: t.content.clone() }).collect();
    let tokens = tokenizer.encode_chat(&messages, false)?;
    let mut counted = vec![false; tokens.len()];
    for (i, message) in messages.iter().enumerate().filter(|(_, m)| m.role == "assistant") {
        let prompt = tokenizer.encode_chat(&messages[..i], true)?;
        let answered = tokenizer.encode_chat(&messages[..=i], false)?;
        if !answered.starts_with(&prompt) || !tokens.starts_with(&answered) {
            let reason = format!(
                "the chat template writes message {} ({}) in another way when more follows, so that its tokens cannot be told apart",
                i + 1,
                message.role
            );
            return Err(refuse(reason));
        }
        counted[prompt.len()..answered.len()].fill(true);
    }
    Ok((tokens, counted))
}

/// Token ids in a `.npy` file, which stay in the file.
fn shard(path: &Path) -> Result<Corpus> {
    let file = FileBytes::open(path, LoadMode::default())?;
    let whole = file.slice(0..file.len());
    let (header, data) = Header::parse(&whole).map_err(|e| Error::data(path, e.to_string()))?;
    let fits = header.shape.len() == 1 && !header.fortran_order && !header.descr.big_endian;
    let integers = matches!(header.descr.kind, Kind::Uint | Kind::Int);
    let width = header.descr.size;
    if !fits || !integers || ![2, 4, 8].contains(&width) || data.len() != header.shape[0] * width {
        let reason = format!(
            "{} of shape {:?}: expected one dimension of uint16, uint32 or int64 ids",
            header.descr, header.shape
        );
        return Err(Error::data(path, reason));
    }
    let begin = whole.len() - data.len();
    let bytes = whole.slice(begin..whole.len());
    Ok(Corpus {
        path: path.into(),
        range: 0..header.shape[0],
        tokens: Tokens::Mapped { bytes, width },
        counted: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_end_at_a_line_of_their_own() {
        let text = "One.\n\nTwo.\n<|endoftext|>\n\nThree <|endoftext|> more\n<|endoftext|>\n";
        assert_eq!(documents(text), ["One.\n\nTwo.", "Three <|endoftext|> more"]);
    }
}
