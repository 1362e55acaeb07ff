//! The public ops by their sources.

use std::{fs, path::Path};

/// Functions that return or change tensors without being ops of their own: those of a kind, each of which has a row, and those that hand out elements
/// or the parts of another op.
pub const OTHERS: [&str; 12] = [
    "unary",
    "binary",
    "binary_assign",
    "compare",
    "logical",
    "reduce",
    "as_slice",
    "to_vec",
    "item",
    "view_mut",
    "new",
    "of",
];

fn sources(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Names and signatures of public functions that can fail, with the first sentence said of each.
fn functions(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("pub fn ") {
        let rest = &source[at + "pub fn ".len()..];
        let signature = &rest[..rest.find('{').unwrap_or(rest.len())];
        let name = signature.split(['(', '<']).next().unwrap_or_default();
        if signature.contains("-> Result<") && !name.starts_with('$') {
            found.push((name.to_owned(), said(&source[..at])));
        }
    }
    found
}

/// The first sentence of the documentation that a source ends with.
fn said(source: &str) -> String {
    let lines = source.lines().rev().skip_while(|line| line.trim().is_empty());
    let mut lines: Vec<&str> =
        lines.map_while(|line| line.trim().strip_prefix("///")).map(str::trim).collect();
    lines.reverse();
    let text = lines.join(" ");
    text.split(". ").next().unwrap_or_default().trim_end_matches('.').replace('|', "\\|")
}

/// Names that a macro makes methods of: `name => Kind;` or `name, scalar => Kind;`.
fn made_by_macros(source: &str) -> Vec<String> {
    let rows = source.lines().map(str::trim).filter(|line| line.ends_with(';'));
    let names = rows.filter_map(|line| Some(line.split_once(" => ")?.0)).filter(|names| !names.contains('$'));
    let names = names.flat_map(|names| names.split(", ")).map(str::to_owned);
    names.filter(|name| name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())).collect()
}

/// Functions of `ops` and methods of tensors that can fail.
pub fn tensor_ops() -> Vec<String> {
    let texts = ["src/ops", "src/tensor"].into_iter().flat_map(sources);
    texts
        .flat_map(|text| {
            let methods = functions(&text).into_iter().map(|(name, _)| name);
            methods.chain(made_by_macros(&text)).collect::<Vec<_>>()
        })
        .collect()
}

/// Functions of `bitnet-linalg`, with what each does.
pub fn linear_algebra() -> Vec<(String, String)> {
    sources("../bitnet-linalg/src").iter().flat_map(|text| functions(text)).collect()
}
