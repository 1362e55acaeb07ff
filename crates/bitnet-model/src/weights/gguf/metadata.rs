//! The key-value pairs of a GGUF file.

use std::collections::HashMap;

use super::{FromValue, Refusal, Value};

const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u32 = 32;
const ALIGNMENTS: std::ops::RangeInclusive<u32> = 8..=65536;

/// Words in a key that stand for an operation on the activations. Prism's namespace holds nothing else so far, and a
/// file whose weights are stored rotated loads without an error anywhere.
const TRANSFORM_WORDS: [&str; 8] =
    ["hadamard", "rotation", "rotations", "transform", "transforms", "quarot", "spinquant", "flatquant"];
const TRANSFORM_NAMESPACE: &str = "prism.";

/// Key-value pairs in the order of the file; keys are unique.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// Appends a pair.
    ///
    /// # Errors
    /// [`Refusal::DuplicateKey`] if the key is there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Result<(), Refusal> {
        let key = key.into();
        if self.index.contains_key(&key) {
            return Err(Refusal::DuplicateKey { key });
        }
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push((key, value.into()));
        Ok(())
    }

    /// Replaces the value of a key, or appends the pair.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        match self.index.get(&key) {
            Some(&index) => self.entries[index].1 = value.into(),
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value.into()));
            }
        }
    }

    /// Keeps the pairs for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Value) -> bool) {
        self.entries.retain(|(key, value)| keep(key, value));
        self.index = self.entries.iter().enumerate().map(|(i, (key, _))| (key.clone(), i)).collect();
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&index| &self.entries[index].1)
    }

    /// The value of a key as `T`, `None` if there is no such key.
    ///
    /// # Errors
    /// [`Refusal::KeyType`] if the value is something else.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, Refusal> {
        self.value(key)
            .map(|value| T::from_value(value).ok_or_else(|| wrong_type::<T>(key, value)))
            .transpose()
    }

    /// The value of a key as `T`.
    ///
    /// # Errors
    /// [`Refusal::MissingKey`], [`Refusal::KeyType`].
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, Refusal> {
        self.find(key)?.ok_or_else(|| Refusal::MissingKey { key: key.to_owned() })
    }

    /// What every tensor's offset is a multiple of.
    pub(super) fn alignment(&self) -> Result<usize, Refusal> {
        let got = match self.value(ALIGNMENT_KEY) {
            None => DEFAULT_ALIGNMENT,
            Some(&Value::U32(got)) => got,
            Some(value) => return Err(wrong_type::<u32>(ALIGNMENT_KEY, value)),
        };
        if got.is_power_of_two() && ALIGNMENTS.contains(&got) {
            Ok(got as usize)
        } else {
            Err(Refusal::Alignment { got })
        }
    }

    /// Refuses files that are only a part, or whose numbers mean something else than their types say.
    pub(super) fn check_readable_alone(&self) -> Result<(), Refusal> {
        if let Some((key, _)) = self.iter().find(|(key, _)| asks_for_transform(key)) {
            return Err(Refusal::Transform { key: key.to_owned() });
        }
        match self.find::<u64>("split.count")? {
            Some(count) if count > 1 => Err(Refusal::Split { count }),
            _ => Ok(()),
        }
    }
}

fn wrong_type<'a, T: FromValue<'a>>(key: &str, value: &Value) -> Refusal {
    let got = match value.integer() {
        Some(number) => format!("{number} ({})", value.type_name()),
        None => value.type_name(),
    };
    Refusal::KeyType { key: key.to_owned(), expected: T::EXPECTED, got }
}

fn asks_for_transform(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with(TRANSFORM_NAMESPACE)
        || key.split(['.', '_', '-']).any(|word| TRANSFORM_WORDS.contains(&word))
}
