//! Words in brackets, with lines that are broken where NumPy breaks them.

use super::corners::{Axis, Corners, EDGE};

/// Longest line.
const WIDTH: usize = 75;
const GAP: &str = "...";

/// The text of an array whose shown elements are `words`.
pub(super) fn text(corners: &Corners, words: &[String]) -> String {
    match (&corners.0[..], words) {
        ([], [word]) => word.clone(),
        (_, []) => "[]".into(),
        (axes, _) => block(axes, words, 1, WIDTH),
    }
}

/// The text of the dimensions `axes`, whose lines start with `indent` spaces and have room for `width` characters.
fn block(axes: &[Axis], words: &[String], indent: usize, width: usize) -> String {
    let [axis, inner @ ..] = axes else { return words.concat() };
    let body = if inner.is_empty() {
        line(*axis, words, indent, width - 1)
    } else {
        nested(*axis, inner, words, indent, width - 1)
    };
    format!("[{body}]")
}

/// The innermost dimension. The indent of its first line is left out, for the bracket.
fn line(axis: Axis, words: &[String], indent: usize, width: usize) -> String {
    let mut text = String::new();
    let mut line = " ".repeat(indent);
    for (place, word) in words.iter().enumerate() {
        if axis.gap && place == EDGE {
            extend(&mut text, &mut line, GAP, indent, width);
            line.push(' ');
        }
        extend(&mut text, &mut line, word, indent, width);
        if place + 1 < words.len() {
            line.push(' ');
        }
    }
    text.push_str(&line);
    text.split_off(indent)
}

/// Puts a word on the line, or on a new one where that has no room and a new one has more.
fn extend(text: &mut String, line: &mut String, word: &str, indent: usize, width: usize) {
    if line.len() + word.len() > width && line.len() > indent {
        text.push_str(line.trim_end_matches(' '));
        text.push('\n');
        *line = " ".repeat(indent);
    }
    line.push_str(word);
}

/// An outer dimension: one block below the other, with empty lines between blocks of more dimensions.
fn nested(axis: Axis, inner: &[Axis], words: &[String], indent: usize, width: usize) -> String {
    let len = words.len() / axis.shown();
    let mut blocks: Vec<String> =
        words.chunks(len).map(|words| block(inner, words, indent + 1, width)).collect();
    if axis.gap {
        blocks.insert(EDGE, GAP.into());
    }
    blocks.join(&format!("{}{}", "\n".repeat(inner.len()), " ".repeat(indent)))
}
