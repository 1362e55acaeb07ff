//! Files of NumPy and safetensors, bit by bit (`testdata/interchange`), what is written, and files that are refused.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{
    Bool, DType, Device, Error, Tensor,
    interchange::{InterchangeError, dlpack, npy, npz, safetensors},
};
use half::{bf16, f16};
use proptest::{prelude::*, test_runner::RngSeed};
use std::{fs, io::Write, path::PathBuf};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/interchange").join(name)
}

fn cpu() -> Device {
    Device::open("cpu/scalar", Some(1)).unwrap()
}

fn tensor_of_bytes(dims: &[usize], dtype: DType, bytes: &[u8]) -> Tensor {
    let mut x = Tensor::empty(&cpu(), dims, dtype).unwrap();
    cpu().backend().upload(bytes, x.view_mut("test").unwrap()).unwrap();
    x
}

fn bits(x: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; x.bytes()];
    x.device().backend().download(x.view(), &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn assert_identical(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()), "{what}");
    assert_eq!(bits(a), bits(b), "{what}");
}

fn refusal(error: Error) -> InterchangeError {
    match error {
        Error::Interchange(refusal) => refusal,
        other => panic!("{other}"),
    }
}

/// A `.npy` file of format 1.0 with any header.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn refused(header: &str, data: &[u8]) -> InterchangeError {
    refusal(npy::from_bytes(&cpu(), &file(header, data)).unwrap_err())
}

#[track_caller]
fn assert_field(refusal: &InterchangeError, name: &str, reason: &str) {
    let named = matches!(refusal, InterchangeError::NpyField { field, .. } if *field == name);
    assert!(named && refusal.to_string().contains(reason), "{refusal}");
}

#[test]
fn files_of_numpy_are_read_bit_by_bit() {
    for (name, want) in safetensors::load(&cpu(), &testdata("expected.safetensors")).unwrap() {
        let got = npy::load(&cpu(), &testdata(&format!("{name}.npy"))).unwrap();
        assert_identical(&got, &want, &name);
    }
}

#[test]
fn what_is_written_is_what_numpy_writes() {
    for name in ["f4", "f2", "i1", "u1", "i4", "i8", "b1", "scalar", "empty", "eight_dims"] {
        let bytes = fs::read(testdata(&format!("{name}.npy"))).unwrap();
        assert_eq!(npy::to_bytes(&npy::from_bytes(&cpu(), &bytes).unwrap()).unwrap(), bytes, "{name}");
    }
}

#[test]
fn archives_of_numpy_are_read_in_their_order() {
    let stored = npz::load(&cpu(), &testdata("stored.npz"), 1 << 20).unwrap();
    let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b", "a", "a name/with.dots"]);
    assert_eq!(stored[0].1.to_vec::<i64>().unwrap(), [0, 1, 2]);
    let deflated = npz::load(&cpu(), &testdata("deflated.npz"), 1 << 20).unwrap();
    assert_eq!(deflated[0].1.to_vec::<f32>().unwrap(), vec![0.0; 10_000]);
    assert_eq!(deflated[1].1.to_vec::<i32>().unwrap(), (0..50).collect::<Vec<_>>());
}

#[test]
fn files_of_torch_are_read_bit_by_bit() {
    let tensors = safetensors::load(&cpu(), &testdata("torch.safetensors")).unwrap();
    let find = |wanted: &str| &tensors.iter().find(|(name, _)| name == wanted).unwrap().1;
    let halves = [1.0, -0.5, f32::INFINITY].map(bf16::from_f32);
    assert_eq!(find("bf16").to_vec::<bf16>().unwrap(), halves);
    assert_eq!(find("bool").to_vec::<Bool>().unwrap(), [true, false].map(Bool::from));
    assert_eq!(find("i64").to_vec::<i64>().unwrap(), [i64::MIN, 7]);
    assert_eq!(find("f16").item::<f16>().unwrap(), f16::from_f32(0.1));
}

#[test]
fn a_strided_view_is_written_in_its_own_order() {
    let x = Tensor::from_slice(&cpu(), [2, 3], &[1i32, 2, 3, 4, 5, 6]).unwrap().permute(&[1, 0]).unwrap();
    let copy = npy::from_bytes(&cpu(), &npy::to_bytes(&x).unwrap()).unwrap();
    assert_eq!((copy.dims(), copy.to_vec::<i32>().unwrap()), (&[3, 2][..], vec![1, 4, 2, 5, 3, 6]));
}

#[test]
fn truths_of_other_bytes_are_written_as_ones() {
    let x = tensor_of_bytes(&[3], DType::Bool, &[0, 7, 255]);
    assert!(npy::to_bytes(&x).unwrap().ends_with(&[0, 1, 1]));
}

#[test]
fn brain_floats_have_no_npy_file() {
    let x = Tensor::from_slice(&cpu(), [1], &[bf16::ONE]).unwrap();
    let refusal = refusal(npy::to_bytes(&x).unwrap_err());
    assert!(matches!(refusal, InterchangeError::NoEquivalent { dtype: DType::BF16, .. }));
}

#[test]
fn a_float64_that_float32_cannot_hold_is_named() {
    let data = [0.5f64.to_le_bytes(), 0.1f64.to_le_bytes()].concat();
    let refusal = refused("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", &data);
    assert!(
        matches!(&refusal, InterchangeError::Lossy { index: 1, value, .. } if value == "0.1"),
        "{refusal}"
    );
}

#[test]
fn a_uint64_that_int64_cannot_hold_is_named() {
    let refusal = refused("{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}", &[255; 8]);
    let named = matches!(&refusal, InterchangeError::Lossy { index: 0, value, .. } if value == "18446744073709551615");
    assert!(named, "{refusal}");
}

#[test]
fn a_wrong_magic_is_refused() {
    for bytes in [&b""[..], b"PK\x03\x04", b"\x93NUMP", b"\x93numpy\x01\x00"] {
        assert!(matches!(npy::Header::parse(bytes), Err(InterchangeError::NotNpy)));
    }
}

#[test]
fn an_unknown_version_is_refused() {
    let refusal = npy::Header::parse(b"\x93NUMPY\x04\x00\x00\x00\x00\x00").unwrap_err();
    assert!(matches!(refusal, InterchangeError::NpyVersion { major: 4 }));
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let whole = fs::read(testdata("f4.npy")).unwrap();
    for len in 0..whole.len() {
        assert!(npy::from_bytes(&cpu(), &whole[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn bytes_after_the_elements_are_refused() {
    let refusal = refused("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", &[0; 2]);
    assert!(matches!(refusal, InterchangeError::NpyLength { wanted: 1, got: 2 }));
}

#[test]
fn a_shape_that_asks_for_more_than_the_file_has_takes_no_memory() {
    let refusal = refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}", &[0; 4]);
    assert!(matches!(refusal, InterchangeError::NpyLength { got: 4, .. }));
}

#[test]
fn a_shape_that_overflows_is_refused() {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2)}";
    assert_field(&refused(header, &[]), "shape", "counted");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}";
    assert_field(&refused(header, &[]), "shape", "too large");
}

#[test]
fn a_shape_that_overflows_beside_a_zero_is_refused() {
    let dims = "(0, 4294967296, 4294967296, 4294967296)";
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {dims}}}");
    assert!(matches!(refused(&header, &[]), InterchangeError::Extents { .. }));
}

#[test]
fn a_negative_extent_is_refused() {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}";
    assert_field(&refused(header, &[]), "shape", "invalid digit");
}

#[test]
fn more_dimensions_than_a_tensor_has_are_refused() {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1)}";
    assert!(matches!(refused(header, &[0]), InterchangeError::Rank { rank: 9, .. }));
}

#[test]
fn an_extent_that_is_no_tuple_is_refused() {
    assert_field(
        &refused("{'descr': '|u1', 'fortran_order': False, 'shape': 1}", &[0]),
        "shape",
        "expected `(`",
    );
    assert_field(&refused("{'descr': '|u1', 'fortran_order': False, 'shape': (1)}", &[0]), "shape", "tuple");
}

#[test]
fn a_header_without_an_end_is_refused() {
    for header in [
        "{'descr': '<f4",
        "{'descr",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
        "",
    ] {
        assert!(matches!(refused(header, &[0; 4]), InterchangeError::NpyField { .. }), "{header}");
    }
}

#[test]
fn a_header_that_goes_on_is_refused() {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)} + 1";
    assert_field(&refused(header, &[0]), "header", "goes on");
}

#[test]
fn a_field_that_is_given_twice_is_refused() {
    let header = "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (1,)}";
    assert_field(&refused(header, &[0]), "descr", "twice");
}

#[test]
fn a_field_that_is_missing_is_refused() {
    assert_field(&refused("{'fortran_order': False, 'shape': ()}", &[]), "descr", "missing");
    assert_field(&refused("{'descr': '|u1', 'shape': ()}", &[]), "fortran_order", "missing");
    assert_field(&refused("{'descr': '|u1', 'fortran_order': False}", &[]), "shape", "missing");
}

#[test]
fn a_field_that_is_unknown_is_refused() {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'more': 1}";
    assert_field(&refused(header, &[0]), "header", "more");
}

#[test]
fn element_types_that_tensors_lack_are_refused() {
    for descr in ["<c8", "|O", "<U4", "<M8[s]", "<f16", "|f4", "f4", "<V2", "", "é4"] {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,)}}");
        assert_field(&refused(&header, &[0; 8]), "descr", "dtype");
    }
    let records = "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,)}";
    assert_field(&refused(records, &[0; 4]), "descr", "expected a string");
}

#[test]
fn a_truth_that_is_a_number_is_refused() {
    let header = "{'descr': '|u1', 'fortran_order': 0, 'shape': (1,)}";
    assert_field(&refused(header, &[0]), "fortran_order", "True or False");
}

#[test]
fn a_header_that_is_too_long_is_refused_before_it_is_read() {
    let bytes = [b"\x93NUMPY\x02\x00", &u32::MAX.to_le_bytes()[..]].concat();
    assert!(matches!(npy::Header::parse(&bytes), Err(InterchangeError::TooLong { .. })));
}

#[test]
fn a_header_that_is_no_text_is_refused() {
    let bytes = [b"\x93NUMPY\x01\x00\x02\x00", &[0xff, 0xfe][..]].concat();
    assert_field(&npy::Header::parse(&bytes).unwrap_err(), "header", "text");
}

/// An archive of members.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in members {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The bytes of one array of zeros.
fn zeros(len: usize) -> Vec<u8> {
    npy::to_bytes(&Tensor::zeros(&cpu(), [len], DType::U8).unwrap()).unwrap()
}

#[test]
fn a_zip_bomb_is_refused_by_its_directory() {
    let bomb = archive(&[("a.npy", &zeros(1 << 20))]);
    assert!(bomb.len() < 4096);
    let refusal = refusal(npz::from_bytes(&cpu(), &bomb, 1 << 19).unwrap_err());
    assert!(matches!(refusal, InterchangeError::TooLong { limit: 524_288, .. }), "{refusal}");
}

#[test]
fn a_zip_bomb_that_lies_about_its_size_is_refused() {
    let bytes = zeros(1 << 20);
    let size = (bytes.len() as u32).to_le_bytes();
    let mut bomb = archive(&[("a.npy", &bytes)]);
    while let Some(at) = bomb.windows(4).position(|window| window == size) {
        bomb[at..at + 4].copy_from_slice(&300u32.to_le_bytes());
    }
    assert!(npz::from_bytes(&cpu(), &bomb, 1 << 30).is_err());
}

#[test]
fn an_archive_with_two_arrays_of_one_name_is_refused() {
    let mut bytes = archive(&[("a.npy", &zeros(1)), ("b.npy", &zeros(1))]);
    while let Some(at) = bytes.windows(5).position(|window| window == b"b.npy") {
        bytes[at] = b'a';
    }
    let refusal = refusal(npz::from_bytes(&cpu(), &bytes, 1 << 20).unwrap_err());
    assert!(matches!(refusal, InterchangeError::Duplicate { .. }), "{refusal}");
}

#[test]
fn an_archive_that_is_cut_off_is_refused() {
    let whole = fs::read(testdata("stored.npz")).unwrap();
    for len in [0, 10, whole.len() / 2, whole.len() - 1] {
        assert!(npz::from_bytes(&cpu(), &whole[..len], 1 << 20).is_err(), "{len}");
    }
}

#[test]
fn a_member_that_is_no_array_is_named() {
    let refusal =
        refusal(npz::from_bytes(&cpu(), &archive(&[("readme.txt", b"hello")]), 1 << 20).unwrap_err());
    assert!(matches!(refusal, InterchangeError::NotAnArray { .. }));
    let bad = archive(&[("good.npy", &zeros(1)), ("bad.npy", b"hello")]);
    assert!(npz::from_bytes(&cpu(), &bad, 1 << 20).unwrap_err().to_string().contains("\"bad\""));
}

#[test]
fn arrays_of_one_name_are_not_written() {
    let x = Tensor::zeros(&cpu(), [1], DType::U8).unwrap();
    let twice = [("x", &x), ("x", &x)];
    assert!(matches!(refusal(npz::to_bytes(&twice, false).unwrap_err()), InterchangeError::Duplicate { .. }));
    assert!(matches!(
        refusal(safetensors::to_bytes(&twice).unwrap_err()),
        InterchangeError::Duplicate { .. }
    ));
}

/// A safetensors file with any header.
fn safe(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn a_safetensors_header_with_two_tensors_of_one_name_is_refused() {
    let entry = r#""a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}"#;
    let bytes = safe(&format!("{{{entry}, {entry}}}"), &[0]);
    let refusal = refusal(safetensors::from_bytes(&cpu(), &bytes).unwrap_err());
    assert!(matches!(refusal, InterchangeError::Duplicate { .. }), "{refusal}");
}

#[test]
fn hostile_safetensors_files_are_refused() {
    let entry = |dtype: &str, shape: &str, end: u64| {
        format!(r#"{{"a": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [0, {end}]}}}}"#)
    };
    let hostile = [
        entry("F32", "[4611686018427387904]", 4),
        entry("F32", "[-1]", 4),
        entry("F32", "[1]", 1 << 40),
        entry("F64", "[1]", 8),
        entry("U8", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", 1),
        "{".into(),
        "[]".into(),
    ];
    for header in hostile {
        let len = if header.contains("F64") {
            8
        } else if header.contains("U8") {
            1
        } else {
            4
        };
        assert!(safetensors::from_bytes(&cpu(), &safe(&header, &vec![0; len])).is_err(), "{header}");
    }
    assert!(safetensors::from_bytes(&cpu(), &u64::MAX.to_le_bytes()).is_err());
}

#[test]
fn a_file_that_does_not_exist_is_named() {
    let error = npy::load(&cpu(), &testdata("nothing.npy")).unwrap_err();
    assert!(error.to_string().contains("nothing.npy"));
}

#[test]
fn dlpack_describes_a_view_as_it_lies_in_memory() {
    let x = Tensor::from_slice(&cpu(), [4, 3], &[0i32; 12]).unwrap().narrow(0, 1, 2).unwrap();
    let x = x.permute(&[1, 0]).unwrap();
    let found = dlpack::Description::of(&x).unwrap();
    assert_eq!((found.device_type, found.device_id), (1, 0));
    assert_eq!((found.code, found.bits, found.lanes), (0, 32, 1));
    assert_eq!((&found.shape[..], &found.strides[..], found.byte_offset), (&[3, 2][..], &[1, 3][..], 12));
    assert!(found.data.is_some_and(|address| address % 4 == 0));
    let numbers = DType::ALL.map(|dtype| {
        let found = dlpack::Description::of(&Tensor::zeros(&cpu(), [0], dtype).unwrap()).unwrap();
        assert_eq!(found.data, None);
        (found.code, found.bits)
    });
    assert_eq!(numbers, [(2, 32), (2, 16), (4, 16), (0, 8), (1, 8), (0, 32), (0, 64), (6, 8)]);
}

/// A tensor of any type and shape with any bits; truths are 0 or 1.
fn any_tensor() -> impl Strategy<Value = Tensor> {
    let dtype = prop::sample::select(DType::ALL.to_vec());
    (dtype, prop::collection::vec(0usize..4, 0..5)).prop_flat_map(|(dtype, dims)| {
        let len = dims.iter().product::<usize>() * dtype.size();
        let byte = if dtype == DType::Bool { 0..=1u8 } else { 0..=255u8 };
        prop::collection::vec(byte, len).prop_map(move |bytes| tensor_of_bytes(&dims, dtype, &bytes))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(43), ..ProptestConfig::default() })]

    #[test]
    fn tensors_come_back_from_npy_and_npz(x in any_tensor(), compressed: bool) {
        prop_assume!(x.dtype() != DType::BF16);
        assert_identical(&npy::from_bytes(&cpu(), &npy::to_bytes(&x).unwrap()).unwrap(), &x, "npy");
        let bytes = npz::to_bytes(&[("x", &x), ("y/z", &x)], compressed).unwrap();
        let back = npz::from_bytes(&cpu(), &bytes, 1 << 20).unwrap();
        assert_eq!((back[0].0.as_str(), back[1].0.as_str()), ("x", "y/z"));
        assert_identical(&back[1].1, &x, "npz");
    }

    #[test]
    fn tensors_come_back_from_safetensors(x in any_tensor(), y in any_tensor()) {
        let bytes = safetensors::to_bytes(&[("x", &x), ("y", &y)]).unwrap();
        for (name, back) in safetensors::from_bytes(&cpu(), &bytes).unwrap() {
            assert_identical(&back, if name == "x" { &x } else { &y }, &name);
        }
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
        let device = cpu();
        let mut changed = fs::read(testdata("f4.npy")).unwrap();
        let at = at.min(changed.len());
        changed.splice(at.., bytes.iter().copied());
        let _ = npy::from_bytes(&device, &changed);
        let _ = npy::from_bytes(&device, &bytes);
        let _ = npz::from_bytes(&device, &bytes, 1 << 20);
        let _ = safetensors::from_bytes(&device, &bytes);
    }
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (path, taken) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    let x = |values: &[f32]| Tensor::from_slice(&cpu(), [values.len()], values).unwrap();
    npy::save(&path, &x(&[1.0, 2.0])).unwrap();
    fs::create_dir(&taken).unwrap();
    let refusal = npy::save(&taken, &x(&[3.0])).unwrap_err().to_string();
    assert!(refusal.contains("y.npy: is a folder"), "{refusal}");
    npy::save(&path, &x(&[3.0])).unwrap();
    assert_identical(&npy::load(&cpu(), &path).unwrap(), &x(&[3.0]), "replaced");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}
