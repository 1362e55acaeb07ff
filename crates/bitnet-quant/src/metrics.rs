//! What quantization does to a matrix.

/// Mean squared difference.
pub fn mse(x: &[f32], y: &[f32]) -> f64 {
    let sum: f64 = x.iter().zip(y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    sum / x.len().max(1) as f64
}

/// Signal to quantization noise in decibels; infinite where `y` equals `x`.
pub fn sqnr(x: &[f32], y: &[f32]) -> f64 {
    let signal: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len().max(1) as f64;
    10.0 * (signal / mse(x, y)).log10()
}

/// Cosine of the angle between two vectors; 0 where one of them is zero.
pub fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let scale = (dot(x, x) * dot(y, y)).sqrt();
    if scale > 0.0 { dot(x, y) / scale } else { 0.0 }
}

/// How many codes are -1, 0 and +1.
pub fn histogram(codes: &[i8]) -> [usize; 3] {
    let mut counts = [0; 3];
    for &code in codes {
        counts[(code + 1) as usize] += 1;
    }
    counts
}

/// Share of codes that are not zero.
pub fn density(codes: &[i8]) -> f64 {
    let [negative, _, positive] = histogram(codes);
    (negative + positive) as f64 / codes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_a_tenth_is_twenty_decibels() {
        assert!((sqnr(&[1.0, -1.0], &[1.1, -0.9]) - 20.0).abs() < 1e-5);
        assert_eq!(mse(&[1.0, 2.0], &[1.0, 4.0]), 2.0);
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn density_counts_what_is_not_zero() {
        assert_eq!(histogram(&[1, 0, -1, 0]), [1, 2, 1]);
        assert_eq!(density(&[1, 0, -1, 0]), 0.5);
    }
}
