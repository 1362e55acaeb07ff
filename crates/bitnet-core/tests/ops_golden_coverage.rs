//! Every op of `docs/ops.md`, of which a test makes sure that it has them all, has goldens of each type that it takes: of no elements, with
//! a tail behind whole vectors, of NaN and infinities, and of the ends of the type.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const FLOATS: [&str; 3] = ["float32", "float16", "bfloat16"];
const INTEGERS: [&str; 4] = ["int8", "uint8", "int32", "int64"];

/// A file of the repository.
fn read(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// Sections of the page whose ops make tensors of nothing, are compared with goldens of their own (of the decoder and of training over whole
/// layers in `testdata/train` and `testdata/bitnet-packed`, of linear algebra in its crate), or both.
const ELSEWHERE: [&str; 4] = ["Creation", "Of the decoder", "Of training", "Linear algebra"];

/// The op whose code computes what another one is called for: forms with a number and in place are the op of two tensors, views of views one of them.
fn computed_by(op: &str) -> Option<&str> {
    let op = op.strip_suffix("_assign").unwrap_or(op);
    Some(match op.strip_suffix("_scalar").unwrap_or(op) {
        "select" => "where_cond",
        "contiguous" | "to_device" => "copy",
        "sum_to" => "sum",
        "argsort" => "sort",
        "t" => "transpose",
        "into_shape" => "reshape",
        // Bytes as they are, not numbers.
        "to_bytes_view" => return None,
        op => op,
    })
}

/// Ops and the types that they take, of the tables of the page.
fn ops() -> Vec<(String, Vec<&'static str>)> {
    let page = String::from_utf8(read("docs/ops.md")).unwrap();
    let sections = page.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    let (elsewhere, here): (Vec<_>, Vec<_>) = sections.partition(|(title, _)| ELSEWHERE.contains(title));
    assert!(elsewhere.len() == ELSEWHERE.len() && here.len() >= 6, "{elsewhere:?}");
    let rows = here.iter().flat_map(|(_, text)| text.lines()).filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let types = cells[2].split(", ").flat_map(types).collect();
        (cells[0].trim_end_matches('`').to_owned(), types)
    })
    .collect()
}

/// The types that a word of the page stands for.
fn types(word: &str) -> Vec<&'static str> {
    match word {
        "floats" => FLOATS.to_vec(),
        "integers" => INTEGERS.to_vec(),
        "bool" => vec!["bool"],
        "all" => [&FLOATS[..], &INTEGERS, &["bool"]].concat(),
        other => panic!("`{other}` of docs/ops.md"),
    }
}

fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        Dtype::I8 => "int8",
        Dtype::U8 => "uint8",
        Dtype::I32 => "int32",
        Dtype::I64 => "int64",
        Dtype::BOOL => "bool",
        other => panic!("{other:?}"),
    }
}

/// What the elements of a tensor are cases of.
fn features(x: &TensorView<'_>) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    if x.shape().contains(&0) {
        found.insert("no elements");
    }
    if x.shape().iter().any(|extent| extent % 16 != 0 && *extent > 16) {
        found.insert("a tail");
    }
    let size = x.data().len() / x.shape().iter().product::<usize>().max(1);
    found.extend(x.data().chunks_exact(size.max(1)).filter_map(|bytes| special(x.dtype(), bytes)));
    found
}

/// What a special element is.
fn special(dtype: Dtype, bytes: &[u8]) -> Option<&'static str> {
    let (x, largest, least) = match dtype {
        Dtype::F32 => {
            (f32::from_le_bytes(bytes.try_into().unwrap()).into(), f32::MAX.into(), f32::from_bits(1).into())
        }
        Dtype::F16 => {
            let x = f16::from_le_bytes(bytes.try_into().unwrap());
            (x.to_f64(), f16::MAX.to_f64(), f16::from_bits(1).to_f64())
        }
        Dtype::BF16 => {
            let x = bf16::from_le_bytes(bytes.try_into().unwrap());
            (x.to_f64(), bf16::MAX.to_f64(), bf16::from_bits(1).to_f64())
        }
        Dtype::BOOL => return None,
        _ => return end(dtype, bytes),
    };
    match x {
        x if x.is_nan() => Some("NaN"),
        f64::INFINITY => Some("infinity"),
        f64::NEG_INFINITY => Some("minus infinity"),
        x if x == largest => Some("the largest number"),
        x if x == least => Some("the least number"),
        _ => None,
    }
}

/// Which end of its type an integer is.
fn end(dtype: Dtype, bytes: &[u8]) -> Option<&'static str> {
    let ones = bytes.iter().rev().skip(1).all(|&byte| byte == 0xff);
    let zeros = bytes.iter().rev().skip(1).all(|&byte| byte == 0);
    let (largest, smallest) = if dtype == Dtype::U8 { (0xff, 0) } else { (0x7f, 0x80) };
    match bytes.last() {
        Some(&top) if ones && top == largest => Some("the largest number"),
        Some(&top) if zeros && top == smallest => Some("the smallest number"),
        _ => None,
    }
}

/// What is asked of every op that takes a type.
fn wanted(dtype: &str) -> Vec<&'static str> {
    let shapes = ["no elements", "a tail"];
    let values: &[&str] = match dtype {
        "bool" => &[],
        dtype if INTEGERS.contains(&dtype) => &["the largest number", "the smallest number"],
        _ => &["NaN", "infinity", "minus infinity", "the largest number", "the least number"],
    };
    [&shapes[..], values].concat()
}

/// Ops of the page that a case is one of.
fn named(case: &Value) -> Vec<String> {
    let steps = case["args"]["steps"].as_array().cloned().unwrap_or_default();
    let names = match case["op"].as_str().unwrap() {
        "views" => steps.iter().map(|step| step[0].as_str().unwrap()).collect(),
        op => vec![op],
    };
    let renamed = |name: &str| match name {
        "where" => "where_cond".to_owned(),
        "cast" => "to_dtype".to_owned(),
        "broadcast" => "broadcast_to".to_owned(),
        name => name.to_owned(),
    };
    names.into_iter().map(renamed).collect()
}

#[test]
fn every_op_has_goldens_of_every_awkward_kind_in_every_type() {
    let (bytes, text) = (read("testdata/ops/tensors.safetensors"), read("testdata/ops/cases.json"));
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let all: Value = serde_json::from_slice(&text).unwrap();
    let mut found: BTreeMap<(String, &str), BTreeSet<&str>> = BTreeMap::new();
    for case in all["cases"].as_array().unwrap() {
        let inputs = case["inputs"].as_array().unwrap();
        let inputs: Vec<_> = inputs.iter().map(|x| stored.tensor(x.as_str().unwrap()).unwrap()).collect();
        for op in named(case) {
            // The type of a choice is that of what is chosen.
            let of_type = name(inputs.get(usize::from(op == "where_cond")).unwrap().dtype());
            let entry = found.entry((op, of_type)).or_default();
            inputs.iter().filter(|x| name(x.dtype()) == of_type).for_each(|x| entry.extend(features(x)));
        }
    }
    let mut lacking = Vec::new();
    for (op, types) in ops() {
        let Some(by) = computed_by(&op) else { continue };
        for dtype in types {
            // Of what cannot be NaN it is `ne` of a tensor and itself.
            let by = if op == "is_nan" && !FLOATS.contains(&dtype) { "ne" } else { by };
            let has = found.get(&(by.to_owned(), dtype)).cloned().unwrap_or_default();
            let missing = wanted(dtype).into_iter().filter(|kind| !has.contains(kind));
            lacking.extend(missing.map(|kind| format!("{op} of {dtype}: {kind}")));
        }
    }
    assert!(lacking.is_empty(), "no golden of\n{}", lacking.join("\n"));
}
