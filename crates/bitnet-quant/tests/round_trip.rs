//! Packing loses nothing, in any format.

use bitnet_quant::{Format, Scales, Ternary};
use proptest::prelude::*;

fn ternary_formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|f| f.is_ternary() && !matches!(f, Format::Tl1 | Format::Tl2))
}

/// The scale that a format gives back for a scale that an f16 holds exactly.
fn expected_scale(format: Format) -> f32 {
    if format == Format::HfPacked { 1.0 } else { 0.75 }
}

proptest! {
    #[test]
    fn unpack_undoes_pack(fours in 1usize..5, blocks in 1usize..4, seed in any::<u64>()) {
        let (rows, cols) = (4 * fours, 256 * blocks);
        let mut state = seed | 1;
        let codes: Vec<i8> = (0..rows * cols).map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % 3) as i8 - 1
        }).collect();
        let matrix = Ternary { rows, cols, codes, scales: Scales::Tensor(0.75) };
        for format in ternary_formats() {
            let bytes = format.pack(&matrix).unwrap();
            prop_assert_eq!(bytes.len(), format.tensor_bytes(rows, cols).unwrap());
            let back = format.unpack(&bytes, rows, cols).unwrap();
            prop_assert_eq!(&back.codes, &matrix.codes);
            let scales = back.scales.simplify(&back.codes, cols);
            prop_assert_eq!(scales, Scales::Tensor(expected_scale(format)), "{}", format);
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), rows in 0usize..9, cols in 0usize..600) {
        for format in Format::ALL {
            let _ = format.unpack(&bytes, rows, cols);
            let mut out = vec![0.0; cols];
            let _ = format.dequantize_row(&bytes, &mut out);
            let len = format.tensor_bytes(rows, cols).unwrap_or(0).min(1 << 20);
            let exact: Vec<u8> = bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { len }).collect();
            let _ = format.unpack(&exact, rows, cols);
        }
    }

    #[test]
    fn rows_of_floats_come_back_within_the_step(row in proptest::collection::vec(-100f32..100.0, 256)) {
        for (format, steps) in [(Format::F32, 0.0), (Format::F16, 0.0005), (Format::BF16, 0.004), (Format::Q8_0, 0.0043), (Format::Q6K, 0.035)] {
            let mut bytes = vec![0; format.tensor_bytes(1, 256).unwrap()];
            format.quantize_row(&row, &mut bytes).unwrap();
            let mut back = vec![0.0; 256];
            format.dequantize_row(&bytes, &mut back).unwrap();
            let absmax = row.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (x, y) in row.iter().zip(&back) {
                prop_assert!((x - y).abs() <= steps * absmax, "{}: {} became {}", format, x, y);
            }
        }
    }
}
