//! Absmax int8 quantization of activations, per token: `s = 1 / max(|x|, 1e-5) * 127`, `code = clamp(rne(x * s), -128, 127)`, all
//! in f32, as `ActQuant` of transformers' `integrations/bitnet.py`: torch rounds the reciprocal of `127 / tensor` first.

/// Smallest absmax, so that a row of zeros has a finite factor.
const MIN_ABSMAX: f32 = 1e-5;

/// Writes the codes of a row and returns the factor that it was multiplied by.
///
/// # Panics
/// Where `codes` is shorter than `x`.
pub fn quantize(x: &[f32], codes: &mut [i8]) -> f32 {
    assert!(codes.len() >= x.len(), "{} codes for {} values", codes.len(), x.len());
    let absmax = x.iter().fold(0f32, |max, x| max.max(x.abs()));
    let factor = 1.0 / absmax.max(MIN_ABSMAX) * 127.0;
    for (code, x) in codes.iter_mut().zip(x) {
        *code = (x * factor).round_ties_even().clamp(-128.0, 127.0) as i8;
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_becomes_127_and_ties_go_to_even() {
        let mut codes = [9i8; 5];
        assert_eq!(quantize(&[-127.0, 0.5, 1.5, 2.5, -0.5], &mut codes), 1.0);
        assert_eq!(codes, [-127, 0, 2, 2, 0]);
    }

    #[test]
    fn a_row_of_zeros_has_a_finite_factor() {
        let mut codes = [9i8; 2];
        assert_eq!(quantize(&[0.0, -0.0], &mut codes), 1.0 / 1e-5 * 127.0);
        assert_eq!(codes, [0; 2]);
    }
}
