//! Bytes of every layout against those that other programs write. Provenance: testdata/README.md.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_quant::{Error, Format, Scales, Ternary, activation, ternary};
use safetensors::SafeTensors;

const VECTORS: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/formats/vectors.safetensors"));
const MORE: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/formats/more.safetensors"));
const MATRICES: [(&str, usize, usize); 3] = [("8x256", 8, 256), ("4x640", 4, 640), ("8x192", 8, 192)];

fn read(file: &[u8], name: &str) -> Vec<u8> {
    SafeTensors::deserialize(file).unwrap().tensor(name).unwrap().data().to_vec()
}

fn read_floats(file: &[u8], name: &str) -> Vec<f32> {
    read(file, name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn tensor(name: &str) -> Vec<u8> {
    read(VECTORS, name)
}

fn floats(name: &str) -> Vec<f32> {
    read_floats(VECTORS, name)
}

fn matrix(name: &str, rows: usize, cols: usize) -> Ternary {
    let codes = tensor(&format!("{name}.codes")).into_iter().map(|b| b as i8).collect();
    Ternary { rows, cols, codes, scales: Scales::Tensor(floats(&format!("{name}.scale"))[0]) }
}

/// The golden bytes of a layout, without the free part of an I2_S tail.
fn agree(layout: &str, format: Format) {
    let mut compared = 0;
    let names = SafeTensors::deserialize(VECTORS).unwrap();
    for (name, rows, cols) in MATRICES {
        let key = format!("{name}.{layout}");
        if names.tensor(&key).is_err() {
            continue;
        }
        let (golden, codes) = (tensor(&key), matrix(name, rows, cols));
        let packed = format.pack(&codes).unwrap();
        let free = if layout.starts_with("i2_s") { 28 } else { 0 };
        assert_eq!(packed.len(), golden.len(), "{key}");
        assert_eq!(packed[..packed.len() - free], golden[..golden.len() - free], "{key}");
        let unpacked = format.unpack(&golden, rows, cols).unwrap();
        assert_eq!(unpacked.codes, codes.codes, "{key}");
        compared += 1;
    }
    assert!(compared > 0, "no golden bytes for {layout}");
}

#[test]
fn i2_s_of_x86_is_that_of_llama_quantize() {
    agree("i2_s_x86", Format::I2S);
}

#[test]
fn i2_s_of_arm_builds() {
    agree("i2_s_arm", Format::I2SArm);
}

#[test]
fn i2_s_of_builds_that_pack_four_rows() {
    agree("i2_s_x86_rows4", Format::I2SRow4);
}

#[test]
fn tq1_0_is_that_of_gguf_py() {
    agree("tq1_0", Format::Tq1);
}

#[test]
fn tq2_0_is_that_of_gguf_py() {
    agree("tq2_0", Format::Tq2);
}

#[test]
fn iq1_bn_is_that_of_ik_llama() {
    agree("iq1_bn", Format::Iq1Bn);
}

#[test]
fn iq2_bn_is_that_of_ik_llama() {
    agree("iq2_bn", Format::Iq2Bn);
}

#[test]
fn hf_packed_is_that_of_transformers() {
    agree("hf_packed", Format::HfPacked);
}

#[test]
fn dense_formats_have_the_values_of_gguf_py() {
    for format in [Format::Q8_0, Format::Q6K, Format::Q5_0, Format::Q4_0, Format::Q4K] {
        let bytes = read(MORE, &format!("{format}.bytes"));
        let expected = read_floats(MORE, &format!("{format}.values"));
        let mut values = vec![0.0; 256];
        for (bytes, expected) in bytes.chunks_exact(bytes.len() / 4).zip(expected.chunks_exact(256)) {
            format.dequantize_row(bytes, &mut values).unwrap();
            assert_eq!(values, expected, "{format}");
        }
    }
}

#[test]
fn formats_without_a_public_writer_are_those_of_their_description() {
    let codes: Vec<i8> = read(MORE, "codes").into_iter().map(|b| b as i8).collect();
    for (format, len) in [
        (Format::Q2_0, Some(64)),
        (Format::Q2_0G128, Some(128)),
        (Format::Pq2, Some(128)),
        (Format::Ptq1, Some(128)),
        (Format::Iq2BnR4, None),
    ] {
        let values = read_floats(MORE, &format!("{format}.scales"));
        let scales = len.map_or(Scales::Row(values.clone()), |len| Scales::Group { len, values });
        let matrix = Ternary { rows: 4, cols: 256, codes: codes.clone(), scales };
        let golden = read(MORE, &format!("{format}.bytes"));
        assert_eq!(format.pack(&matrix).unwrap(), golden, "{format}");
        assert_eq!(format.unpack(&golden, 4, 256).unwrap(), matrix, "{format}");
    }
}

#[test]
fn masters_get_the_codes_and_scale_of_transformers() {
    for (name, rows, cols) in MATRICES {
        let expected = matrix(name, rows, cols);
        let mut codes = vec![0; rows * cols];
        let scale = ternary::ternarize(&floats(&format!("{name}.master")), &mut codes);
        assert_eq!(codes, expected.codes, "{name}");
        // torch adds in f32, in an order that depends on its vector width; the exact mean is one unit away at most.
        let golden = floats(&format!("{name}.scale"))[0];
        assert!(
            (scale.to_bits() as i32 - golden.to_bits() as i32).abs() <= 1,
            "{name}: {scale} and {golden}"
        );
    }
}

#[test]
fn activations_are_those_of_bit_linear() {
    let x = [0.3f32, -0.7, 0.0, 2.0];
    let mut codes = [0; 4];
    assert_eq!(activation::quantize(&x, &mut codes).scale, 63.5);
    assert_eq!(codes, [19, -44, 0, 127]);
}

#[test]
fn truncated_or_longer_bytes_are_refused() {
    for format in Format::ALL.into_iter().filter(|f| f.is_ternary()) {
        let Ok(len) = format.tensor_bytes(8, 256) else { continue };
        for wrong in [0, 1, len - 1, len + 1] {
            assert!(
                matches!(format.unpack(&vec![0; wrong], 8, 256), Err(Error::Length { .. })),
                "{format} {wrong}"
            );
        }
    }
}

#[test]
fn code_three_is_refused_wherever_it_stands() {
    for format in [
        Format::I2S,
        Format::I2SArm,
        Format::I2SRow4,
        Format::Tq2,
        Format::Q2_0,
        Format::Q2_0G128,
        Format::Pq2,
        Format::Iq2Bn,
        Format::Iq2BnR4,
        Format::HfPacked,
    ] {
        let zeros = Ternary { rows: 4, cols: 256, codes: vec![0; 1024], scales: Scales::Tensor(1.0) };
        let good = format.pack(&zeros).unwrap();
        // Not the bytes of scales: those are not codes.
        let scales: Vec<usize> = (0..good.len()).filter(|&i| good[i] != 0x55).collect();
        for byte in (0..good.len()).filter(|i| !scales.contains(i)) {
            let mut bad = good.clone();
            bad[byte] |= 0b11 << (2 * (byte % 4));
            assert_eq!(
                format.unpack(&bad, 4, 256),
                Err(Error::Code { format, byte: code_byte(format, byte) }),
                "{format}"
            );
        }
    }
}

/// Formats that keep scales in front of rows count bytes of codes from the row they stand in.
fn code_byte(format: Format, byte: usize) -> usize {
    match format {
        Format::Iq2Bn => byte % 68 - 4,
        Format::Iq2BnR4 => byte - 16,
        _ => byte,
    }
}

#[test]
fn scales_that_are_not_numbers_are_refused() {
    let zeros = Ternary { rows: 4, cols: 256, codes: vec![0; 1024], scales: Scales::Tensor(1.0) };
    let tq2 = Format::Tq2.pack(&zeros).unwrap();
    let nan = half::f16::NAN.to_le_bytes();
    let mut bad = tq2;
    bad[64..66].copy_from_slice(&nan);
    assert!(matches!(Format::Tq2.unpack(&bad, 4, 256), Err(Error::Scale { index: 0, .. })));
    let mut bad = Format::Iq2Bn.pack(&zeros).unwrap();
    bad[68..72].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(matches!(Format::Iq2Bn.unpack(&bad, 4, 256), Err(Error::Scale { index: 1, .. })));
}

#[test]
fn group_scales_do_not_fit_into_one() {
    let scales = Scales::Group { len: 128, values: (1..=8).map(|i| i as f32).collect() };
    let matrix = Ternary { rows: 4, cols: 256, codes: vec![1; 1024], scales };
    for format in [Format::I2S, Format::HfPacked, Format::Iq2Bn, Format::Tq2] {
        assert!(matches!(format.pack(&matrix), Err(Error::Scales { .. })), "{format}");
    }
    assert!(Format::Pq2.pack(&matrix).is_ok());
    assert!(Format::Q2_0.pack(&matrix).is_ok());
}

#[test]
fn tuned_layouts_are_refused_with_the_reason() {
    let message = Format::Tl2.tensor_bytes(256, 256).unwrap_err().to_string();
    assert!(message.contains("kernel configuration"), "{message}");
}
