//! Texts that the splitter of a tokenizer can take. The regular expressions of the `tokenizers` library give up in silence where
//! they would have to try too much, and leave the rest of a text whole.

use super::{
    Error, Result,
    pretokenizer::{Splitting, steps},
};
use fancy_regex::Regex;
use serde_json::Value;

/// Most whitespace characters in a row: the library keeps a place to come back to for each, a million at most.
const MAX_BLANK: usize = 1 << 18;

/// What has to be looked at before a text is split.
#[derive(Debug)]
pub(super) struct Limits {
    splits: bool,
    /// Expressions that are not known to come to an end by themselves.
    unknown: Vec<Regex>,
}

impl Limits {
    /// Of a `pre_tokenizer`.
    pub(super) fn of(json: &Value) -> Result<Self> {
        let mut unknown = Vec::new();
        if Splitting::of(json).is_none() {
            for regex in steps(json).into_iter().filter_map(|step| step["pattern"]["Regex"].as_str()) {
                let expected = "a regular expression";
                let wrong =
                    |_| Error::Unknown { field: "pre_tokenizer.pattern", value: regex.to_owned(), expected };
                unknown.push(Regex::new(regex).map_err(wrong)?);
            }
        }
        Ok(Self { splits: !json.is_null(), unknown })
    }

    /// Refuses a text at which the library would give up.
    pub(super) fn check(&self, text: &str) -> Result<()> {
        let run = if self.splits { longest_blank(text) } else { 0 };
        if run > MAX_BLANK {
            return Err(Error::Blank { run, limit: MAX_BLANK });
        }
        for regex in &self.unknown {
            let failed = regex.find_iter(text).find_map(|found| found.err());
            if let Some(error) = failed {
                let reason = format!("the splitter {:?} gives up at it: {error}", regex.as_str());
                return Err(Error::Encode { reason });
            }
        }
        Ok(())
    }
}

fn longest_blank(text: &str) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c.is_whitespace() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}
