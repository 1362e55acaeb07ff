//! Files that are damaged, malicious or no models: refused by name, without a panic and without trusting a number in them.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod gguf_bytes;

use std::fs;
use std::path::{Path, PathBuf};

use bitnet_model::Error;
use bitnet_model::weights::foreign::Found;
use bitnet_model::weights::gguf::{Gguf, Refusal};
use bitnet_model::weights::{FileBytes, LoadMode, Source};
use bitnet_quant::Format;
use gguf_bytes::{ARRAY, F32, I2_S, Parts, Q2_0, U32, array, info, pair, string};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn parse(bytes: Vec<u8>) -> Result<Gguf, Refusal> {
    match Gguf::parse("bad.gguf", FileBytes::from(bytes)) {
        Ok(gguf) => Ok(gguf),
        Err(Error::Gguf { path, refusal }) => {
            assert_eq!(path, Path::new("bad.gguf"));
            Err(*refusal)
        }
        Err(other) => panic!("{other}"),
    }
}

fn refusal(parts: &Parts) -> Refusal {
    parse(parts.bytes()).expect_err("the file is bad")
}

fn message(parts: &Parts) -> String {
    refusal(parts).to_string()
}

/// The rule that a tensor of these dimensions and type breaks.
fn tensor_refusal(dimensions: &[u64], type_id: u32) -> Refusal {
    match refusal(&Parts::new(vec![info(b"bad", dimensions, type_id, 0)], 4096)) {
        Refusal::Tensor { name, refusal } => {
            assert_eq!(name, "bad");
            *refusal
        }
        other => panic!("{other}"),
    }
}

macro_rules! assert_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            other => panic!("{other:?}"),
        }
    };
}

fn fixtures(extension: &str) -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata"));
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    assert!(files.len() >= 6, "the fixtures are missing");
    files
}

#[test]
fn the_hand_made_file_is_good() {
    let gguf = parse(Parts::good().bytes()).unwrap();
    assert_eq!(gguf.tensor("matrix").unwrap().shape, [4, 128]);
    assert_eq!(gguf.tensor("matrix").unwrap().range.len(), 4 * 128 / 4 + 32);
}

#[test]
fn a_wrong_magic_is_refused() {
    assert_matches!(refusal(&Parts { magic: b"GGML".to_vec(), ..Parts::good() }), Refusal::Magic { got } if got == b"GGML");
}

#[test]
fn an_empty_file_is_refused() {
    assert_matches!(parse(Vec::new()).unwrap_err(), Refusal::Magic { got } if got.is_empty());
}

#[test]
fn a_file_of_one_byte_is_refused() {
    assert_matches!(parse(vec![b'G']).unwrap_err(), Refusal::Magic { .. });
}

#[test]
fn unknown_versions_are_refused() {
    for version in [0, 1, 4, 999] {
        assert_matches!(refusal(&Parts { version, ..Parts::good() }), Refusal::Version { got } if got == version);
    }
}

#[test]
fn a_big_endian_file_is_refused_by_name() {
    let parts = Parts { version: 3_u32.swap_bytes(), ..Parts::good() };
    assert_matches!(refusal(&parts), Refusal::BigEndian { version: 3 });
}

#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    for count in [1 << 63, u64::MAX, 1 << 40] {
        let tensors = Parts { tensor_count: Some(count), ..Parts::good() };
        assert_matches!(refusal(&tensors), Refusal::Count { what: "the number of tensors", got, .. } if got == count);
        let pairs = Parts { pair_count: Some(count), ..Parts::good() };
        assert_matches!(refusal(&pairs), Refusal::Count { what: "the number of keys", got, .. } if got == count);
    }
}

#[test]
fn a_count_that_is_one_too_high_is_refused() {
    assert!(parse(Parts { tensor_count: Some(3), ..Parts::good() }.bytes()).is_err());
    assert!(parse(Parts { pair_count: Some(2), ..Parts::good() }.bytes()).is_err());
}

#[test]
fn a_huge_string_is_refused_before_it_is_allocated() {
    for length in [1_u64 << 40, u64::MAX] {
        let value = pair(b"k", 8, &length.to_le_bytes());
        assert_matches!(refusal(&Parts::good().with(value)), Refusal::Key { key, .. } if key == "k");
    }
}

#[test]
fn a_huge_array_is_refused_before_it_is_allocated() {
    for element_id in [0, 1, 2, 4, 6, 7, 8, 10, 12] {
        for count in [1 << 61, u64::MAX, (1 << 24) + 1] {
            let value = pair(b"k", ARRAY, &array(element_id, count, &[]));
            let Refusal::Key { refusal, .. } = refusal(&Parts::good().with(value)) else { panic!() };
            assert_matches!(*refusal, Refusal::Count { got, .. } if got == count);
        }
    }
}

#[test]
fn arrays_of_arrays_are_refused_however_deep() {
    let nested = array(ARRAY, 1, &[]).repeat(100_000);
    let Refusal::Key { refusal, .. } = refusal(&Parts::good().with(pair(b"k", ARRAY, &nested))) else {
        panic!()
    };
    assert_matches!(*refusal, Refusal::NestedArray);
}

#[test]
fn an_unknown_value_type_is_refused() {
    assert!(message(&Parts::good().with(pair(b"k", 13, &[0; 8]))).contains("value type 13"));
    assert!(
        message(&Parts::good().with(pair(b"k", ARRAY, &array(77, 1, &[0; 8])))).contains("value type 77")
    );
}

#[test]
fn a_bool_that_is_neither_0_nor_1_is_refused() {
    assert!(message(&Parts::good().with(pair(b"k", 7, &[2]))).contains("got 2"));
}

#[test]
fn a_key_that_occurs_twice_is_refused_by_name() {
    let parts = Parts::good().with(pair(b"general.architecture", 8, &string(b"bitnet")));
    assert_matches!(refusal(&parts), Refusal::DuplicateKey { key } if key == "general.architecture");
}

#[test]
fn a_tensor_that_occurs_twice_is_refused_by_name() {
    let parts = Parts::new(vec![info(b"a", &[8], F32, 0), info(b"a", &[8], F32, 32)], 64);
    assert_matches!(refusal(&parts), Refusal::DuplicateTensor { name } if name == "a");
}

#[test]
fn empty_names_are_refused() {
    assert_matches!(refusal(&Parts::good().with(pair(b"", U32, &[0; 4]))), Refusal::EmptyKey { .. });
    assert_matches!(
        refusal(&Parts::new(vec![info(b"", &[8], F32, 0)], 32)),
        Refusal::EmptyTensorName { index: 0 }
    );
}

#[test]
fn names_that_are_not_utf8_are_refused() {
    let key = Parts::good().with(pair(b"\xff\xfe", U32, &[0; 4]));
    assert_matches!(refusal(&key), Refusal::NotUtf8 { what: "a key", .. });
    let tensor = Parts::new(vec![info(b"\xc3", &[8], F32, 0)], 32);
    assert_matches!(refusal(&tensor), Refusal::NotUtf8 { what: "a tensor name", .. });
}

#[test]
fn names_of_64_kib_are_refused() {
    let long = [b'n'; 65536];
    let key = Parts::good().with(pair(&long, U32, &[0; 4]));
    assert_matches!(refusal(&key), Refusal::TooLong { what: "a key", got: 65536, limit: 65535, .. });
    let tensor = Parts::new(vec![info(&long, &[8], F32, 0)], 32);
    assert_matches!(refusal(&tensor), Refusal::TooLong { what: "a tensor name", .. });
}

#[test]
fn a_tensor_has_one_to_four_dimensions() {
    assert_matches!(tensor_refusal(&[], F32), Refusal::Dimensions { got: 0 });
    assert_matches!(tensor_refusal(&[2; 5], F32), Refusal::Dimensions { got: 5 });
    let mut huge = info(b"bad", &[1], F32, 0);
    huge[11..15].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    assert!(message(&Parts::new(vec![huge], 64)).contains("2147483648 dimensions"));
}

#[test]
fn a_dimension_of_zero_is_refused() {
    assert_matches!(tensor_refusal(&[32, 0], F32), Refusal::ZeroDimension { index: 1 });
}

#[test]
fn sizes_that_overflow_are_refused() {
    assert_matches!(tensor_refusal(&[1 << 32, 1 << 32], F32), Refusal::Overflow);
    assert_matches!(tensor_refusal(&[u64::MAX, 2], F32), Refusal::Overflow);
    // The number of values fits, the number of bytes does not: also for types of blocks (CVE-2026-33298 and its sequel).
    for type_id in [F32, 8, 14, 34, 135, 335] {
        let refusal = tensor_refusal(&[1 << 62, 3], type_id);
        assert!(matches!(refusal, Refusal::Format(_) | Refusal::OutOfFile { .. }), "{type_id}: {refusal:?}");
    }
    assert_matches!(tensor_refusal(&[1 << 62], F32), Refusal::Format(_));
}

#[test]
fn an_alignment_is_a_power_of_two_of_reasonable_size() {
    for alignment in [0_u32, 1, 3, 48, 1 << 17, 0x8000_0000] {
        let parts = Parts::good().with(pair(b"general.alignment", U32, &alignment.to_le_bytes()));
        assert_matches!(refusal(&parts), Refusal::Alignment { got } if got == alignment);
    }
}

#[test]
fn an_alignment_of_another_type_is_refused() {
    let wrong = [
        pair(b"general.alignment", 10, &64_u64.to_le_bytes()),
        pair(b"general.alignment", 8, &string(b"32")),
    ];
    for pair in wrong {
        assert_matches!(refusal(&Parts::good().with(pair)), Refusal::KeyType { .. });
    }
}

#[test]
fn a_misaligned_tensor_is_refused() {
    let parts = Parts::new(vec![info(b"a", &[8], F32, 0), info(b"b", &[8], F32, 40)], 96);
    assert!(message(&parts).contains("\"b\": offset 40 is not a multiple of the alignment 32"));
}

#[test]
fn overlapping_tensors_are_refused() {
    let parts = Parts::new(vec![info(b"a", &[16], F32, 0), info(b"b", &[16], F32, 32)], 96);
    assert!(message(&parts).contains("\"b\" starts 32 bytes after it"));
    let same = Parts::new(vec![info(b"a", &[8], F32, 0), info(b"b", &[8], F32, 0)], 32);
    assert!(message(&same).contains("starts 0 bytes after it"));
}

#[test]
fn a_hole_between_tensors_is_refused() {
    let parts = Parts::new(vec![info(b"a", &[8], F32, 0), info(b"b", &[8], F32, 64)], 96);
    assert!(message(&parts).contains("\"b\" starts 64 bytes after it"));
    assert!(
        message(&Parts::new(vec![info(b"a", &[8], F32, 32)], 64))
            .contains("the first tensor starts 32 bytes")
    );
}

#[test]
fn a_tensor_outside_of_the_file_is_refused() {
    let beyond = Parts::new(vec![info(b"a", &[8], F32, 1 << 40)], 32);
    assert!(message(&beyond).contains("offset 1099511627776 lies outside"));
    let longer = Parts::new(vec![info(b"a", &[1024], F32, 0)], 64);
    assert!(message(&longer).contains("takes 4096 bytes, but the file ends 64 bytes after its start"));
    let wraps = Parts::new(vec![info(b"a", &[8], F32, u64::MAX - 31)], 32);
    assert!(message(&wraps).contains("lies outside"));
}

#[test]
fn bytes_behind_the_last_tensor_are_refused() {
    let mut parts = Parts::good();
    parts.data.extend([0; 64]);
    assert_matches!(refusal(&parts), Refusal::Trailing { left: 64, name } if name == "matrix");
}

#[test]
fn unknown_tensor_types_are_refused_by_name_with_the_way_out() {
    let q5_k = tensor_refusal(&[256], 13).to_string();
    assert!(q5_k.contains("type 13 (q5_k)") && q5_k.contains("i2_s"), "{q5_k}");
    assert!(tensor_refusal(&[256], 9999).to_string().contains("type 9999 (of an unknown name)"));
}

#[test]
fn layouts_of_one_kernel_build_are_refused_by_name() {
    for (type_id, name) in [(38, "tl1"), (39, "tl2")] {
        let message = tensor_refusal(&[256], type_id).to_string();
        assert!(message.contains(name) && message.contains("i2_s"), "{message}");
    }
}

#[test]
fn an_i2_s_tensor_without_its_scale_is_refused() {
    let parts = Parts::new(vec![info(b"a", &[128, 4], I2_S, 0), info(b"b", &[8], F32, 128)], 160);
    assert!(
        message(&parts)
            .contains("as i2_s it takes 160 bytes with padding, but \"b\" starts 128 bytes after it")
    );
}

#[test]
fn rows_that_are_no_whole_blocks_are_refused() {
    for (type_id, cols) in [(34, 128), (35, 300), (8, 33), (Q2_0, 32), (135, 96)] {
        assert_matches!(tensor_refusal(&[cols, 2], type_id), Refusal::Format(_));
    }
}

#[test]
fn the_sizes_tell_both_meanings_of_type_42_apart() {
    // 4096 values: 64 blocks of 18 bytes, or 32 of 34.
    for (bytes, format) in [(1152, Format::Q2_0), (1088, Format::Q2_0G128)] {
        let infos = vec![info(b"a", &[4096], Q2_0, 0), info(b"b", &[4096], Q2_0, bytes)];
        let gguf = parse(Parts::new(infos, 2 * bytes as usize).bytes()).unwrap();
        assert_eq!((gguf.tensors()[0].type_id, gguf.tensors()[0].format), (Q2_0, format));
    }
    // 128 values take 36 or 34 bytes, and the padding hides which.
    assert_matches!(refusal(&Parts::new(vec![info(b"a", &[128], Q2_0, 0)], 64)), Refusal::AmbiguousQ2);
}

#[test]
fn transforms_of_activations_are_refused_by_name() {
    for key in ["prism.hadamard.block", "prism.new", "bitnet.rotation.seed", "quarot.enabled"] {
        let parts = Parts::good().with(pair(key.as_bytes(), U32, &[1, 0, 0, 0]));
        assert_matches!(refusal(&parts), Refusal::Transform { key: named } if named == key);
    }
}

#[test]
fn a_part_of_a_split_model_is_refused() {
    let parts = Parts::good().with(pair(b"split.count", 2, &[3, 0]));
    assert_matches!(refusal(&parts), Refusal::Split { count: 3 });
}

#[test]
fn an_array_of_another_element_type_is_not_read_as_floats() {
    let scores = pair(b"tokenizer.ggml.scores", ARRAY, &array(1, 3, &[1, 2, 3]));
    let gguf = parse(Parts::good().with(scores).bytes()).unwrap();
    let error = gguf.get::<&[f32]>("tokenizer.ggml.scores").unwrap_err().to_string();
    assert!(error.contains("expected an array of f32, got array of i8"), "{error}");
}

#[test]
fn a_value_that_does_not_fit_is_not_narrowed() {
    let gguf = parse(Parts::good().with(pair(b"n", 11, &(-1_i64).to_le_bytes())).bytes()).unwrap();
    assert!(gguf.get::<u32>("n").unwrap_err().to_string().contains("got -1 (i64)"));
    assert!(gguf.get::<u32>("missing").unwrap_err().to_string().contains("\"missing\" is missing"));
    assert_eq!(gguf.find::<u32>("missing").unwrap(), None);
}

#[test]
fn every_truncation_of_a_gguf_file_is_refused() {
    for path in fixtures("gguf") {
        let bytes = fs::read(&path).unwrap();
        for part in 0..64 {
            let cut = bytes[..bytes.len() * part / 64].to_vec();
            assert!(parse(cut).is_err(), "{} at {part}/64", path.display());
        }
    }
}

#[test]
fn a_small_file_cut_anywhere_is_refused() {
    let bytes = Parts::good().bytes();
    for len in 0..bytes.len() {
        assert!(parse(bytes[..len].to_vec()).is_err(), "{len} bytes");
    }
}

/// All bytes of all tensors can be reached and no two tensors share one.
fn assert_sound(gguf: &Gguf) {
    let mut ends = gguf.tensors().iter().map(|t| (t.range.start, t.range.end)).collect::<Vec<_>>();
    ends.sort_unstable();
    assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    for tensor in gguf.tensors() {
        assert_eq!(gguf.bytes(tensor).len(), tensor.range.len());
    }
}

#[test]
fn a_small_file_with_any_byte_changed_to_any_other_is_sound_or_refused() {
    let bytes = Parts::good().bytes();
    for at in 0..bytes.len() - 224 {
        for value in 0..=u8::MAX {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(gguf) = parse(changed) {
                assert_sound(&gguf);
            }
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(158),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn a_damaged_gguf_file_is_sound_or_refused(
        file in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let files = fixtures("gguf");
        let mut bytes = fs::read(file.get(&files)).unwrap();
        let head = parse(bytes.clone()).unwrap().tensors().iter().map(|t| t.range.start).min().unwrap();
        for (at, value) in damage {
            bytes[at.index(head)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(gguf) = parse(bytes) {
            assert_sound(&gguf);
        }
    }
}

/// What a file of this name and content is taken for.
fn found(name: &str, content: &[u8]) -> Found {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    found_at(&path)
}

fn found_at(path: &Path) -> Found {
    match Source::open(path, LoadMode::Mmap) {
        Err(Error::NotAModel { found, .. }) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_that_are_no_models_are_refused_for_what_they_are() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    assert_eq!(found("m.bin", b""), Found::Empty);
    assert_eq!(found("m.safetensors", lfs), Found::LfsPointer);
    assert_eq!(found("m.bin", b" \n<!DOCTYPE html><html>"), Found::WebPage);
    assert_eq!(found("pytorch_model.bin", b"PK\x03\x04......"), Found::Pickle);
    assert_eq!(found("consolidated.pth", b"\x80\x02}q"), Found::Pickle);
    assert_eq!(found("model.onnx", b"\x08\x07"), Found::Onnx);
    assert_eq!(found("ggml-model.bin", b"lmgg\x01"), Found::OldGgml);
    assert_eq!(found("model.gz", b"\x1f\x8b\x08"), Found::Compressed);
    assert_eq!(found("model.h5", b"\x89HDF\r\n"), Found::Hdf5);
    assert_eq!(found("weights.npz", b"PK\x03\x04"), Found::Numpy);
    assert_eq!(found("config.json", b"{}"), Found::Json);
    assert_eq!(found("model.safetensors", b"\x02\0\0\0\0\0\0\0{}"), Found::Safetensors);
    assert_eq!(found("notes.txt", b"some words"), Found::Other);
}

#[test]
fn a_gguf_name_over_something_else_is_refused_as_gguf() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, b"").unwrap();
    assert_matches!(Source::open(&path, LoadMode::Mmap).unwrap_err(), Error::Gguf { .. });
}

#[test]
fn folders_that_are_no_models_are_refused_for_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let add = |name: &str| fs::write(folder.path().join(name), b"{}").unwrap();
    assert_eq!(found_at(folder.path()), Found::OtherFolder);
    add("config.json");
    assert_eq!(found_at(folder.path()), Found::NoWeights);
    add("pytorch_model.bin");
    assert_eq!(found_at(folder.path()), Found::PickleFolder);
    add("model.gguf");
    assert_eq!(found_at(folder.path()), Found::GgufFolder);
    fs::remove_file(folder.path().join("config.json")).unwrap();
    add("model.safetensors");
    assert_eq!(found_at(folder.path()), Found::NoConfig);
}

#[test]
fn a_path_that_leads_nowhere_names_itself() {
    let error = Source::open("no/such/model.gguf", LoadMode::Mmap).unwrap_err().to_string();
    assert!(error.contains("no/such/model.gguf"), "{error}");
}
