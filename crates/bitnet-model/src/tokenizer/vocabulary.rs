//! Tokens by their ids and by their texts.

use ahash::RandomState;
use hashbrown::HashTable;

/// Byte strings by id, in one allocation: a vocabulary has 100,000 of them.
#[derive(Clone, Debug, Default)]
pub(super) struct ById {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where in the bytes a string lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    len: u32,
}

/// Of an id that nothing has.
const NOWHERE: Place = Place { start: 0, len: u32::MAX };

impl ById {
    /// None yet, with room for as many.
    pub(super) fn with_capacity(ids: usize) -> Self {
        Self { bytes: Vec::with_capacity(8 * ids), places: Vec::with_capacity(ids) }
    }

    /// Gives an id its string, instead of one that it has.
    pub(super) fn set(&mut self, id: u32, string: &[u8]) {
        let place = self.store(string);
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, NOWHERE);
        }
        self.places[id as usize] = place;
    }

    fn store(&mut self, string: &[u8]) -> Place {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(string);
        Place { start, len: u32::try_from(string.len()).expect("tokens are limited to 64 KiB") }
    }

    /// The string of an id.
    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let place = self.places.get(id as usize).filter(|place| place.len != u32::MAX)?;
        Some(self.at(*place))
    }

    fn at(&self, place: Place) -> &[u8] {
        &self.bytes[place.start..][..place.len as usize]
    }

    /// Number of ids, gaps included.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

/// Tokens and their ids.
#[derive(Clone, Default)]
pub(super) struct Vocabulary {
    texts: ById,
    ids: HashTable<Entry>,
    hasher: RandomState,
}

/// A text and its id.
#[derive(Clone, Copy)]
struct Entry {
    place: Place,
    id: u32,
}

impl Vocabulary {
    /// None yet, with room for as many.
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Self {
            texts: ById::with_capacity(tokens),
            ids: HashTable::with_capacity(tokens),
            hasher: RandomState::default(),
        }
    }

    /// Adds a token, unless its text has an id: then that is the error.
    pub(super) fn insert(&mut self, text: &str, id: u32) -> Result<(), u32> {
        let hash = self.hasher.hash_one(text.as_bytes());
        if let Some(entry) = self.ids.find(hash, |entry| self.texts.at(entry.place) == text.as_bytes()) {
            return Err(entry.id);
        }
        self.texts.set(id, text.as_bytes());
        let place = self.texts.places[id as usize];
        let (texts, hasher) = (&self.texts, &self.hasher);
        self.ids.insert_unique(hash, Entry { place, id }, |entry| hasher.hash_one(texts.at(entry.place)));
        Ok(())
    }

    /// The id of a text.
    pub(super) fn id(&self, text: &[u8]) -> Option<u32> {
        let found = self.ids.find(self.hasher.hash_one(text), |entry| self.texts.at(entry.place) == text);
        found.map(|entry| entry.id)
    }

    /// The text of an id.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        std::str::from_utf8(self.texts.get(id)?).ok()
    }

    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// All texts with their ids, in the order of these.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        (0..self.texts.len() as u32).filter_map(|id| Some((self.text(id)?, id)))
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_text_and_by_its_id() {
        let mut vocabulary = Vocabulary::with_capacity(2);
        for (text, id) in [("b", 4), ("", 0), ("ä", 2), ("bb", 1)] {
            assert_eq!(vocabulary.insert(text, id), Ok(()));
        }
        assert_eq!(vocabulary.insert("ä", 7), Err(2));
        assert_eq!(vocabulary.iter().collect::<Vec<_>>(), [("", 0), ("bb", 1), ("ä", 2), ("b", 4)]);
        assert_eq!(
            ["b", "", "ä", "bb", "bbb"].map(|text| vocabulary.id(text.as_bytes())),
            [Some(4), Some(0), Some(2), Some(1), None]
        );
        assert_eq!((vocabulary.text(3), vocabulary.text(5), vocabulary.len()), (None, None, 4));
    }

    #[test]
    fn two_texts_may_share_an_id() {
        let mut vocabulary = Vocabulary::default();
        assert_eq!((vocabulary.insert("a", 1), vocabulary.insert("b", 1)), (Ok(()), Ok(())));
        assert_eq!(
            (vocabulary.id(b"a"), vocabulary.id(b"b"), vocabulary.text(1)),
            (Some(1), Some(1), Some("b"))
        );
    }
}
