//! GGUF files: reading those of other tools, and writing our own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use bitnet_model::Error;
use bitnet_model::weights::gguf::{Array, Gguf, Metadata, Refusal, Spec, Strings, Value, Writer};
use bitnet_model::weights::{FileBytes, LoadMode, Source};
use bitnet_quant::Format;

const FILES: [&str; 6] = [
    "gguf-bitnet/bitnet-i2_s.gguf",
    "gguf-bitnet/bitnet-i2_s-arm.gguf",
    "gguf-bitnet/bitnet-tq1_0.gguf",
    "gguf-bitnet/bitnet-tq2_0.gguf",
    "gguf-llama/llama-i2_s.gguf",
    "gguf-llama/llama-tq2_0.gguf",
];

fn testdata(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(path)
}

fn open(path: impl AsRef<Path>) -> Gguf {
    Gguf::open(path, LoadMode::Mmap).unwrap()
}

fn spec(name: &str, shape: &[usize], format: Format) -> Spec {
    Spec { name: name.into(), shape: shape.into(), format }
}

/// Writes a file with the metadata and tensors of another.
fn copy(from: &Gguf, to: &Path) {
    let specs: Vec<Spec> = from.tensors().iter().map(Spec::from).collect();
    let mut writer = Writer::create(to, from.metadata(), &specs).unwrap();
    for tensor in from.tensors() {
        writer.tensor(from.bytes(tensor).as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_file_of_gguf_py_is_read_as_it_was_meant() {
    let gguf = open(testdata(FILES[0]));
    assert_eq!((gguf.version(), gguf.alignment()), (3, 32));
    assert_eq!(gguf.get::<&str>("general.architecture").unwrap(), "bitnet-b1.58");
    assert_eq!(gguf.get::<usize>("bitnet-b1.58.embedding_length").unwrap(), 256);
    assert_eq!(gguf.get::<f32>("bitnet-b1.58.rope.freq_base").unwrap(), 500_000.0);
    assert_eq!(gguf.get::<&Strings>("tokenizer.ggml.tokens").unwrap().len(), 512);
    assert_eq!(gguf.find::<&str>("tokenizer.ggml.pre").unwrap(), None);
}

#[test]
fn shapes_are_outermost_first_and_i2_s_ends_with_its_scale() {
    let gguf = open(testdata(FILES[0]));
    let tensor = gguf.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!((tensor.type_id, tensor.format), (36, Format::I2S));
    assert_eq!((tensor.rows(), tensor.cols()), (256, 512));
    assert_eq!(tensor.range.len(), 256 * 512 / 4 + 32);
    let scale = gguf.bytes(tensor).slice(256 * 512 / 4..256 * 512 / 4 + 4);
    let alpha = f32::from_le_bytes(scale.as_bytes().try_into().unwrap());
    assert!(alpha.is_finite() && alpha > 0.0, "{alpha}");
}

#[test]
fn both_ways_to_load_give_the_same_bytes_with_the_alignment_of_the_file() {
    for file in FILES {
        let mapped = open(testdata(file));
        let read = Gguf::open(testdata(file), LoadMode::Read).unwrap();
        for tensor in mapped.tensors() {
            let (mapped, read) = (mapped.bytes(tensor), read.bytes(tensor));
            assert_eq!(mapped.as_bytes(), read.as_bytes());
            assert!(mapped.alignment() >= 32 && read.alignment() >= 32, "{}", tensor.name);
        }
    }
}

#[test]
fn a_slice_outlives_the_file_that_it_came_from() {
    let gguf = open(testdata(FILES[0]));
    let expected = gguf.bytes(&gguf.tensors()[0]).to_vec();
    let slice = gguf.bytes(&gguf.tensors()[0]);
    drop(gguf);
    assert_eq!(slice.as_bytes(), expected);
}

#[test]
fn a_file_that_was_read_into_memory_may_be_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::copy(testdata(FILES[0]), &path).unwrap();
    let gguf = Gguf::open(&path, LoadMode::Read).unwrap();
    fs::write(&path, b"").unwrap();
    let original = open(testdata(FILES[0]));
    let last = original.tensors().last().unwrap();
    assert_eq!(gguf.bytes(last).as_bytes(), original.bytes(last).as_bytes());
}

#[test]
fn a_mapped_file_may_be_replaced_by_a_rename() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::copy(testdata(FILES[0]), &path).unwrap();
    let gguf = open(&path);
    copy(&open(testdata(FILES[2])), &path);
    let original = open(testdata(FILES[0]));
    let last = original.tensors().last().unwrap();
    assert_eq!(gguf.bytes(last).as_bytes(), original.bytes(last).as_bytes());
    assert_eq!(fs::read(&path).unwrap(), fs::read(testdata(FILES[2])).unwrap());
}

#[test]
fn a_file_of_gguf_py_is_written_again_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let path = folder.path().join("copy.gguf");
        copy(&open(testdata(file)), &path);
        assert!(fs::read(&path).unwrap() == fs::read(testdata(file)).unwrap(), "{file} differs");
    }
}

#[test]
fn version_2_is_read_like_version_3() {
    let mut bytes = fs::read(testdata(FILES[0])).unwrap();
    bytes[4] = 2;
    let gguf = Gguf::parse("v2.gguf", FileBytes::from(bytes)).unwrap();
    assert_eq!(gguf.version(), 2);
    assert_eq!(gguf.tensors(), open(testdata(FILES[0])).tensors());
}

#[test]
fn a_file_without_tensors_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocab.gguf");
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "llama").unwrap();
    Writer::create(&path, &metadata, &[]).unwrap().finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    // Head, key, type, value; the padding may be missing.
    let unpadded = bytes[..24 + 8 + 20 + 4 + 8 + 5].to_vec();
    for bytes in [bytes, unpadded] {
        let gguf = Gguf::parse("vocab.gguf", FileBytes::from(bytes)).unwrap();
        assert_eq!(gguf.get::<&str>("general.architecture").unwrap(), "llama");
    }
}

/// A pair of every type.
fn all_types() -> Metadata {
    let mut metadata = Metadata::default();
    let arrays = [
        Array::U8(vec![1, 255]),
        Array::I8(vec![-1]),
        Array::U16(vec![65535]),
        Array::I16(vec![-32768]),
        Array::U32(vec![u32::MAX]),
        Array::I32(vec![i32::MIN, 5]),
        Array::F32(vec![0.5, -0.0]),
        Array::Bool(vec![true, false]),
        Array::String(["", "ein", "Wörter"].iter().collect()),
        Array::U64(vec![u64::MAX]),
        Array::I64(vec![i64::MIN]),
        Array::F64(vec![1e300]),
        Array::U32(Vec::new()),
    ];
    let scalars = [
        Value::U8(200),
        Value::I8(-100),
        Value::U16(60000),
        Value::I16(-30000),
        Value::U32(4_000_000_000),
        Value::I32(-2_000_000_000),
        Value::F32(1.5),
        Value::Bool(true),
        Value::from("text with \u{1f600} and \0"),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F64(-1e-300),
    ];
    for (index, value) in arrays.into_iter().map(Value::Array).chain(scalars).enumerate() {
        metadata.insert(format!("key.{index}"), value).unwrap();
    }
    metadata
}

#[test]
fn pairs_of_every_type_come_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.gguf");
    Writer::create(&path, &all_types(), &[]).unwrap().finish().unwrap();
    let (gguf, expected) = (open(&path), all_types());
    assert_eq!(gguf.metadata().iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        let specs = [spec("a", &[3], Format::F32), spec("b", &[2, 128], Format::I2S)];
        let mut writer = Writer::create(&path, &all_types(), &specs).unwrap();
        writer.tensor(&[1; 12]).unwrap();
        writer.tensor(&[2; 96]).unwrap();
        writer.finish().unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(write("one"), write("two"));
}

#[test]
fn a_tensor_in_parts_is_the_tensor_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = open(testdata(FILES[2]));
    let path = folder.path().join("parts.gguf");
    let specs: Vec<Spec> = gguf.tensors().iter().map(Spec::from).collect();
    let mut writer = Writer::create(&path, gguf.metadata(), &specs).unwrap();
    for tensor in gguf.tensors() {
        gguf.bytes(tensor).chunks(1000).for_each(|part| writer.part(part).unwrap());
    }
    writer.finish().unwrap();
    assert!(fs::read(path).unwrap() == fs::read(testdata(FILES[2])).unwrap());
}

#[test]
fn the_alignment_of_the_metadata_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aligned.gguf");
    let mut metadata = Metadata::default();
    metadata.insert("general.alignment", Value::U32(256)).unwrap();
    let specs = [spec("a", &[3], Format::F32), spec("b", &[3], Format::F32)];
    let mut writer = Writer::create(&path, &metadata, &specs).unwrap();
    writer.tensor(&[1; 12]).unwrap();
    writer.tensor(&[2; 12]).unwrap();
    writer.finish().unwrap();
    let gguf = open(&path);
    assert_eq!(gguf.alignment(), 256);
    assert_eq!(gguf.bytes(gguf.tensor("b").unwrap()).as_bytes(), [2; 12]);
    assert!(gguf.bytes(gguf.tensor("b").unwrap()).alignment() >= 256);
}

#[test]
fn a_writer_that_is_dropped_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, b"old").unwrap();
    let mut writer = Writer::create(&path, &all_types(), &[spec("a", &[3], Format::F32)]).unwrap();
    writer.tensor(&[1; 12]).unwrap();
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_tensor_of_another_size_than_announced_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let create = || Writer::create(&path, &Metadata::default(), &[spec("a", &[3], Format::F32)]).unwrap();
    let size = |result| match result {
        Err(Error::WrittenSize { index, expected, given, .. }) => (index, expected, given),
        other => panic!("{other:?}"),
    };
    assert_eq!(size(create().tensor(&[0; 11])), (0, 12, 11));
    assert_eq!(size(create().part(&[0; 13])), (0, 12, 13));
    assert_eq!(size(create().finish()), (0, 12, 0));
    let mut full = create();
    full.tensor(&[0; 12]).unwrap();
    assert_eq!(size(full.part(&[0; 1])), (1, 0, 1));
    assert!(!path.exists());
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |metadata: &Metadata, specs: &[Spec]| match Writer::create(
        folder.path().join("bad.gguf"),
        metadata,
        specs,
    )
    .err()
    {
        Some(Error::Gguf { refusal, .. }) => *refusal,
        other => panic!("{other:?}"),
    };
    let none = Metadata::default();
    let twice = [spec("a", &[3], Format::F32), spec("a", &[3], Format::F32)];
    assert!(matches!(refusal(&none, &twice), Refusal::DuplicateTensor { name } if name == "a"));
    for name in [String::new(), "n".repeat(257)] {
        assert!(matches!(refusal(&none, &[spec(&name, &[3], Format::F32)]), Refusal::NameLength { .. }));
    }
    let mut long = Metadata::default();
    long.insert("k".repeat(65536), Value::U8(1)).unwrap();
    assert!(matches!(refusal(&long, &[]), Refusal::NameLength { what: "a key", .. }));
    assert!(refusal(&none, &[spec("a", &[100], Format::I2S)]).to_string().starts_with("tensor \"a\""));
    assert!(refusal(&none, &[spec("a", &[0], Format::F32)]).to_string().contains("dimension 0 is 0"));
    assert!(refusal(&none, &[spec("a", &[4, 4], Format::HfPacked)]).to_string().contains("no type number"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_key_is_replaced_in_its_place() {
    let mut metadata = open(testdata(FILES[0])).metadata().clone();
    let place = metadata.iter().position(|(key, _)| key == "general.file_type").unwrap();
    metadata.set("general.file_type", Value::U32(37));
    assert_eq!(metadata.get::<u32>("general.file_type").unwrap(), 37);
    assert_eq!(metadata.iter().nth(place).unwrap().0, "general.file_type");
    assert!(metadata.insert("general.file_type", Value::U32(1)).is_err());
    metadata.retain(|key, _| !key.starts_with("tokenizer."));
    assert_eq!(metadata.find::<&Strings>("tokenizer.ggml.tokens").unwrap(), None);
    assert_eq!(metadata.get::<u32>("general.file_type").unwrap(), 37);
}

#[test]
fn a_source_knows_a_gguf_file_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    fs::copy(testdata(FILES[0]), &path).unwrap();
    let source = Source::open(&path, LoadMode::Mmap).unwrap();
    assert!(matches!(source, Source::Gguf(_)));
    assert_eq!((source.path(), source.file_len()), (path.as_path(), 584_320));
}
