//! Kernels that screen a matrix.

use super::{Random, check_rows, guarded};
use bitnet_core::cpu::kernels::Kernels;

#[test]
fn rows_are_screened_the_same_on_every_tier() {
    check_rows("screen", |k, w, _| {
        let mut row = None;
        let codes = guarded(w.len().next_multiple_of(32), 99, |codes| row = Some((k.screen)(w, codes)));
        let row = row.unwrap();
        let figures = [row.scale, row.lost, row.length].map(f32::to_bits);
        codes.iter().map(|code| *code as u32).chain(figures).collect()
    });
    let mut random = Random(3);
    for len in [32, 480, 512, 544, 4096] {
        let x: Vec<i16> =
            (0..len).map(|i| if i % 3 == 0 { 16_383 } else { random.bits() as i16 >> 1 }).collect();
        let codes: Vec<i8> = (0..len).map(|i| if i % 3 == 0 { -127 } else { random.bits() as i8 }).collect();
        let exact: i64 = codes.iter().zip(&x).map(|(&code, &x)| i64::from(code) * i64::from(x)).sum();
        for tier in Kernels::available() {
            assert_eq!((tier.screen_dot)(&codes, &x), exact, "{}, {len}", tier.name);
        }
    }
    // Every product as large as it can be.
    assert_eq!((Kernels::best().screen_dot)(&[-127; 512], &[-16_383; 512]), 512 * 127 * 16_383);
}
