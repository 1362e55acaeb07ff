//! Values of flags: what has no meaning is refused while the command line is read.

use bitnet_core::Device;
use std::{path::PathBuf, str::FromStr};

/// Longest stop string, in bytes.
const MAX_STOP: usize = bitnet_inference::stop::MAX_STOP_BYTES;

fn finite(text: &str, expected: &str, fits: impl Fn(f32) -> bool) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && fits(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

pub(crate) fn any(text: &str) -> Result<f32, String> {
    finite(text, "a number", |_| true)
}

pub(crate) fn at_least_zero(text: &str) -> Result<f32, String> {
    finite(text, "a number of at least 0", |x| x >= 0.0)
}

pub(crate) fn above_zero(text: &str) -> Result<f32, String> {
    finite(text, "a number above 0", |x| x > 0.0)
}

pub(crate) fn zero_to_one(text: &str) -> Result<f32, String> {
    finite(text, "a number from 0 to 1", |x| (0.0..=1.0).contains(&x))
}

pub(crate) fn above_zero_to_one(text: &str) -> Result<f32, String> {
    finite(text, "a number above 0, at most 1", |x| x > 0.0 && x <= 1.0)
}

/// Whole numbers from `least` on.
pub(crate) fn from(least: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let value = text.parse().ok().filter(|value| *value >= least);
        value.ok_or_else(|| format!("expected a whole number of at least {least}"))
    }
}

/// Whole numbers up to `most`.
pub(crate) fn up_to(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let value = text.parse().ok().filter(|value| *value <= most);
        value.ok_or_else(|| format!("expected a whole number from 0 to {most}"))
    }
}

/// Whole numbers in which -1 stands for none, all or whatever the flag says.
pub(crate) fn whole(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(value) if value >= -1 => Ok(value),
        _ => Err("expected a whole number of at least 0, or -1".into()),
    }
}

pub(crate) fn device(text: &str) -> Result<String, String> {
    let known = Device::names();
    if known.iter().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    let known = known.join(", ");
    Err(match Device::absence(text) {
        Some(absence) => format!("{absence}; expected one of {known}"),
        None => format!("expected one of {known}"),
    })
}

pub(crate) fn stop_string(text: &str) -> Result<String, String> {
    match text.len() {
        1..=MAX_STOP => Ok(text.to_owned()),
        len => Err(format!("expected a text of 1 to {MAX_STOP} bytes, got {len}")),
    }
}

/// How often `-v` was given; its twin may say yes or no.
pub(crate) fn verbosity(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "false" | "no" | "off" => Ok(0),
        "true" | "yes" | "on" => Ok(1),
        other => other.parse().map_err(|_| "expected 0, 1, 2, or yes or no".into()),
    }
}

/// What is added to the logit of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bias {
    pub(crate) token: u32,
    pub(crate) value: f32,
}

impl FromStr for Bias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.find(['+', '-']).map(|at| text.split_at(at));
        let parsed = parts.map(|(id, value)| (id.trim().parse(), value.parse::<f32>()));
        match parsed {
            Some((Ok(token), Ok(value))) if value.is_finite() || value == f32::NEG_INFINITY => {
                Ok(Self { token, value })
            }
            _ => Err("expected a token id and a signed number, as in 42-1.5 or 42-inf".into()),
        }
    }
}

/// Token ids: a list, or a file with one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ids {
    List(Vec<u32>),
    File(PathBuf),
}

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.ends_with(".npy") {
            return Ok(Self::File(text.into()));
        }
        let id = |part: &str| part.trim().parse().map_err(|_| format!("{part:?} is not a token id"));
        text.split(',').map(id).collect::<Result<_, _>>().map(Self::List)
    }
}

/// A chat template given as text.
pub(crate) fn template(text: &str) -> Result<String, String> {
    if text.contains('{') {
        return Ok(text.to_owned());
    }
    Err("expected the text of a Jinja template; templates have no names here, --chat-template-file reads one"
        .into())
}

/// Text in which \\n, \\t and the like have become the characters that they stand for.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.clone().next() } else { None };
        let plain = match next {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(c @ ('\\' | '\'' | '"')) => c,
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push(plain);
        chars.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_is_an_id_and_a_signed_number() {
        assert_eq!("42-1.5".parse(), Ok(Bias { token: 42, value: -1.5 }));
        assert_eq!("7+2".parse(), Ok(Bias { token: 7, value: 2.0 }));
        assert_eq!("7-inf".parse(), Ok(Bias { token: 7, value: f32::NEG_INFINITY }));
        assert!(["7", "x+1", "7+inf", "7+nan", ""].iter().all(|text| text.parse::<Bias>().is_err()));
    }

    #[test]
    fn ids_are_a_list_or_a_file() {
        assert_eq!("1, 2".parse(), Ok(Ids::List(vec![1, 2])));
        assert_eq!("x.npy".parse(), Ok(Ids::File("x.npy".into())));
        assert!("1,x".parse::<Ids>().is_err() && "-1".parse::<Ids>().is_err());
    }

    #[test]
    fn escapes_become_the_characters_that_they_stand_for() {
        assert_eq!(unescape(r"a\nb\\n\x\"), "a\nb\\n\\x\\");
    }
}
