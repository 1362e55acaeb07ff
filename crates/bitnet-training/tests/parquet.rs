//! Text in Parquet files that pyarrow wrote (`testdata/train/parquet`).

#![cfg(feature = "parquet")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bitnet_model::Tokenizer;
use bitnet_training::data::{characters, read};
use common::testdata;
use std::fs;

fn tokenizer() -> Tokenizer {
    let all: String = (' '..='~').chain(['\n', 'Ü']).collect();
    let settings = r#"{ "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}" }"#;
    Tokenizer::from_json(&characters(&all), Some(settings)).unwrap()
}

#[test]
fn documents_are_read_in_every_compression() {
    let text = |i: usize| format!("Document {i} says: the cat sat on mat {}.\nÜber {i}.", i * 7 % 13);
    let expected: String = (0..40).map(text).collect();
    for compression in ["none", "snappy", "zstd", "gzip", "lz4"] {
        let path = testdata(&format!("parquet/documents_{compression}.parquet"));
        let corpus = read(&path, &tokenizer()).unwrap();
        assert_eq!(tokenizer().decode(&corpus.tokens(0..corpus.len()), true), expected, "{compression}");
    }
}

#[test]
fn of_conversations_the_answers_count() {
    let corpus = read(&testdata("parquet/conversations.parquet"), &tokenizer()).unwrap();
    let windows = corpus.windows(&[0], corpus.len() - 1, None);
    let learnt: Vec<u32> = windows.targets.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
    let expected: String = (0..5).map(|i| format!("A number, {i}.\n")).collect();
    assert_eq!(tokenizer().decode(&learnt, true), expected);
}

#[test]
fn what_cannot_be_read_is_refused_by_file_and_place() {
    let refusal = |file: &str| read(&testdata(file), &tokenizer()).unwrap_err().to_string();
    let error = refusal("parquet/null.parquet");
    assert!(error.contains("null.parquet") && error.contains("row 2, column text"), "{error}");
    let error = refusal("parquet/columns.parquet");
    assert!(error.contains("no column text or messages; there are body, n"), "{error}");
    assert!(refusal("parquet/missing.parquet").contains("missing.parquet"));
}

#[test]
fn damaged_files_are_errors_and_no_panics() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("damaged.parquet");
    let good = fs::read(testdata("parquet/documents_snappy.parquet")).unwrap();
    let mut refused = 0;
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        fs::write(&path, &bad).unwrap();
        refused += usize::from(read(&path, &tokenizer()).is_err());
    }
    assert!(refused > 100, "{refused}");
    for len in (0..good.len()).step_by(37) {
        fs::write(&path, &good[..len]).unwrap();
        assert!(read(&path, &tokenizer()).is_err(), "cut at {len}");
    }
}
