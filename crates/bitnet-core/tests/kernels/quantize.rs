//! Kernels that round rows of floats to a format.

use super::{Random, fast_tiers, guarded};
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
