//! Kernels that screen a matrix.

use super::{Random, check_rows, guarded};
use bitnet_core::cpu::kernels::Kernels;
use bitnet_core::ops::screen::{
    ArrangedTokens, put_row,
    q6_k::{BLOCK, SplitCodes},
};
use bitnet_core::ops::{LargestBounds, RowFigures, TokenFigures};
use bitnet_quant::Format;

/// Sums of rows and tokens of `width`: whole fours of rows, of which those that are missing are zero.
fn screen_dots(tier: &Kernels, rows: &[i8], x: &[i16], width: usize) -> Vec<i64> {
    let mut lacking = Vec::new();
    let tokens = x.chunks(width);
    let codes: Vec<i16> =
        tokens.flat_map(|x| guarded(width, -7, |to| lacking.push((tier.arrange_codes)(x, to)))).collect();
    let (fours, tokens) = (rows.len().div_ceil(4 * width), lacking.len());
    let mut by_fours = vec![0; fours * 4 * width];
    for (i, row) in rows.chunks(width).enumerate() {
        put_row(row, i % 4, &mut by_fours[i / 4 * 4 * width..][..4 * width]);
    }
    let x = ArrangedTokens { codes: &codes, lacking: &lacking };
    let mut sums = guarded(4 * fours * tokens, 7, |sums| (tier.screen_dots)(&by_fours, x, sums));
    assert!(sums.drain(rows.len() / width * tokens..).all(|sum| sum == 0), "{}", tier.name);
    sums
}

#[test]
fn rows_are_screened_the_same_on_every_tier() {
    check_rows("screen", |k, w, _| {
        let mut row = None;
        let codes = guarded(w.len().next_multiple_of(64), 99, |codes| row = Some((k.screen)(w, codes)));
        let row = row.unwrap();
        let figures = [row.scale, row.lost, row.length].map(f32::to_bits);
        codes.iter().map(|code| *code as u32).chain(figures).collect()
    });
    let mut random = Random(3);
    let far = 2 * 8192 + 64;
    for (len, rows, tokens) in [(64, 1, 1), (448, 2, 2), (576, 3, 3), (4096, 5, 9), (8192, 2, 1), (far, 4, 6)]
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
            assert_eq!(
                screen_dots(tier, &codes, &x, len),
                exact,
                "{}, {len}, {rows} rows, {tokens} tokens",
                tier.name
            );
        }
    }
    // Every product as large as it can be.
    for tier in Kernels::available() {
        let sums = screen_dots(tier, &[-128; 3 * 16_384], &[-16_384; 5 * 16_384], 16_384);
        assert_eq!(sums, [1 << 35; 15], "{}", tier.name);
        let sums = screen_dots(tier, &[127; 4 * 16_384], &[16_383; 16_384], 16_384);
        assert_eq!(sums, [127 * 16_383 * 16_384; 4], "{}", tier.name);
    }
}

#[test]
fn the_largest_bounds_are_the_same_on_every_tier() {
    let mut random = Random(11);
    for len in [1, 15, 16, 63, 64, 65, 200] {
        let mut float = || random.bits() as i32 as f32 * 1e-9;
        let mut guesses: Vec<f32> = (0..len).map(|_| float()).collect();
        let figures: Vec<RowFigures> =
            (0..len).map(|_| RowFigures { scale: 1.0, lost: float().abs(), length: float().abs() }).collect();
        let token = TokenFigures { length: 3.0, lost: 0.25, least: 1e-40 };
        for bad in [None, Some(f32::NAN), Some(f32::INFINITY), Some(f32::MAX)] {
            if let Some(bad) = bad {
                guesses[len / 2] = bad;
            }
            let bounds_of = |tier: &Kernels| {
                guarded(len.div_ceil(64), LargestBounds::default(), |bounds| {
                    (tier.largest_bounds)(&guesses, &figures, &token, bounds);
                })
            };
            let expected = bounds_of(&Kernels::SCALAR);
            assert_eq!(expected.iter().all(|bounds| bounds.finite), bad.is_none(), "{bad:?}");
            for tier in Kernels::available() {
                assert_eq!(bounds_of(tier), expected, "{}, {len} rows, {bad:?}", tier.name);
            }
        }
    }
}

/// Blocks with bytes of all kinds and f16 scales between 2^-14 and 2.
fn six_bit_rows(random: &mut Random, blocks: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..210 * blocks).map(|_| random.bits() as u8).collect();
    for block in bytes.chunks_mut(210) {
        block[209] = (block[209] % 60 + 4) | (block[209] & 0x80);
    }
    bytes
}

#[test]
fn rows_of_six_bits_are_multiplied_the_same_on_every_tier() {
    let mut random = Random(5);
    for (width, rows, tokens) in [(1, 1, 1), (1, 3, 2), (2, 2, 3), (3, 1, 5), (10, 4, 1), (11, 2, 4)] {
        let bytes = six_bit_rows(&mut random, rows * width);
        let x: Vec<i16> = (0..tokens * width * BLOCK).map(|_| random.bits() as i16 >> 2).collect();
        let codes = SplitCodes::split(&x);
        let run = |kernels: &Kernels| {
            guarded(rows * tokens, 7.5, |sums| (kernels.screen_dots_q6_k)(&bytes, &codes, width, sums))
        };
        let expected = run(&Kernels::SCALAR);
        for tier in Kernels::available() {
            let bits = |sums: &[f32]| sums.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&run(tier)), bits(&expected), "{}, {rows} x {tokens} x {width}", tier.name);
        }
        let mut values = vec![0f32; width * BLOCK];
        for (row, sums) in bytes.chunks(210 * width).zip(expected.chunks(tokens)) {
            Format::Q6K.dequantize_row(row, &mut values).unwrap();
            for (x, &sum) in x.chunks(width * BLOCK).zip(sums) {
                let products = values.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
                let (exact, size) = products.fold((0.0, 0.0), |(sum, size), y| (sum + y, size + y.abs()));
                assert!((f64::from(sum) - exact).abs() <= 1e-6 * size, "{sum}, not {exact}");
            }
        }
    }
}

#[test]
fn the_largest_products_of_six_bits_fit() {
    // Scales of -128, weights of -32, codes of -8191: the sum of each lane is -16 * 128 * 32 * 8191.
    let mut block = [0u8; 210];
    block[192..208].fill(0x80);
    block[209] = 0x3c;
    let codes = SplitCodes::split(&[-8191; BLOCK]);
    for tier in Kernels::available() {
        let mut sum = [0.0];
        (tier.screen_dots_q6_k)(&block, &codes, 1, &mut sum);
        assert_eq!(f64::from(sum[0]), -256.0 * 128.0 * 32.0 * 8191.0, "{}", tier.name);
    }
}
