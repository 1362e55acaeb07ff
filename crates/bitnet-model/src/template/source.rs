//! What is changed in a template before it is compiled.

use super::{TOO_DEEP, VALUE_DEPTH};
use minijinja::{
    ErrorKind, State, Value,
    machinery::{Span, Token, tokenize},
    syntax::SyntaxConfig,
    value::ValueKind,
};
use std::ops::Range;

/// The template with `{% generation %}` blocks, in which transformers marks the model's own words for training, as blocks that
/// do nothing, and with every value that a namespace takes sent through [`HELD`].
pub(super) fn adapted(source: &str, syntax: SyntaxConfig) -> Result<String, minijinja::Error> {
    let (mut text, mut copied) = (String::with_capacity(source.len()), 0);
    let mut replace = |span: Range<u32>, by: &str| {
        text.push_str(&source[copied..span.start as usize]);
        text.push_str(by);
        copied = span.end as usize;
    };
    let mut set = Set::No;
    let mut last = Token::BlockEnd;
    for token in tokenize(source, false, syntax) {
        let (token, Span { start_offset: start, end_offset: end, .. }) = token?;
        let starts = matches!(last, Token::BlockStart);
        match (&token, set) {
            (Token::Ident("generation"), _) if starts => replace(start..end, "with"),
            (Token::Ident("endgeneration"), _) if starts => replace(start..end, "endwith"),
            (Token::Ident("set"), _) if starts => set = Set::Target,
            (Token::Dot, Set::Target) => set = Set::Attribute,
            (Token::Assign, Set::Attribute) => {
                replace(end..end, "(");
                set = Set::Value;
            }
            (Token::Assign | Token::Pipe, Set::Target) => set = Set::No,
            (Token::Pipe, Set::Attribute) => set = Set::Filters,
            (Token::BlockEnd, Set::Value) if !matches!(last, Token::Assign) => {
                replace(start..start, &format!(")|{HELD} "));
                set = Set::No;
            }
            (Token::BlockEnd, Set::Filters) => {
                replace(start..start, &format!("|{HELD} "));
                set = Set::No;
            }
            (Token::BlockEnd, _) => set = Set::No,
            _ => {}
        }
        last = token;
    }
    text.push_str(&source[copied..]);
    Ok(text)
}

/// Where in `{% set name.attribute = value %}` or `{% set name.attribute | filters %}` the reader is.
#[derive(Clone, Copy)]
enum Set {
    /// In neither.
    No,
    /// Behind `set`.
    Target,
    /// Behind a dot.
    Attribute,
    /// Behind `=`.
    Value,
    /// Behind `|`.
    Filters,
}

/// The filter that values pass on their way into a namespace.
pub(super) const HELD: &str = "_held_by_a_namespace";

/// Refuses a value that holds a namespace. Only a namespace changes after it was made, so that only through one a value could
/// hold itself, and the interpreter shows and compares values until their end.
pub(super) fn no_cycle(
    state: &State<'_, '_>,
    value: &Value,
    namespace: &Value,
    depth: usize,
) -> Result<(), minijinja::Error> {
    let Some(object) = value.as_object() else { return Ok(()) };
    state.consume_fuel(1)?;
    let refused = |text| Err(minijinja::Error::new(ErrorKind::InvalidOperation, text));
    if depth > VALUE_DEPTH {
        return refused(TOO_DEEP);
    }
    if namespace.as_object().is_some_and(|n| n.type_name() == object.type_name()) {
        return refused("a namespace inside a namespace");
    }
    let pairs = matches!(value.kind(), ValueKind::Map);
    for item in object.try_iter().into_iter().flatten() {
        no_cycle(state, &item, namespace, depth + 1)?;
        if pairs {
            no_cycle(state, &value.get_item(&item)?, namespace, depth + 1)?;
        }
    }
    Ok(())
}
