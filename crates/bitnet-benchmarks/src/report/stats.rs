//! Robust statistics of samples.

/// A normal distribution has a standard deviation of this many median absolute deviations.
const DEVIATIONS: f64 = 1.4826;

/// The value below which the share `q` of `sorted` lies, between two neighbours in proportion; NaN where there is none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// A sorted copy.
pub fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value in the middle; NaN where there is none.
pub fn median(samples: &[f64]) -> f64 {
    quantile(&sorted(samples), 0.5)
}

/// Median of the distances to the median.
pub fn mad(samples: &[f64]) -> f64 {
    let center = median(samples);
    median(&samples.iter().map(|x| (x - center).abs()).collect::<Vec<_>>())
}

/// Standard deviation as far as the median absolute deviation tells it: a few wild samples do not count.
pub fn noise(samples: &[f64]) -> f64 {
    DEVIATIONS * mad(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 3.0], 0.25), 1.5);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn one_wild_sample_makes_no_noise() {
        assert_eq!(median(&[9.0, 11.0, 10.0, 10.0, 1e6]), 10.0);
        assert_eq!(mad(&[9.0, 11.0, 10.0, 10.0, 1e6]), 1.0);
        assert_eq!(noise(&[10.0, 10.0, 10.0, 1e6]), 0.0);
    }
}
