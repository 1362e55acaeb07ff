//! Kernels that round rows of floats to a format.

use super::{Random, check_rows, fast_tiers, guarded};
use bitnet_core::cpu::kernels::Kernels;
use bitnet_quant::Format;

#[test]
fn rows_are_quantized_the_same_on_every_tier() {
    let mut random = Random(1);
    for format in [Format::Q8_0, Format::Q6K] {
        for len in [256, 512, 4096] {
            let bytes = format.tensor_bytes(1, len).unwrap();
            for x in random.rows(len) {
                let quantized =
                    |k: &Kernels| guarded(bytes, 0xa5, |bytes| k.write_row(format, &x, bytes).unwrap());
                let expected = quantized(&Kernels::SCALAR);
                for tier in fast_tiers() {
                    assert_eq!(quantized(tier), expected, "{format}, {}, {len} elements", tier.name);
                }
            }
        }
    }
}

#[test]
fn normed_activations_are_quantized_the_same_on_every_tier() {
    check_rows("quantize_normed", |k, x, weight| {
        let mut row = None;
        let codes = guarded(x.len().next_multiple_of(128), 99, |codes| {
            row = Some((k.quantize_normed)(x, weight, 1e-5, codes));
        });
        let row = row.unwrap();
        let sum: i32 = codes.iter().map(|code| i32::from(*code)).sum();
        assert_eq!(row.sum, sum);
        codes.iter().map(|code| *code as u32).chain([row.scale.to_bits()]).collect()
    });
}
