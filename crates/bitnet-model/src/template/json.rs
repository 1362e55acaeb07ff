//! The filter `tojson`.

use super::{TOO_DEEP, VALUE_DEPTH};
use minijinja::{
    ErrorKind, State, Value,
    value::{Kwargs, ValueKind},
};

/// JSON as Python writes it: spaces after commas and colons, nothing escaped for HTML.
pub(super) fn to_json(
    state: &State<'_, '_>,
    value: Value,
    options: Kwargs,
) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = Json { state, indent: indent.map(|n| n.min(16)), text: String::new() };
    json.value(&value, 0)?;
    Ok(json.text)
}

/// A JSON text as it grows.
struct Json<'a, 'env> {
    state: &'a State<'a, 'env>,
    indent: Option<usize>,
    text: String,
}

impl Json<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        if depth > VALUE_DEPTH {
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, TOO_DEEP));
        }
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth),
            ValueKind::Map => self.map(value, depth),
            _ => self.scalar(value),
        }
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        let mut empty = true;
        self.text.push('[');
        for item in value.try_iter()? {
            self.separate(&mut empty, depth + 1);
            self.value(&item, depth + 1)?;
        }
        self.close(']', empty, depth);
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        let mut empty = true;
        self.text.push('{');
        for key in value.try_iter()? {
            self.separate(&mut empty, depth + 1);
            match key.kind() {
                ValueKind::String => self.scalar(&key)?,
                _ => self.scalar(&Value::from(key.to_string()))?,
            }
            self.text.push_str(": ");
            self.value(&value.get_item(&key)?, depth + 1)?;
        }
        self.close('}', empty, depth);
        Ok(())
    }

    fn scalar(&mut self, value: &Value) -> Result<(), minijinja::Error> {
        let wrong = |e: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
        let text = serde_json::to_string(value).map_err(wrong)?;
        // What the interpreter asks for a byte of its own output.
        self.state.consume_fuel(text.len() as u64 / 4)?;
        self.text.push_str(&text);
        Ok(())
    }

    fn separate(&mut self, empty: &mut bool, depth: usize) {
        if !std::mem::take(empty) {
            self.text.push_str(if self.indent.is_some() { "," } else { ", " });
        }
        self.line(depth);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
        self.text.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }
}
