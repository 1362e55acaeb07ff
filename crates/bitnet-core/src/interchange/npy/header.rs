//! The header of a `.npy` file: a literal of a Python dictionary with three fields.

use super::Descr;
use crate::interchange::InterchangeError;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read, as in NumPy.
pub const MAX_HEADER: usize = 10_000;
/// The elements start at a multiple of this.
const ALIGN: usize = 64;

/// What a `.npy` file says of its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Element type.
    pub descr: Descr,
    /// Whether the first index is the one that moves fastest.
    pub fortran_order: bool,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads the header and returns the rest of the file with it.
    ///
    /// # Errors
    /// Where the bytes are not the start of a `.npy` file, the header is cut off or longer than [`MAX_HEADER`], or a field is
    /// missing, given twice, unknown or not what it should be.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), InterchangeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(InterchangeError::NotNpy)?;
        let (len, rest) = match rest {
            [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
            [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
            [1..=3, ..] | [] => return Err(cut_off()),
            [major, ..] => return Err(InterchangeError::NpyVersion { major: *major }),
        };
        if len > MAX_HEADER {
            let (bytes, limit) = (len as u128, MAX_HEADER as u64);
            return Err(InterchangeError::TooLong { what: "the .npy header".into(), bytes, limit });
        }
        let (header, data) = rest.split_at_checked(len).ok_or_else(cut_off)?;
        let text = std::str::from_utf8(header).map_err(|e| wrong("header", format!("is not text: {e}")))?;
        Ok((Fields::parse(text)?, data))
    }

    /// The start of a file of format 1.0, up to the elements.
    pub fn to_bytes(&self) -> Vec<u8> {
        let fortran = if self.fortran_order { "True" } else { "False" };
        let (descr, shape) = (self.descr, tuple(&self.shape));
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let start = MAGIC.len() + 4;
        let end = (start + text.len() + 1).next_multiple_of(ALIGN);
        text.extend(std::iter::repeat_n(' ', end - start - text.len() - 1));
        text.push('\n');
        let len = u16::try_from(text.len()).expect("eight extents fit in a line");
        [MAGIC, &[1, 0], &len.to_le_bytes(), text.as_bytes()].concat()
    }
}

/// Extents as a tuple of Python.
fn tuple(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        _ => format!("({})", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn wrong(field: &'static str, reason: impl Into<String>) -> InterchangeError {
    InterchangeError::NpyField { field, reason: reason.into() }
}

fn cut_off() -> InterchangeError {
    wrong("header", "the file ends before it does")
}

/// The fields that were found so far.
#[derive(Default)]
struct Fields {
    descr: Option<Descr>,
    fortran_order: Option<bool>,
    shape: Option<Vec<usize>>,
}

impl Fields {
    fn parse(text: &str) -> Result<Header, InterchangeError> {
        let mut fields = Self::default();
        let mut literal = Literal(text);
        literal.expect("header", '{')?;
        while !literal.take('}') {
            let name = literal.string("header")?;
            literal.expect("header", ':')?;
            fields.read(name, &mut literal)?;
            if !literal.take(',') {
                literal.expect("header", '}')?;
                break;
            }
        }
        literal.end()?;
        Ok(Header {
            descr: fields.descr.ok_or_else(|| wrong("descr", "is missing"))?,
            fortran_order: fields.fortran_order.ok_or_else(|| wrong("fortran_order", "is missing"))?,
            shape: fields.shape.ok_or_else(|| wrong("shape", "is missing"))?,
        })
    }

    fn read(&mut self, name: &str, literal: &mut Literal<'_>) -> Result<(), InterchangeError> {
        match name {
            "descr" => once("descr", &mut self.descr, descr(literal)?),
            "fortran_order" => {
                once("fortran_order", &mut self.fortran_order, literal.truth("fortran_order")?)
            }
            "shape" => once("shape", &mut self.shape, literal.extents("shape")?),
            _ => Err(wrong("header", format!("has a field {name:?} that is none of the format"))),
        }
    }
}

fn once<T>(field: &'static str, place: &mut Option<T>, value: T) -> Result<(), InterchangeError> {
    match place.replace(value) {
        Some(_) => Err(wrong(field, "is given twice")),
        None => Ok(()),
    }
}

fn descr(literal: &mut Literal<'_>) -> Result<Descr, InterchangeError> {
    let text = literal.string("descr")?;
    let expected = "expected bool, (u)int8 to (u)int64 or float16 to float64";
    Descr::parse(text).ok_or_else(|| wrong("descr", format!("dtype {text}: {expected}")))
}

/// What is left of a literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn take(&mut self, c: char) -> bool {
        let rest = self.0.trim_start();
        let found = rest.strip_prefix(c);
        self.0 = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, field: &'static str, c: char) -> Result<(), InterchangeError> {
        match self.take(c) {
            true => Ok(()),
            false => Err(wrong(field, format!("expected `{c}`, found {}", self.found()))),
        }
    }

    /// The next few characters, for messages.
    fn found(&self) -> String {
        match self.0.trim() {
            "" => "the end".into(),
            rest => format!("{:?}", rest.chars().take(16).collect::<String>()),
        }
    }

    fn string(&mut self, field: &'static str) -> Result<&'a str, InterchangeError> {
        let quote = if self.take('\'') { '\'' } else { '"' };
        if quote == '"' && !self.take('"') {
            return Err(wrong(field, format!("expected a string, found {}", self.found())));
        }
        let (text, rest) =
            self.0.split_once(quote).ok_or_else(|| wrong(field, "has a string without an end"))?;
        self.0 = rest;
        Ok(text)
    }

    fn truth(&mut self, field: &'static str) -> Result<bool, InterchangeError> {
        let rest = self.0.trim_start();
        let found = [("True", true), ("False", false)]
            .into_iter()
            .find_map(|(word, truth)| Some((rest.strip_prefix(word)?, truth)));
        let (rest, truth) =
            found.ok_or_else(|| wrong(field, format!("expected True or False, found {}", self.found())))?;
        self.0 = rest;
        Ok(truth)
    }

    fn extents(&mut self, field: &'static str) -> Result<Vec<usize>, InterchangeError> {
        self.expect(field, '(')?;
        let (inner, rest) =
            self.0.split_once(')').ok_or_else(|| wrong(field, "has a tuple without an end"))?;
        self.0 = rest;
        let one_without_comma = !inner.trim().is_empty() && !inner.contains(',');
        if one_without_comma {
            return Err(wrong(field, format!("({inner}) is a number, not a tuple")));
        }
        let inner = inner.trim_end();
        let inner = inner.strip_suffix(',').unwrap_or(inner);
        let extents = inner.split(',').map(|extent| extent.trim().parse());
        let extents: Result<Vec<usize>, _> =
            if inner.trim().is_empty() { Ok(vec![]) } else { extents.collect() };
        extents.map_err(|e| wrong(field, format!("({inner}) is no tuple of extents: {e}")))
    }

    fn end(&self) -> Result<(), InterchangeError> {
        match self.0.trim() {
            "" => Ok(()),
            _ => Err(wrong("header", format!("goes on with {}", self.found()))),
        }
    }
}
