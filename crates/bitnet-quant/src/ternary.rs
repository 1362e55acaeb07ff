//! Absmean ternarization: the only place where the rounding of weights is defined.
//!
//! `S = 1 / max(mean|w|, 1e-5)`, `code = clamp(rne(w * S), -1, 1)`, `scale = 1 / S`, all in f32, as `WeightQuant` of
//! transformers' `integrations/bitnet.py` (BitNet b1.58, arXiv:2402.17764).

/// Smallest mean, so that a matrix of zeros has a finite factor.
const MIN_ABSMEAN: f32 = 1e-5;

/// Mean of the magnitudes, rounded to f32 once. torch adds in f32 and may be one unit in the last place away.
pub fn absmean(w: &[f32]) -> f32 {
    let sum: f64 = w.iter().map(|x| f64::from(x.abs())).sum();
    (sum / w.len().max(1) as f64) as f32
}

/// Writes the codes of `w` and returns the scale that multiplies them.
///
/// # Panics
/// Where `codes` is shorter than `w`.
pub fn ternarize(w: &[f32], codes: &mut [i8]) -> f32 {
    assert!(codes.len() >= w.len(), "{} codes for {} weights", codes.len(), w.len());
    let factor = 1.0 / absmean(w).max(MIN_ABSMEAN);
    for (code, w) in codes.iter_mut().zip(w) {
        *code = (w * factor).round_ties_even().clamp(-1.0, 1.0) as i8;
    }
    1.0 / factor
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
    fn zeros_stay_zero() {
        let mut codes = [9i8; 3];
        let scale = ternarize(&[0.0, -0.0, 1e-34], &mut codes);
        assert!((scale - 1e-5).abs() < 1e-11);
        assert_eq!(codes, [0; 3]);
    }
}
