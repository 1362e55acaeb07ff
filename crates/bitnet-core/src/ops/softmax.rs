//! Softmax of a row.

use crate::math;

/// `y = exp(x - max(x)) / sum`. Both `[C]`, C > 0.
#[inline(always)]
pub fn reference(x: &[f32], y: &mut [f32]) {
    let max = row_max(x);
    for (y, x) in y.iter_mut().zip(x) {
        *y = math::exp(x - max);
    }
    let sum = math::sum16(y);
    for y in y {
        *y /= sum;
    }
}

/// `y = x - max(x) - ln sum`. Both `[C]`, C > 0.
#[inline(always)]
pub fn log_reference(x: &[f32], y: &mut [f32]) {
    let max = row_max(x);
    for (y, x) in y.iter_mut().zip(x) {
        *y = math::exp(x - max);
    }
    let shift = math::ln(math::sum16(y));
    for (y, x) in y.iter_mut().zip(x) {
        *y = (x - max) - shift;
    }
}

/// Largest value by lanes; the order cannot change it.
#[inline(always)]
pub(crate) fn row_max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; math::LANES];
    let (chunks, tail) = x.as_chunks::<{ math::LANES }>();
    for chunk in chunks {
        for i in 0..math::LANES {
            lanes[i] = math::max(lanes[i], chunk[i]);
        }
    }
    lanes.into_iter().chain(tail.iter().copied()).fold(f32::NEG_INFINITY, math::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_the_mass() {
        let mut y = [0.0; 4];
        reference(&[1e30; 4], &mut y);
        assert_eq!(y, [0.25; 4]);
    }

    #[test]
    fn minus_infinity_has_no_mass() {
        let mut y = [9.0; 20];
        let mut x = [f32::NEG_INFINITY; 20];
        (x[3], x[18]) = (5.0, 5.0);
        reference(&x, &mut y);
        assert_eq!((y[0], y[3], y[18]), (0.0, 0.5, 0.5));
    }
}
