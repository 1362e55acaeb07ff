//! Byte-pair merging, as a model for the tokenizers library: what that library makes of a word, but from tables that are built in a
//! quarter of its time, since a program reads 128,000 tokens and 280,000 merges before its first token.

use super::{Error, Result, vocabulary::Vocabulary};
use ahash::RandomState;
use hashbrown::HashMap;
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use tokenizers::{Model, Token, models::TrainerWrapper, models::bpe::BpeTrainer};

/// Two tokens that become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merge {
    pub(super) pair: [u32; 2],
    pub(super) into: u32,
}

impl Merge {
    /// Finds the tokens of two texts and of both together.
    fn of(vocabulary: &Vocabulary, [a, b]: [&str; 2], joined: &mut Vec<u8>) -> Option<Self> {
        joined.clear();
        joined.extend_from_slice(a.as_bytes());
        joined.extend_from_slice(b.as_bytes());
        let pair = [vocabulary.id(a.as_bytes())?, vocabulary.id(b.as_bytes())?];
        Some(Self { pair, into: vocabulary.id(joined)? })
    }

    /// The merges of pairs of texts, the first ones first.
    ///
    /// # Errors
    /// Names the first pair of which a part, or what it makes, is no token.
    pub(super) fn all<'a>(
        vocabulary: &Vocabulary,
        pairs: impl IndexedParallelIterator<Item = Result<[&'a str; 2]>>,
    ) -> Result<Vec<Self>> {
        let one = |joined: &mut Vec<u8>, (index, pair): (usize, Result<[&'a str; 2]>)| {
            let pair = pair?;
            let unknown = || Error::Merge { index, merge: pair.join(" ") };
            Self::of(vocabulary, pair, joined).ok_or_else(unknown)
        };
        // All are looked at, so that the first one that is wrong is named however many threads look.
        let found: Vec<Result<Self>> = pairs.enumerate().map_init(Vec::new, one).collect();
        found.into_iter().collect()
    }
}

/// What a model does besides merging.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Stands for what is not in the vocabulary; its text, where it is not there itself.
    pub(super) unknown: Option<std::result::Result<u32, String>>,
    /// Several unknown characters in a row are one token.
    pub(super) fuse_unknown: bool,
    /// A character that is not in the vocabulary becomes the tokens of its bytes, `<0xAB>`, where all of them exist.
    pub(super) byte_fallback: bool,
    /// A word that is a token as a whole is not merged.
    pub(super) ignore_merges: bool,
}

/// A vocabulary with its merges.
#[derive(Clone, Debug)]
pub(super) struct Bpe {
    vocabulary: Vocabulary,
    /// The rank of a pair, and what it becomes.
    merges: HashMap<[u32; 2], (u32, u32), RandomState>,
    rules: Rules,
    /// The tokens of single bytes.
    bytes: Option<Box<[Option<u32>; 256]>>,
}

impl Bpe {
    pub(super) fn new(vocabulary: Vocabulary, merges: &[Merge], rules: Rules) -> Self {
        let mut ranks = HashMap::with_capacity_and_hasher(merges.len(), RandomState::default());
        ranks.extend(merges.iter().zip(0..).map(|(merge, rank)| (merge.pair, (rank, merge.into))));
        let token = |byte: usize| vocabulary.id(format!("<0x{byte:02X}>").as_bytes());
        let bytes = rules.byte_fallback.then(|| Box::new(std::array::from_fn(token)));
        Self { vocabulary, merges: ranks, rules, bytes }
    }

    /// The symbols that a word begins with: its characters, or their bytes.
    fn symbols(&self, word: &str) -> tokenizers::Result<Symbols> {
        // Places and lengths have 32 bits.
        u32::try_from(word.len())?;
        let mut symbols = Symbols::with_capacity(word.len());
        // Id and bytes of unknown characters that wait, so that others may join them.
        let mut unknown: Option<(u32, u32)> = None;
        for (at, character) in word.char_indices() {
            let bytes = &word.as_bytes()[at..at + character.len_utf8()];
            let len = bytes.len() as u32;
            if let Some(id) = self.vocabulary.id(bytes) {
                unknown.take().into_iter().for_each(|(id, len)| symbols.push(id, len));
                symbols.push(id, len);
            } else if let Some(tokens) = self.fallback(bytes) {
                tokens.for_each(|id| symbols.push(id, 1));
            } else if let Some(token) = &self.rules.unknown {
                let id = *token
                    .as_ref()
                    .map_err(|text| format!("the unknown token {text:?} is not in the vocabulary"))?;
                let joined =
                    unknown.filter(|_| self.rules.fuse_unknown).map(|(id, before)| (id, before + len));
                if joined.is_none() {
                    unknown.into_iter().for_each(|(id, len)| symbols.push(id, len));
                }
                unknown = joined.or(Some((id, len)));
            }
        }
        unknown.into_iter().for_each(|(id, len)| symbols.push(id, len));
        Ok(symbols)
    }

    fn fallback<'a>(&'a self, bytes: &'a [u8]) -> Option<impl Iterator<Item = u32> + 'a> {
        let tokens = self.bytes.as_deref()?;
        let all = bytes.iter().all(|&byte| tokens[usize::from(byte)].is_some());
        all.then(|| bytes.iter().filter_map(|&byte| tokens[usize::from(byte)]))
    }

    /// Merges the tokens of a word, the pair of the lowest rank first, the leftmost of equal ones. Returns ids and lengths in bytes.
    pub(super) fn merge(&self, word: &str) -> tokenizers::Result<impl Iterator<Item = (u32, u32)> + use<>> {
        let mut symbols = self.symbols(word)?;
        let mut queue = BinaryHeap::new();
        let push = |queue: &mut BinaryHeap<_>, symbols: &Symbols, at: u32| {
            let Some(pair) = symbols.pair(at) else { return };
            if let Some(&(rank, into)) = self.merges.get(&pair) {
                queue.push(Reverse((rank, at, into)));
            }
        };
        (0..symbols.0.len() as u32).for_each(|at| push(&mut queue, &symbols, at));
        while let Some(Reverse((_, at, into))) = queue.pop() {
            // Neighbours may have been merged meanwhile.
            let still = symbols.pair(at).and_then(|pair| self.merges.get(&pair));
            if still.is_none_or(|&(_, now)| now != into) {
                continue;
            }
            if let Some(before) = symbols.join(at, into) {
                push(&mut queue, &symbols, before);
            }
            push(&mut queue, &symbols, at);
        }
        Ok(symbols.0.into_iter().filter(|symbol| symbol.len > 0).map(|symbol| (symbol.id, symbol.len)))
    }
}

impl Model for Bpe {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        if self.rules.ignore_merges
            && !word.is_empty()
            && let Some(id) = self.vocabulary.id(word.as_bytes())
        {
            return Ok(vec![Token::new(id, word.to_owned(), (0, word.len()))]);
        }
        let mut start = 0;
        let token = |(id, len): (u32, u32)| {
            let end = start + len as usize;
            let token = Token::new(id, self.vocabulary.text(id).unwrap_or_default().to_owned(), (start, end));
            start = end;
            token
        };
        Ok(self.merge(word)?.map(token).collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.vocabulary.id(token.as_bytes())
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.vocabulary.text(id).map(str::to_owned)
    }

    fn get_vocab(&self) -> std::collections::HashMap<String, u32> {
        self.vocabulary.iter().map(|(text, id)| (text.to_owned(), id)).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a tokenizer is written as a whole".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        BpeTrainer::default().into()
    }
}

/// A token of a word that is being merged.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Bytes; 0 once it is part of the one before.
    len: u32,
    before: u32,
    next: u32,
}

/// A list of symbols, linked because they vanish from its middle.
struct Symbols(Vec<Symbol>);

/// Before the first symbol and behind the last.
const NONE: u32 = u32::MAX;

impl Symbols {
    fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    fn push(&mut self, id: u32, len: u32) {
        let at = self.0.len() as u32;
        if let Some(last) = self.0.last_mut() {
            last.next = at;
        }
        self.0.push(Symbol { id, len, before: at.checked_sub(1).unwrap_or(NONE), next: NONE });
    }

    /// The ids of a symbol that is left and of the one behind it.
    fn pair(&self, at: u32) -> Option<[u32; 2]> {
        let symbol = self.0[at as usize];
        let next = self.0.get(symbol.next as usize)?;
        (symbol.len > 0).then_some([symbol.id, next.id])
    }

    /// Makes one of a symbol and the one behind it; returns the one before.
    fn join(&mut self, at: u32, into: u32) -> Option<u32> {
        let gone = self.0[at as usize].next as usize;
        let Symbol { len, next, .. } = self.0[gone];
        self.0[gone].len = 0;
        let symbol = &mut self.0[at as usize];
        (symbol.id, symbol.len, symbol.next) = (into, symbol.len + len, next);
        let before = symbol.before;
        if let Some(next) = self.0.get_mut(next as usize) {
            next.before = at;
        }
        (before != NONE).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::models::bpe::BPE;

    /// Both models of a vocabulary that is grown from some characters by merging its tokens at random.
    fn both(characters: &[String], picks: &[(usize, usize)], flags: [bool; 4]) -> (Bpe, BPE) {
        let [unknown, fuse, fallback, whole] = flags;
        let mut texts: Vec<String> = characters.to_vec();
        texts.extend((0..=255u8).filter(|byte| byte % 64 != 7).map(|byte| format!("<0x{byte:02X}>")));
        texts.push("?".to_owned());
        let grown = texts.len();
        let mut pairs = Vec::new();
        for &(a, b) in picks {
            // Pairs come twice, and two pairs make the same token.
            let parts: Vec<usize> = (0..characters.len()).chain(grown..texts.len()).collect();
            let [a, b] = [a, b].map(|pick| texts[parts[pick % parts.len()]].clone());
            let joined = format!("{a}{b}");
            if !texts.contains(&joined) {
                texts.push(joined);
            }
            pairs.push((a, b));
        }
        let mut vocabulary = Vocabulary::default();
        for (text, id) in texts.iter().zip(0..) {
            _ = vocabulary.insert(text, id);
        }
        let lists = pairs.par_iter().map(|(a, b)| Ok([a.as_str(), b.as_str()]));
        let merges = Merge::all(&vocabulary, lists).expect("all are tokens");
        let rules = Rules {
            unknown: unknown.then(|| Ok(vocabulary.id(b"?").expect("a token"))),
            fuse_unknown: fuse,
            byte_fallback: fallback,
            ignore_merges: whole,
        };
        let mut theirs = BPE::builder()
            .vocab_and_merges(
                vocabulary.iter().map(|(text, id)| (text.to_owned(), id)).collect::<ahash::AHashMap<_, _>>(),
                pairs,
            )
            .fuse_unk(fuse)
            .byte_fallback(fallback)
            .ignore_merges(whole);
        if unknown {
            theirs = theirs.unk_token("?".to_owned());
        }
        (Bpe::new(vocabulary, &merges, rules), theirs.build().expect("all are tokens"))
    }

    proptest! {
        #[test]
        fn words_become_the_tokens_of_the_library(
            characters in prop::collection::hash_set("[a-eä日]", 1..6),
            picks in prop::collection::vec((0usize..64, 0usize..64), 0..40),
            flags in any::<[bool; 4]>(),
            words in prop::collection::vec("[a-eäö日\u{7}]{0,24}", 1..12),
        ) {
            let mut characters: Vec<_> = characters.into_iter().collect();
            characters.sort();
            let (ours, theirs) = both(&characters, &picks, flags);
            for word in &words {
                prop_assert_eq!(ours.tokenize(word).expect("a word"), theirs.tokenize(word).expect("a word"), "{}", word);
            }
            prop_assert_eq!(ours.get_vocab(), theirs.get_vocab());
        }
    }

    #[test]
    fn an_unknown_token_that_is_not_there_is_missed_only_where_it_is_needed() {
        let mut vocabulary = Vocabulary::default();
        vocabulary.insert("a", 0).expect("new");
        let rules = Rules { unknown: Some(Err("<unk>".to_owned())), ..Rules::default() };
        let bpe = Bpe::new(vocabulary, &[], rules);
        assert_eq!(bpe.tokenize("aa").expect("known").len(), 2);
        assert!(bpe.tokenize("ab").expect_err("unknown").to_string().contains("<unk>"));
    }
}
