//! Text to tokens and back: `tokenizer.json`, or the vocabulary inside of a GGUF.
//!
//! Two kinds of vocabulary exist: byte-level BPE (GPT-2, Llama 3, Qwen, Falcon) and SentencePiece-style BPE with byte fallback
//! (Llama 2). Cutting a text into words is left to the `tokenizers` crate; which parts of it may become control tokens is decided here.

mod bpe;
mod bytes;
mod error;
mod export;
mod gguf;
mod guard;
mod json;
mod limits;
mod merging;
mod pretokenizer;
mod special;
mod vocabulary;

use std::path::Path;
use std::sync::Arc;

pub use error::Error;
pub use gguf::{GgufVocab, Note};

use crate::template::{ChatTemplate, Message};
use bytes::Alphabet;
use limits::Limits;
use merging::Merger;
use special::Specials;
use vocabulary::ById;

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest text that is encoded at once.
pub const MAX_TEXT: usize = 64 << 20;

/// Roles that a message may have. A template that puts them between the brackets of a control token (`<|user|>`) would make one of
/// any other.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A vocabulary with everything that turns text into its tokens and back. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    merges: Merger,
    /// For parts of a text behind a control token, where those are cut otherwise.
    later: Option<Merger>,
    /// The `tokenizer.json` that `merges` was built from; without tokens and merges where `vocab` has them.
    json: serde_json::Value,
    vocab: Option<Box<GgufVocab>>,
    alphabet: Alphabet,
    specials: Specials,
    limits: Limits,
    /// Bytes of every token.
    pieces: ById,
    /// What the model expects before and after a text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    bos: Option<u32>,
    eos: Vec<u32>,
    template: Option<ChatTemplate>,
}

/// Everything that a [`Tokenizer`] is made of, whatever file it came from.
struct Parts {
    /// A `tokenizer.json`, tokens and merges perhaps beside it.
    json: serde_json::Value,
    bos: Option<u32>,
    eos: Vec<u32>,
    /// Whether a text begins with `bos`; what the post-processor of `json` says where it is `None`.
    add_bos: Option<bool>,
    template: Option<String>,
}

/// What takes time to build of [`Parts`].
struct Built {
    merges: Merger,
    later: Option<Merger>,
    alphabet: Alphabet,
    specials: Specials,
    pieces: ById,
}

impl Inner {
    /// The `tokenizer.json` with all tokens and merges.
    fn whole_json(&self) -> serde_json::Value {
        let mut json = self.json.clone();
        if let Some(Ok((_, merging, _))) = self.vocab.as_deref().map(gguf::parts) {
            merging.write(&mut json["model"]);
        }
        json
    }
}

impl Parts {
    /// Makes control tokens of the tokens that begin or end a text.
    fn mark(&mut self) {
        let steering: Vec<u32> = self.eos.iter().copied().chain(self.bos).collect();
        special::mark(&mut self.json, &steering);
    }
}

impl Tokenizer {
    /// Reads the tokenizer of a Hugging Face folder.
    ///
    /// # Errors
    /// Names the file that is missing, too large, malformed or of an unknown kind.
    pub fn from_folder(dir: &Path) -> Result<Self> {
        Self::from_json_parts(json::folder(dir)?)
    }

    /// Reads a `tokenizer.json` and, where there is one, a `tokenizer_config.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`].
    pub fn from_json(tokenizer: &str, config: Option<&str>) -> Result<Self> {
        Self::from_json_parts(json::texts(tokenizer, config, &[])?)
    }

    /// Builds the tokenizer of a GGUF; the notes say what was repaired.
    ///
    /// # Errors
    /// Names the metadata key that is missing, unknown or contradicts another.
    pub fn from_gguf(vocab: &GgufVocab) -> Result<(Self, Vec<Note>)> {
        Self::from_vocab(vocab.clone())
    }

    fn from_vocab(vocab: GgufVocab) -> Result<(Self, Vec<Note>)> {
        let (mut parts, merging, notes) = gguf::parts(&vocab)?;
        parts.mark();
        let (alphabet, specials) = (Alphabet::of(&parts.json)?, Specials::read(&parts.json)?);
        let (merges, pieces) =
            rayon::join(|| merging.build(&parts.json), || json::pieces(vocab.used(), alphabet, &specials));
        let built = Built { merges: merges?, later: None, alphabet, specials, pieces };
        Ok((Self::from_parts(parts, built, Some(Box::new(vocab)))?, notes))
    }

    /// The tokenizer of a container.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`] and [`Tokenizer::from_gguf`].
    pub fn of(source: &crate::weights::Source) -> crate::Result<(Self, Vec<String>)> {
        let at = |error: Error| crate::Error::from(error).at(source.path());
        match source {
            crate::weights::Source::Folder(folder) => {
                Ok((Self::from_folder(folder.path()).map_err(at)?, Vec::new()))
            }
            crate::weights::Source::Gguf(file) => {
                let (tokenizer, notes) = Self::from_vocab(GgufVocab::read(file)?).map_err(at)?;
                Ok((tokenizer, notes.iter().map(Note::to_string).collect()))
            }
        }
    }

    fn from_json_parts(mut parts: Parts) -> Result<Self> {
        let alphabet = Alphabet::of(&parts.json)?;
        parts.mark();
        let (merges, later) = json::build(&parts.json)?;
        let specials = Specials::read(&parts.json)?;
        let vocab = merges.get_vocab(true);
        let texts = vocab.iter().map(|(text, &id)| (text.as_str(), id));
        let pieces = json::pieces(texts, alphabet, &specials);
        Self::from_parts(parts, Built { merges, later, alphabet, specials, pieces }, None)
    }

    fn from_parts(parts: Parts, built: Built, vocab: Option<Box<GgufVocab>>) -> Result<Self> {
        let Built { mut merges, mut later, alphabet, specials, pieces } = built;
        // Control tokens are found here, so that user text never becomes one.
        [Some(&mut merges), later.as_mut()]
            .into_iter()
            .flatten()
            .for_each(|m| m.set_encode_special_tokens(true));
        let (mut prefix, suffix) = json::frame(&merges)?;
        // A configuration may name ids of the tokenizer that it was copied from.
        let exists = |id: &u32| pieces.get(*id).is_some();
        let begins = || <[u32; 1]>::try_from(&prefix[..]).ok().map(|[id]| id);
        let bos = parts.bos.filter(exists).or_else(begins);
        let named = special::ENDS.iter().filter_map(|name| merges.token_to_id(name));
        let named = named.filter(|&id| specials.is_special(id));
        let mut eos = Vec::new();
        for id in parts.eos.into_iter().filter(exists).chain(named) {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        match (parts.add_bos, bos) {
            (Some(true), Some(bos)) => prefix = vec![bos],
            (Some(false), _) => prefix.clear(),
            _ => {}
        }
        let name = |id: u32| merges.id_to_token(id).unwrap_or_default();
        let bos_text = bos.map(name).unwrap_or_default();
        let eos_text = eos.first().copied().map(name).unwrap_or_default();
        let template = parts.template.map(|source| ChatTemplate::new(&source, &bos_text, &eos_text));
        let limits = Limits::of(&parts.json["pre_tokenizer"])?;
        let json = parts.json;
        Ok(Self(Arc::new(Inner {
            merges,
            later,
            json,
            vocab,
            alphabet,
            specials,
            limits,
            pieces,
            prefix,
            suffix,
            bos,
            eos,
            template,
        })))
    }

    /// Number of ids, gaps included.
    pub fn vocab_size(&self) -> usize {
        self.0.pieces.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// Whether the model expects [`Tokenizer::bos`] before a text.
    pub fn adds_bos(&self) -> bool {
        self.0.bos.is_some() && self.0.prefix.first() == self.0.bos.as_ref()
    }

    /// Tokens that end a text or a turn; the first is the model's own.
    pub fn eos(&self) -> &[u32] {
        &self.0.eos
    }

    /// The id of a token, by its text in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.merges.token_to_id(token)
    }

    /// The text of a token in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.merges.id_to_token(id)
    }

    /// Whether a token steers the model and stands for no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.specials.is_special(id)
    }

    /// The bytes that a token stands for; those of a control token are its name.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.pieces.get(id)
    }

    /// The chat template of the file.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.0.template.as_ref()
    }

    /// Tokens of plain text: whatever it says, none of them is a control token but the ones that `framed` puts around it.
    ///
    /// # Errors
    /// Where the text is too long.
    pub fn encode(&self, text: &str, framed: bool) -> Result<Vec<u32>> {
        let mut ids = if framed { self.0.prefix.clone() } else { Vec::new() };
        self.encode_plain(text, true, &mut ids)?;
        if framed {
            ids.extend(&self.0.suffix);
        }
        Ok(ids)
    }

    /// Tokens of text in which names of control tokens stand for them. Use it for text of the caller's own, never for text of
    /// a user.
    ///
    /// # Errors
    /// Where the text is too long.
    pub fn encode_with_control(&self, text: &str, framed: bool) -> Result<Vec<u32>> {
        let mut ids = if framed { self.0.prefix.clone() } else { Vec::new() };
        self.encode_parts(text, &mut ids)?;
        if framed {
            ids.extend(&self.0.suffix);
        }
        Ok(ids)
    }

    /// Tokens of a conversation in the form that the model was trained on. Contents are plain text.
    ///
    /// # Errors
    /// Where there is no template, it fails or takes too long, a role is not one of system, developer, user, assistant and
    /// tool, or the text is too long.
    pub fn encode_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        let template = self.chat_template().ok_or(Error::NoTemplate)?;
        let hidden = messages.iter().map(|m| self.hide(m)).collect::<Result<Vec<Message>>>()?;
        let text = template.render(&hidden, add_generation_prompt)?;
        let mut ids = Vec::new();
        self.encode_parts(&text, &mut ids)?;
        Ok(ids)
    }

    /// A message in which no name of a control token stands unbroken.
    fn hide(&self, message: &Message) -> Result<Message> {
        let role = message.role.clone();
        if !ROLES.contains(&role.as_str()) {
            let (value, expected) = (format!("{role:?}"), "system, developer, user, assistant or tool");
            return Err(Error::Unknown { field: "the role of a message", value, expected });
        }
        Ok(Message { role, content: self.0.specials.hide(&message.content) })
    }

    fn encode_parts(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(Error::TooLong { bytes: text.len(), limit: MAX_TEXT });
        }
        for (i, part) in self.0.specials.split(text).into_iter().enumerate() {
            match part {
                special::Part::Control(id) => ids.push(id),
                special::Part::Plain(text) => self.encode_plain(&special::reveal(text), i == 0, ids)?,
            }
        }
        Ok(())
    }

    /// `begins` says whether nothing stands before the text.
    fn encode_plain(&self, text: &str, begins: bool, ids: &mut Vec<u32>) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(Error::TooLong { bytes: text.len(), limit: MAX_TEXT });
        }
        if text.is_empty() {
            return Ok(());
        }
        self.0.limits.check(text)?;
        let merges = self.0.later.as_ref().filter(|_| !begins).unwrap_or(&self.0.merges);
        let made = json::encode(merges, text, false)?;
        if made.iter().any(|&id| self.is_special(id)) {
            return self.encode_apart(merges, text, begins, ids);
        }
        ids.extend(made);
        Ok(())
    }

    /// Tokens of plain text in which a control token is a word like others: it is cut behind its first character.
    fn encode_apart(&self, merges: &Merger, text: &str, begins: bool, ids: &mut Vec<u32>) -> Result<()> {
        let mut from = 0;
        for place in json::places(merges, text, |id| self.is_special(id))? {
            let word = text.get(place.clone()).unwrap_or_default();
            let cut = place.start + word.chars().next().map_or(0, char::len_utf8);
            if cut <= from || cut >= text.len() || cut >= place.end {
                return Err(Error::ControlWord { word: word.to_owned() });
            }
            self.encode_plain(&text[from..cut], begins && from == 0, ids)?;
            from = cut;
        }
        // No control token begins at a later character of its own: the pieces are shorter each time.
        self.encode_plain(&text[from..], begins && from == 0, ids)
    }

    /// The text of tokens; bytes that are no UTF-8 become U+FFFD. Control tokens are left out or shown by name.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids.iter().filter(|&&id| !(skip_special && self.is_special(id))) {
            bytes.extend_from_slice(self.token_bytes(id).unwrap_or_default());
        }
        let text = String::from_utf8_lossy(&bytes);
        // A SentencePiece text begins with a space that was put there.
        match text.strip_prefix(' ') {
            Some(rest) if self.0.alphabet == Alphabet::SentencePiece => rest.to_owned(),
            _ => text.into_owned(),
        }
    }

    /// The vocabulary as the metadata of a GGUF.
    ///
    /// # Errors
    /// Names the part that a GGUF cannot hold, such as a way of splitting text that has no name there.
    pub fn to_gguf(&self) -> Result<GgufVocab> {
        export::export(self)
    }

    /// The texts of `tokenizer.json` and `tokenizer_config.json`.
    pub fn to_json(&self) -> (String, String) {
        let mut json = self.0.whole_json();
        if let Some(bos) = self.bos().filter(|_| self.adds_bos() && json["post_processor"].is_null()) {
            // transformers puts the first token there by no other way.
            json["post_processor"] = json::begins_with(bos, &self.token(bos).unwrap_or_default());
        }
        (json.to_string(), json::config_of(self).to_string())
    }
}
