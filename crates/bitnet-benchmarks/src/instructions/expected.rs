//! Counts that are expected, in a file of the repository.

use crate::report::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The share of instructions by which a count may differ: alignment and the addresses of data change some.
const TOLERANCE: f64 = 0.03;

/// Counts by tier and kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// The processor.
    pub(super) architecture: String,
    /// The compiler.
    pub(super) rustc: String,
    pub(super) counts: BTreeMap<String, u64>,
}

/// How a count differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Difference {
    /// By this share.
    More(f64),
    Fewer(f64),
    /// Nothing was expected.
    New,
    /// Expected, but not counted although others of its tier were.
    Gone,
}

impl Difference {
    /// Whether it must not be passed over.
    pub(super) fn fails(&self) -> bool {
        !matches!(self, Self::Fewer(_))
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::More(share) => format!("{:+.1} % instructions", 100.0 * share),
            Self::Fewer(share) => format!("{:+.1} % instructions; keep it with --update", 100.0 * share),
            Self::New => "nothing is expected of it; keep the count with --update".to_owned(),
            Self::Gone => "expected, but no longer counted; forget it with --update".to_owned(),
        }
    }
}

impl Counts {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(Error::json(path))
    }

    /// Stores it; counts of tiers that this machine lacks stay.
    pub(super) fn write(mut self, path: &Path) -> Result<()> {
        if let Ok(old) = Self::read(path) {
            let foreign = old.counts.into_iter().filter(|(name, _)| !self.has_tier(name));
            let foreign: Vec<_> = foreign.collect();
            self.counts.extend(foreign);
        }
        let text = serde_json::to_string_pretty(&self).map_err(Error::json(path))?;
        std::fs::write(path, text + "\n").map_err(Error::io(path))
    }

    fn has_tier(&self, name: &str) -> bool {
        let tier = |name: &str| name.split('/').next().map(str::to_owned);
        self.counts.keys().any(|other| tier(other) == tier(name))
    }

    /// What differs from `expected`, by name.
    pub(super) fn differences(&self, expected: &Self) -> BTreeMap<String, Difference> {
        let difference = |(name, &count): (&String, &u64)| {
            let difference = match expected.counts.get(name) {
                None => Some(Difference::New),
                Some(&expected) => {
                    let share = count as f64 / expected as f64 - 1.0;
                    match share {
                        share if share > TOLERANCE => Some(Difference::More(share)),
                        share if share < -TOLERANCE => Some(Difference::Fewer(share)),
                        _ => None,
                    }
                }
            };
            difference.map(|difference| (name.clone(), difference))
        };
        let gone =
            expected.counts.keys().filter(|name| !self.counts.contains_key(*name) && self.has_tier(name));
        let gone = gone.map(|name| (name.clone(), Difference::Gone));
        self.counts.iter().filter_map(difference).chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> Counts {
        let counts = list.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Counts { architecture: "x".into(), rustc: "1".into(), counts }
    }

    #[test]
    fn more_instructions_new_and_lost_kernels_fail_and_fewer_do_not() {
        let expected = counts(&[("a/x", 100), ("a/y", 100), ("a/z", 100), ("a/old", 1), ("b/x", 100)]);
        let found = counts(&[("a/x", 104), ("a/y", 90), ("a/z", 102), ("a/new", 1)]);
        let differences = found.differences(&expected);
        let failing: Vec<&str> =
            differences.iter().filter(|(_, d)| d.fails()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(failing, ["a/new", "a/old", "a/x"]);
        assert!(differences["a/x"].text().starts_with("+4.0 %"));
        assert!(matches!(differences["a/y"], Difference::Fewer(_)));
        assert_eq!(differences.len(), 4, "a tier that was not counted differs from nothing");
    }

    #[test]
    fn an_update_keeps_what_other_machines_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("counts.json");
        counts(&[("a/old", 1), ("b/x", 2)]).write(&path).expect("it can be written");
        counts(&[("a/x", 3)]).write(&path).expect("it can be written");
        assert_eq!(Counts::read(&path).expect("it was written"), counts(&[("a/x", 3), ("b/x", 2)]));
    }
}
