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
    let far = 2 * 8192 + 32;
    for (len, rows, tokens) in [(32, 1, 1), (480, 2, 2), (544, 3, 3), (4096, 5, 9), (8192, 2, 1), (far, 4, 6)]
    {
        let large = |i: usize, large: i32, random: i32| if i.is_multiple_of(3) { large } else { random };
        let x: Vec<i16> =
            (0..len * tokens).map(|i| large(i, 16_383, random.bits() as i16 as i32 >> 1) as i16).collect();
        let codes: Vec<i8> =
            (0..len * rows).map(|i| large(i, -127, random.bits() as i8 as i32) as i8).collect();
        let dot = |row: &[i8], x: &[i16]| -> i64 {
            row.iter().zip(x).map(|(&code, &x)| i64::from(code) * i64::from(x)).sum()
        };
        let exact: Vec<i64> =
            codes.chunks(len).flat_map(|row| x.chunks(len).map(move |x| dot(row, x))).collect();
        for tier in Kernels::available() {
            let mut sums = vec![7; rows * tokens];
            (tier.screen_dots)(&codes, &x, len, &mut sums);
            assert_eq!(sums, exact, "{}, {len}, {rows} rows, {tokens} tokens", tier.name);
        }
    }
    // Every product as large as it can be.
    for tier in Kernels::available() {
        let mut sums = [0; 15];
        (tier.screen_dots)(&[-128; 3 * 16_384], &vec![-16_384; 5 * 16_384], 16_384, &mut sums);
        assert_eq!(sums, [1 << 35; 15], "{}", tier.name);
    }
}
