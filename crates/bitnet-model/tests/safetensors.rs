//! Safetensors files and the folders that they come in: reading, writing, and every rule that a bad one breaks.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitnet_model::Error;
use bitnet_model::weights::safetensors::{Dtype, Folder, Refusal, Spec, Writer, parse_header, parse_index};
use bitnet_model::weights::{LoadMode, Source};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use safetensors::SafeTensors;
use serde_json::json;
use tempfile::TempDir;

const FOLDERS: [&str; 3] = ["bitnet-online-bf16", "bitnet-packed", "llama-packed"];

fn testdata(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(path)
}

/// A file with this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

fn message(header: &str, data: usize) -> String {
    parse_header(&file(header, data)).expect_err("the header is bad").to_string()
}

fn spec(name: &str, shape: &[usize], dtype: Dtype) -> Spec {
    Spec { name: name.into(), shape: shape.into(), dtype }
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    folder
}

fn refusal(folder: &TempDir) -> Refusal {
    match Folder::open(folder.path(), LoadMode::Mmap) {
        Err(Error::Safetensors { refusal, .. }) => *refusal,
        other => panic!("{other:?}"),
    }
}

const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
const OTHER: &str = r#"{"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;

fn index(map: serde_json::Value) -> Vec<u8> {
    json!({ "metadata": { "total_size": 11 }, "weight_map": map }).to_string().into_bytes()
}

#[test]
fn a_folder_has_the_tensors_that_the_reference_reader_sees() {
    for name in FOLDERS {
        let folder = Folder::open(testdata(name), LoadMode::Mmap).unwrap();
        let bytes = fs::read(testdata(name).join("model.safetensors")).unwrap();
        let reference = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(folder.names().len(), reference.len());
        for (name, expected) in reference.tensors() {
            let entry = folder.tensor(&name).unwrap();
            assert_eq!((entry.dtype, entry.shape.as_slice()), (expected.dtype(), expected.shape()));
            assert!(entry.bytes.as_bytes() == expected.data(), "{name}");
        }
        assert_eq!(folder.file_len(), bytes.len());
    }
}

#[test]
fn a_source_opens_a_folder_and_keeps_its_configuration() {
    let Source::Folder(folder) = Source::open(testdata("llama-packed"), LoadMode::Read).unwrap() else {
        panic!()
    };
    assert_eq!(folder.config()["hidden_size"], 256);
    assert_eq!(folder.config_text(), fs::read_to_string(testdata("llama-packed/config.json")).unwrap());
}

#[test]
fn the_reference_reader_reads_what_is_written() {
    let folder = folder(&[]);
    let path = folder.path().join("model.safetensors");
    let mut specs =
        [spec("codes", &[3, 5], Dtype::U8), spec("norm", &[2], Dtype::F32), spec("scale", &[1], Dtype::BF16)];
    Spec::sort(&mut specs);
    let mut writer = Writer::create(&path, &specs).unwrap();
    writer.tensor(&[1; 8]).unwrap();
    writer.part(&[2]).unwrap();
    writer.part(&[3]).unwrap();
    writer.tensor(&[4; 15]).unwrap();
    writer.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("norm").unwrap().data(), [1; 8]);
    assert_eq!(tensors.tensor("scale").unwrap().data(), [2, 3]);
    assert_eq!(
        (tensors.tensor("codes").unwrap().shape(), tensors.tensor("codes").unwrap().data()),
        (&[3, 5][..], &[4; 15][..])
    );
}

#[test]
fn a_written_model_is_read_back_and_written_again_to_the_byte() {
    let target = folder(&[("config.json", b"{}")]);
    let path = target.path().join("model.safetensors");
    let copy = |from: &Folder| {
        let mut names: Vec<&str> = from.names().collect();
        names.sort_unstable();
        let entries = names.iter().map(|name| (*name, from.tensor(name).unwrap()));
        let mut specs: Vec<Spec> =
            entries.map(|(name, entry)| spec(name, &entry.shape, entry.dtype)).collect();
        Spec::sort(&mut specs);
        let mut writer = Writer::create(&path, &specs).unwrap();
        specs.iter().for_each(|spec| writer.tensor(&from.tensor(&spec.name).unwrap().bytes).unwrap());
        writer.finish().unwrap();
        fs::read(&path).unwrap()
    };
    for name in FOLDERS {
        let original = Folder::open(testdata(name), LoadMode::Mmap).unwrap();
        let once = copy(&original);
        let written = Folder::open(target.path(), LoadMode::Mmap).unwrap();
        for name in original.names() {
            assert!(
                written.tensor(name).unwrap().bytes.as_bytes()
                    == original.tensor(name).unwrap().bytes.as_bytes()
            );
        }
        assert!(copy(&written) == once, "{name} is not stable");
    }
}

#[test]
fn a_writer_refuses_names_and_orders_that_readers_refuse() {
    let folder = folder(&[]);
    let refusal = |specs: &[Spec]| match Writer::create(folder.path().join("m.safetensors"), specs).err() {
        Some(Error::Safetensors { refusal, .. }) => *refusal,
        other => panic!("{other:?}"),
    };
    let twice = [spec("a", &[1], Dtype::U8), spec("a", &[1], Dtype::U8)];
    assert!(matches!(refusal(&twice), Refusal::DuplicateTensor { .. }));
    assert!(matches!(refusal(&[spec("__metadata__", &[1], Dtype::U8)]), Refusal::DuplicateTensor { .. }));
    let odd = [spec("a", &[1], Dtype::U8), spec("b", &[1], Dtype::F32)];
    assert!(matches!(refusal(&odd), Refusal::Misaligned { offset: 1, .. }));
    assert!(matches!(refusal(&[spec("a", &[usize::MAX, 2], Dtype::U8)]), Refusal::Overflow { .. }));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_unfinished_file_leaves_the_old_one() {
    let folder = folder(&[("model.safetensors", b"old")]);
    let path = folder.path().join("model.safetensors");
    let mut writer =
        Writer::create(&path, &[spec("a", &[2], Dtype::U8), spec("b", &[2], Dtype::U8)]).unwrap();
    writer.tensor(&[1, 2]).unwrap();
    assert!(matches!(writer.finish(), Err(Error::WrittenSize { index: 1, count: 2, .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn shards_are_one_model() {
    let map =
        index(json!({ "b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors" }));
    let folder = folder(&[
        ("config.json", b"{}"),
        ("model-00001-of-00002.safetensors", &file(ONE, 8)),
        ("model-00002-of-00002.safetensors", &file(OTHER, 3)),
        ("model.safetensors.index.json", &map),
    ]);
    let opened = Folder::open(folder.path(), LoadMode::Mmap).unwrap();
    assert_eq!(opened.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(opened.tensor("b").unwrap().shape, [3]);
    assert_eq!(opened.file_len(), file(ONE, 8).len() + file(OTHER, 3).len());
}

#[test]
fn an_index_over_a_single_file_is_fine() {
    let map = index(json!({ "a": "model.safetensors" }));
    let files = [
        ("config.json", &b"{}"[..]),
        ("model.safetensors", &file(ONE, 8)),
        ("model.safetensors.index.json", &map),
    ];
    assert_eq!(Folder::open(folder(&files).path(), LoadMode::Mmap).unwrap().names().len(), 1);
}

#[test]
fn two_models_in_one_folder_are_refused() {
    let map = index(json!({ "a": "model-1.safetensors" }));
    let files = [
        ("config.json", &b"{}"[..]),
        ("model.safetensors", &file(ONE, 8)),
        ("model.safetensors.index.json", &map),
    ];
    assert!(matches!(refusal(&folder(&files)), Refusal::TwoModels));
}

#[test]
fn a_missing_shard_is_refused_by_name() {
    let map = index(json!({ "a": "model-1.safetensors" }));
    let files = [("config.json", &b"{}"[..]), ("model.safetensors.index.json", &map)];
    let Refusal::MissingShard { shard, tensor } = refusal(&folder(&files)) else { panic!() };
    assert_eq!((shard.as_str(), tensor.as_str()), ("model-1.safetensors", "a"));
}

#[test]
fn a_tensor_that_is_not_where_the_index_says_is_refused() {
    let open = |map| {
        let shard = file(ONE, 8);
        let files = [
            ("config.json", &b"{}"[..]),
            ("x.safetensors", &shard),
            ("model.safetensors.index.json", &index(map)),
        ];
        refusal(&folder(&files))
    };
    let absent = open(json!({ "a": "x.safetensors", "c": "x.safetensors" }));
    assert!(matches!(absent, Refusal::NotInShard { tensor, .. } if tensor == "c"));
    let moved = open(json!({ "c": "x.safetensors" }));
    assert!(matches!(moved, Refusal::NotInShard { tensor, .. } if tensor == "c"));
}

#[test]
fn a_tensor_that_the_index_does_not_know_is_refused() {
    let two = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    let map = index(json!({ "a": "x.safetensors" }));
    let files = [
        ("config.json", &b"{}"[..]),
        ("x.safetensors", &file(two, 2)),
        ("model.safetensors.index.json", &map),
    ];
    assert!(matches!(refusal(&folder(&files)), Refusal::NotInIndex { tensor, .. } if tensor == "b"));
}

#[test]
fn a_shard_is_a_plain_name_in_the_same_folder() {
    for shard in [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/x.safetensors",
        "a\\x.safetensors",
        "C:x.safetensors",
        "..",
        "",
        "x.bin",
        "x\0.safetensors",
    ] {
        let error = parse_index(&json!({ "weight_map": { "a": shard } }).to_string()).unwrap_err();
        assert!(matches!(&error, Refusal::ShardName { tensor, .. } if tensor == "a"), "{shard}: {error}");
    }
}

#[test]
fn a_bad_index_is_refused() {
    let error = |text: &str| parse_index(text).unwrap_err().to_string();
    assert!(
        error(r#"{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}"#).contains("\"a\" occurs twice")
    );
    assert!(error(r#"{"weight_map":{}}"#).contains("names no tensors"));
    assert!(error(r#"{"metadata":{}}"#).contains("weight_map"));
    assert!(error(r#"{"weight_map":{"a":1}}"#).contains("weight_map"));
    let deep = format!(r#"{{"x":{},"weight_map":{{}}}}"#, "[".repeat(100_000));
    assert!(error(&deep).starts_with("not an index"));
}

#[test]
fn an_index_of_as_many_shards_as_tensors_is_read_in_linear_time() {
    let map: serde_json::Map<_, _> =
        (0..200_000).map(|i| (format!("t{i}"), format!("{i}.safetensors").into())).collect();
    let text = json!({ "weight_map": map }).to_string();
    let start = Instant::now();
    assert_eq!(parse_index(&text).unwrap().len(), 200_000);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_configuration_is_a_json_object_of_bounded_size_and_depth() {
    let open =
        |config: &[u8]| refusal(&folder(&[("config.json", config), ("model.safetensors", &file(ONE, 8))]));
    assert!(matches!(open(b"[1]"), Refusal::Config(_)));
    assert!(matches!(open(b"{"), Refusal::Config(_)));
    assert!(matches!(open(b"{\"a\":\"\xff\"}"), Refusal::NotUtf8));
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(open(deep.as_bytes()).to_string().contains("recursion limit"));
    assert!(matches!(open(&vec![b' '; (32 << 20) + 1]), Refusal::JsonTooLong { .. }));
}

#[test]
fn a_header_is_no_longer_than_the_limit_and_the_file() {
    assert!(matches!(parse_header(b"1234567"), Err(Refusal::TooShort { len: 7 })));
    for length in [200_000_000_u64, 1 << 63, u64::MAX] {
        let got = parse_header(&[&length.to_le_bytes()[..], b"{}"].concat());
        assert!(matches!(got, Err(Refusal::HeaderTooLong { got, .. }) if got == length));
    }
    let got = parse_header(&[&3_u64.to_le_bytes()[..], b"{}"].concat());
    assert!(matches!(got, Err(Refusal::HeaderTruncated { needed: 3, left: 2 })));
}

#[test]
fn a_header_is_an_object_of_tensors() {
    assert!(matches!(parse_header(&file(" {}", 0)), Err(Refusal::HeaderStart)));
    assert!(matches!(parse_header(&file("", 0)), Err(Refusal::HeaderStart)));
    assert!(message("{\"a\":", 0).contains("not a JSON object of tensors"));
    assert!(
        message(r#"{"a":{"dtype":"F32","shape":[2]}}"#, 8).contains("\"a\": missing field `data_offsets`")
    );
    assert!(
        message(r#"{"a":{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}}"#, 8)
            .contains("\"a\": unknown variant `Q9`")
    );
    assert!(message(r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8).contains("\"a\""));
    assert!(message(r#"{"__metadata__":{"a":1}}"#, 0).contains("expected a string"));
    assert!(message(&format!("{{\"a\":{}", "[".repeat(100_000)), 0).contains("\"a\""));
    assert_eq!(parse_header(&file(r#"{"__metadata__":{"format":"pt"}}      "#, 0)).unwrap(), []);
}

#[test]
fn a_key_that_occurs_twice_is_refused() {
    let entry = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    assert!(message(&format!("{{{entry},{entry}}}"), 1).contains("key \"a\" occurs twice"));
    assert!(message(r#"{"__metadata__":{},"__metadata__":{}}"#, 0).contains("occurs twice"));
    assert!(message(r#"{"__metadata__":{"x":"1","x":"2"}}"#, 0).contains("key \"x\" occurs twice"));
}

#[test]
fn holes_and_overlaps_are_refused() {
    let two = |begin: usize| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"b":{{"dtype":"U8","shape":[4],"data_offsets":[{begin},{}]}}}}"#,
            begin + 4
        )
    };
    assert_eq!(parse_header(&file(&two(4), 8)).unwrap().len(), 2);
    assert!(message(&two(6), 10).contains("\"b\" starts at byte 6 of the data, the one before it ends at 4"));
    assert!(message(&two(2), 6).contains("\"b\" starts at byte 2"));
    assert!(message(&two(0), 4).contains("a hole or an overlap"));
    assert!(
        message(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}"#, 5).contains("starts at byte 1")
    );
}

#[test]
fn sizes_agree_with_shapes_and_with_the_file() {
    assert!(
        message(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8)
            .contains("make 12 bytes, its offsets 8")
    );
    assert!(message(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8).contains("\"a\""));
    assert!(message(ONE, 7).contains("\"a\" ends at byte 8 of the data, of which the file has 7"));
    assert!(message(ONE, 9).contains("1 bytes follow the last tensor"));
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
    assert!(message(huge, 8).contains("its size overflows"));
    let bits = r#"{"a":{"dtype":"F64","shape":[9223372036854775807],"data_offsets":[0,8]}}"#;
    assert!(message(bits, 8).contains("its size overflows"));
}

#[test]
fn every_truncation_of_a_file_is_refused() {
    for name in FOLDERS {
        let bytes = fs::read(testdata(name).join("model.safetensors")).unwrap();
        assert!((0..64).all(|part| parse_header(&bytes[..bytes.len() * part / 64]).is_err()), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500, failure_persistence: None, rng_seed: RngSeed::Fixed(158), ..ProptestConfig::default()
    })]

    #[test]
    fn a_damaged_file_is_sound_or_refused(
        folder in prop::sample::select(&FOLDERS[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = fs::read(testdata(folder).join("model.safetensors")).unwrap();
        let head = parse_header(&bytes).unwrap()[0].range.start;
        for (at, value) in damage {
            bytes[at.index(head)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(tensors) = parse_header(&bytes) {
            prop_assert!(tensors.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
            prop_assert!(tensors.iter().all(|tensor| bytes.get(tensor.range.clone()).is_some()));
        }
    }
}
