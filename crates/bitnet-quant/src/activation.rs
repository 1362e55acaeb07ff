//! Absmax int8 quantization of activations, per token: the only place where their rounding is defined.
//!
//! `s = 1 / max(|x|, 1e-5) * 127`, `code = clamp(rne(x * s), -128, 127)`, all in f32, as `ActQuant` of transformers'
//! `integrations/bitnet.py`: torch rounds the reciprocal of `127 / tensor` first.

/// Smallest absmax of a row, so that a row of zeros has a finite scale.
const MIN_ABSMAX: f32 = 1e-5;
/// Adding this rounds |x| < 2²² to an integer, half to even, which its low bits then hold.
const ROUND: f32 = 12_582_912.0;

/// What the codes of a row mean together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowCodes {
    /// Factor 127/absmax that the row was multiplied by. NaN where the row holds a NaN.
    pub scale: f32,
    /// Sum of the codes.
    pub sum: i32,
}

/// Quantizes a row. `x: [C]`, `codes: [C']` with `C' >= C`; the codes behind the row become 0.
///
/// Plain IEEE arithmetic and integer work, without branches in the loops, to be compiled again for every instruction set.
///
/// # Panics
/// Where `codes` is shorter than `x`.
#[inline(always)]
pub fn quantize(x: &[f32], codes: &mut [i8]) -> RowCodes {
    let scale = scale(x);
    let (codes, padding) = codes.split_at_mut(x.len());
    padding.fill(0);
    if !has_codes(scale) {
        codes.fill(0);
        return RowCodes { scale, sum: 0 };
    }
    let mut sum = 0;
    for (code, x) in codes.iter_mut().zip(x) {
        let n = nearest(x * scale);
        *code = n as i8;
        sum += n;
    }
    RowCodes { scale, sum }
}

/// As [`quantize`] of the row `x * factor * weight`, each product rounded, without writing it down. `x, weight: [C]`, `codes: [C']`.
///
/// # Panics
/// Where `codes` or `weight` is shorter than `x`.
#[inline(always)]
pub fn quantize_scaled(x: &[f32], factor: f32, weight: &[f32], codes: &mut [i8]) -> RowCodes {
    let weight = &weight[..x.len()];
    let mut absmax = 0;
    for (x, w) in x.iter().zip(weight) {
        absmax = magnitude(x * factor * w).max(absmax);
    }
    let scale = scale_of(absmax);
    let (codes, padding) = codes.split_at_mut(x.len());
    padding.fill(0);
    if !has_codes(scale) {
        codes.fill(0);
        return RowCodes { scale, sum: 0 };
    }
    let mut sum = 0;
    for ((code, x), w) in codes.iter_mut().zip(x).zip(weight) {
        let n = nearest(x * factor * w * scale);
        *code = n as i8;
        sum += n;
    }
    RowCodes { scale, sum }
}

/// Factor 127/absmax of a row.
#[inline(always)]
fn scale(x: &[f32]) -> f32 {
    scale_of(x.iter().fold(0, |max, x| magnitude(*x).max(max)))
}

/// Bits of |x|. As integers the magnitudes keep their order and NaN is the largest: it reaches the scale and so the output.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Factor 127/absmax, given the bits of absmax.
#[inline(always)]
fn scale_of(absmax: u32) -> f32 {
    let absmax = f32::from_bits(absmax);
    (1.0 / if absmax < MIN_ABSMAX { MIN_ABSMAX } else { absmax }) * 127.0
}

/// Whether no entry of the row is infinite or NaN. The codes of one with such an entry are 0: `x * scale` is 0 or NaN.
#[inline(always)]
fn has_codes(scale: f32) -> bool {
    scale > 0.0
}

/// Writes what the codes of a row mean, `y = code / scale`, which training computes with. Both `[C]`.
#[inline(always)]
pub fn fake_quantize(x: &[f32], y: &mut [f32]) {
    let scale = scale(x);
    if !has_codes(scale) {
        return y.fill(0.0 / scale);
    }
    for (y, x) in y.iter_mut().zip(x) {
        *y = nearest(x * scale) as f32 / scale;
    }
}

/// Nearest integer, half to even, of an entry times the scale of its row: at most 127 but for rounding.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_becomes_127_and_ties_go_to_even() {
        let mut codes = [1i8; 8];
        let row = quantize(&[-127.0, 0.5, 1.5, 2.5, -0.5, -1.5], &mut codes);
        assert_eq!(codes, [-127, 0, 2, 2, 0, -2, 0, 0]);
        assert_eq!(row, RowCodes { scale: 1.0, sum: -125 });
    }

    #[test]
    fn a_row_of_zeros_has_a_finite_scale() {
        let mut codes = [1i8; 4];
        assert_eq!(quantize(&[0.0, -0.0], &mut codes), RowCodes { scale: 1.0 / 1e-5 * 127.0, sum: 0 });
        assert_eq!(codes, [0; 4]);
    }

    #[test]
    fn training_computes_with_what_the_codes_mean() {
        let x: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin()).collect();
        let (mut codes, mut y) = ([0i8; 100], [0f32; 100]);
        let row = quantize(&x, &mut codes);
        fake_quantize(&x, &mut y);
        assert!(codes.iter().zip(&y).all(|(&code, &y)| f32::from(code) / row.scale == y));
        fake_quantize(&[1.0, f32::NAN], &mut y[..2]);
        assert!(y[0].is_nan());
    }

    #[test]
    fn a_row_is_scaled_as_if_it_were_written_down() {
        let x: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
        let weight: Vec<f32> = (0..100).map(|i| (i as f32 * 1.7).cos()).collect();
        for factor in [0.3, 1e-42, f32::INFINITY, f32::NAN] {
            let scaled: Vec<f32> = x.iter().zip(&weight).map(|(x, w)| x * factor * w).collect();
            let (mut expected, mut got) = ([1i8; 128], [2i8; 128]);
            let rows = [quantize(&scaled, &mut expected), quantize_scaled(&x, factor, &weight, &mut got)];
            assert_eq!(got, expected);
            assert_eq!(
                rows[0].scale.to_bits() << 1,
                rows[1].scale.to_bits() << 1,
                "but for the sign of a NaN"
            );
            assert_eq!(rows[0].sum, rows[1].sum);
        }
    }

    #[test]
    fn a_nan_reaches_the_scale() {
        let mut codes = [1i8; 3];
        assert!(quantize(&[1.0, f32::NAN, 2.0], &mut codes).scale.is_nan());
        assert_eq!(codes, [0; 3]);
    }

    #[test]
    fn the_largest_numbers_have_codes_and_infinity_has_none() {
        let mut codes = [1i8; 3];
        quantize(&[f32::MAX, -f32::MAX, 1.0], &mut codes);
        assert_eq!(codes, [127, -127, 0]);
        assert_eq!(quantize(&[f32::INFINITY, 2.0, f32::MAX], &mut codes), RowCodes { scale: 0.0, sum: 0 });
        assert_eq!(codes, [0; 3]);
    }
}
