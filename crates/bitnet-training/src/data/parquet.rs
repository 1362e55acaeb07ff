//! Text and conversations in Parquet files, as datasets are published.

use super::read::{Line, Turn};
use crate::{Error, Result};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
    schema::types::Type,
};
use std::{fs::File, panic, path::Path};

/// The columns that are read: text, or lists of `{role, content}`.
const COLUMNS: [&str; 2] = ["text", "messages"];

/// The rows of a file, of at most `max_bytes` of text. Of several columns only the first of [`COLUMNS`] is decoded.
pub(super) fn rows(path: &Path, max_bytes: u64) -> Result<Vec<Line>> {
    // The library's decoders panic at some damaged pages.
    panic::catch_unwind(|| read(path, max_bytes))
        .unwrap_or_else(|_| Err(Error::data(path, "not a Parquet file that can be read: a page is damaged")))
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<Line>> {
    let refuse = |reason: String| Error::data(path, reason);
    let broken =
        |e: parquet::errors::ParquetError| refuse(format!("not a Parquet file that can be read: {e}"));
    let file = File::open(path).map_err(Error::io(path))?;
    if !file.metadata().map_err(Error::io(path))?.is_file() {
        return Err(refuse("not a regular file".into()));
    }
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema();
    let fields = schema.get_fields();
    let named = |name: &&str| fields.iter().find(|field| field.name() == *name);
    let Some(column) = COLUMNS.iter().find_map(named) else {
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        return Err(refuse(format!("no column text or messages; there are {}", names.join(", "))));
    };
    let only =
        Type::group_type_builder(schema.name()).with_fields(vec![column.clone()]).build().map_err(broken)?;
    let (mut lines, mut bytes) = (Vec::new(), 0u64);
    for (number, row) in reader.get_row_iter(Some(only)).map_err(broken)?.enumerate() {
        let line = line(&row.map_err(broken)?).ok_or_else(|| {
            let expected = "expected a string, or a list of {role, content}";
            refuse(format!("row {}, column {}: {expected}", number + 1, column.name()))
        })?;
        bytes += match &line {
            Line::Document { text } => text.len() as u64,
            Line::Conversation { messages } => messages.iter().map(|turn| turn.content.len() as u64).sum(),
        };
        if bytes > max_bytes {
            return Err(refuse(format!("more than {max_bytes} bytes of text")));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn line(row: &Row) -> Option<Line> {
    match row.get_column_iter().next()?.1 {
        Field::Str(text) => Some(Line::Document { text: text.clone() }),
        Field::ListInternal(list) => {
            let messages = list.elements().iter().map(turn).collect::<Option<_>>()?;
            Some(Line::Conversation { messages })
        }
        _ => None,
    }
}

fn turn(field: &Field) -> Option<Turn> {
    let Field::Group(group) = field else { return None };
    let value = |name: &str| {
        group.get_column_iter().find_map(|(key, value)| match value {
            Field::Str(text) if key == name => Some(text.clone()),
            _ => None,
        })
    };
    Some(Turn { role: value("role")?, content: value("content")? })
}
