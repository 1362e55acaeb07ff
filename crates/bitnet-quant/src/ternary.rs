//! Absmean ternarization: the only place where the rounding of weights is defined.
//!
//! `S = 1 / max(mean|w|, 1e-5)`, `code = clamp(rne(w * S), -1, 1)`, `scale = 1 / S`, all in f32, as `WeightQuant` of
//! transformers' `integrations/bitnet.py` (BitNet b1.58, arXiv:2402.17764).

/// Smallest mean, so that a matrix of zeros has a finite factor.
const MIN_ABSMEAN: f32 = 1e-5;
/// Adding and subtracting this rounds |x| < 2²² to an integer, half to even.
const ROUND: f32 = 12_582_912.0;

/// Weights whose magnitudes are added at a time: what threads share, and what a sum depends on.
pub const BLOCK: usize = 4096;
/// Sums that a block is added up in.
const LANES: usize = 16;

/// Sum of the magnitudes of at most [`BLOCK`] weights: element `i` is added to lane `i % 16`, then the lanes in order.
///
/// Plain arithmetic without branches, to be compiled again for every instruction set.
#[inline(always)]
pub fn sum_of_magnitudes(w: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let (chunks, tail) = w.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, w) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(w.abs());
        }
    }
    for (lane, w) in lanes.iter_mut().zip(tail) {
        *lane += f64::from(w.abs());
    }
    lanes.iter().sum()
}

/// Mean of `n` magnitudes, given the sums of their blocks in order; rounded to f32 once. torch adds in f32 and may be one unit in the last
/// place away.
pub fn mean_of_sums(sums: impl IntoIterator<Item = f64>, n: usize) -> f32 {
    (sums.into_iter().sum::<f64>() / n.max(1) as f64) as f32
}

/// Mean of the magnitudes.
pub fn absmean(w: &[f32]) -> f32 {
    mean_of_sums(w.chunks(BLOCK).map(sum_of_magnitudes), w.len())
}

/// What weights of this mean magnitude are multiplied by before they are rounded; its reciprocal is the scale.
#[inline(always)]
pub fn factor(absmean: f32) -> f32 {
    1.0 / if absmean < MIN_ABSMEAN { MIN_ABSMEAN } else { absmean }
}

/// The code of a weight as a float: nearest integer, half to even, in -1..=1; NaN stays NaN.
#[inline(always)]
fn nearest(w: f32, factor: f32) -> f32 {
    let x = w * factor;
    let x = if x < -1.0 { -1.0 } else { x };
    let x = if x > 1.0 { 1.0 } else { x };
    (x + ROUND) - ROUND
}

/// Writes the codes of `w` and returns the scale that multiplies them.
///
/// # Panics
/// Where `codes` is shorter than `w`.
pub fn ternarize(w: &[f32], codes: &mut [i8]) -> f32 {
    assert!(codes.len() >= w.len(), "{} codes for {} weights", codes.len(), w.len());
    let factor = factor(absmean(w));
    for (code, w) in codes.iter_mut().zip(w) {
        // Its sign, which vectors are made of, unlike a conversion of floats; that of NaN is 0.
        let nearest = nearest(*w, factor);
        *code = i8::from(nearest > 0.0) - i8::from(nearest < 0.0);
    }
    1.0 / factor
}

/// Writes what the codes of `w` mean, `y = code * scale`, which training computes with. Both of one length.
///
/// Plain arithmetic without branches, to be compiled again for every instruction set.
#[inline(always)]
pub fn fake_ternarize(w: &[f32], factor: f32, y: &mut [f32]) {
    let scale = 1.0 / factor;
    for (y, w) in y.iter_mut().zip(w) {
        *y = nearest(*w, factor) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_and_large_weights_are_clamped() {
        // Mean 1, so the factor is 1.
        let w = [0.5, -0.5, 1.5, -1.5, 1.0, 0.0, 2.0, -1.0];
        let mut codes = [9i8; 8];
        assert_eq!(ternarize(&w, &mut codes), 1.0);
        assert_eq!(codes, [0, 0, 1, -1, 1, 0, 1, -1]);
    }

    #[test]
    fn training_computes_with_what_the_codes_mean() {
        let w: Vec<f32> = (0..10_000).map(|i| (i as f32 * 0.37).sin()).collect();
        let (mut codes, mut y) = (vec![0i8; w.len()], vec![0f32; w.len()]);
        let scale = ternarize(&w, &mut codes);
        fake_ternarize(&w, factor(absmean(&w)), &mut y);
        assert!(codes.iter().zip(&y).all(|(&code, &y)| f32::from(code) * scale == y));
    }

    #[test]
    fn what_is_not_finite_has_the_code_of_zero() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut codes = [9i8; 20];
            let mut w = [2.0; 20];
            w[3] = wrong;
            ternarize(&w, &mut codes);
            assert_eq!(codes, [0; 20], "{wrong}");
        }
    }

    #[test]
    fn zeros_stay_zero() {
        let mut codes = [9i8; 3];
        let scale = ternarize(&[0.0, -0.0, 1e-34], &mut codes);
        assert!((scale - 1e-5).abs() < 1e-11);
        assert_eq!(codes, [0; 3]);
    }
}
