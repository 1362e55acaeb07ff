//! The float arithmetic that every tier shares: fixed-order sums, `exp` and half-precision conversion.
//!
//! Everything is plain IEEE multiplication, addition and integer work without branches, so that recompiling these
//! functions for a wider instruction set changes their speed and never their bits.

/// Accumulators of a float reduction: element `i` is added to lane `i % LANES`, in order.
pub const LANES: usize = 16;

/// Sum of the lanes as a fixed tree: lane `i` takes `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
#[inline(always)]
pub fn tree_sum(lanes: &[f32; LANES]) -> f32 {
    let mut eight = [0.0; 8];
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    let mut four = [0.0; 4];
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `lanes[i % 16] += f(i)` for the elements of two rows of one length.
#[inline(always)]
fn accumulate(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, a_tail) = a.as_chunks::<LANES>();
    let (b, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_tail).zip(b_tail) {
        *lane += f(a, b);
    }
    tree_sum(&lanes)
}

/// Dot product of two rows.
#[inline(always)]
pub fn dot16(a: &[f32], b: &[f32]) -> f32 {
    accumulate(a, b, |a, b| a * b)
}

/// Sum of a row.
#[inline(always)]
pub fn sum16(a: &[f32]) -> f32 {
    accumulate(a, a, |a, _| a)
}

/// The larger value; `a` where they compare equal or `b` is NaN.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Adding and subtracting this rounds |x| < 2²² to an integer, half to even; its low bits then hold the integer.
const ROUND: f32 = 12_582_912.0;

/// Nearest integer of |x| < 2²², half to even, as float and as integer.
#[inline(always)]
pub fn round(x: f32) -> (f32, i32) {
    let shifted = x + ROUND;
    (shifted - ROUND, shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn exp2_int(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^x within 2 units in the last place over the whole range; `exp(-inf)` is 0, `exp(NaN)` is NaN.
///
/// Range reduction by a two-part ln 2 and the degree-5 polynomial of Cephes' `expf` (S. Moshier).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these the result is 0 or infinite anyway; the comparisons let NaN through.
    let x = if x < -105.0 { -105.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (n, integer) = round(x * std::f32::consts::LOG2_E);
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let y = (p * (r * r) + r) + 1.0;
    // In two steps, because 2^n alone leaves the normal range at both ends.
    let half = integer >> 1;
    y * exp2_int(half) * exp2_int(integer.wrapping_sub(half))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Value of half-precision bits.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    // The exponents differ by 112; a multiplication also normalises denormals.
    let value = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(value.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// Half-precision bits of the nearest value, half to even; too large becomes infinite.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_add(0xc800_0fff).wrapping_add(odd) >> 13;
    // 0.5 has the unit in the last place of a half-precision denormal: the addition rounds.
    let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let special = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    let finite = if magnitude < 0x3880_0000 { denormal } else { normal };
    let half = if magnitude >= 0x4780_0000 { special } else { finite };
    (half | (bits >> 16) & 0x8000) as u16
}

/// Value of bfloat16 bits.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of the exact result.
    fn ulps(got: f32, exact: f64) -> f64 {
        let unit = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
        (f64::from(got) - exact).abs() / unit
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst: f64 = 0.0;
        for bits in (0..=88.72f32.to_bits()).step_by(641) {
            let x = f32::from_bits(bits);
            worst = worst.max(ulps(exp(x), libm::exp(f64::from(x))));
        }
        for bits in ((-0.0f32).to_bits()..=(-104.5f32).to_bits()).step_by(641) {
            let x = f32::from_bits(bits);
            worst = worst.max(ulps(exp(x), libm::exp(f64::from(x))));
        }
        assert!(worst <= 2.0, "{worst} ulp");
    }

    #[test]
    fn exp_of_the_ends_is_exact() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(-1e30).to_bits(), 0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn silu_is_x_times_sigmoid() {
        for x in [-90.0f32, -3.0, -0.5, 0.0, 0.5, 3.0, 90.0] {
            let exact = f64::from(x) / (1.0 + libm::exp(-f64::from(x)));
            assert!((f64::from(silu(x)) - exact).abs() <= 3e-7 * exact.abs().max(1e-30));
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + libm::exp(-f64::from(x)))).abs() < 2e-7);
        }
    }

    #[test]
    fn half_precision_agrees_with_the_half_crate_on_all_bits() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32_const());
            assert!(
                ours == theirs && ours.is_sign_positive() == theirs.is_sign_positive()
                    || ours.is_nan() && theirs.is_nan()
            );
        }
        for bits in
            (0..=u32::MAX).step_by(9973).chain(0x3300_0000..0x3300_2000).chain(0x477f_e000..0x4780_0010)
        {
            let x = f32::from_bits(bits);
            let (ours, theirs) = (f32_to_f16(x), half::f16::from_f32_const(x));
            assert!(
                ours == theirs.to_bits() || theirs.is_nan() && half::f16::from_bits(ours).is_nan(),
                "{x:e}"
            );
        }
    }

    #[test]
    fn sums_go_by_lanes_and_tree() {
        let mut x = vec![0.0f32; 33];
        // Lanes 0 and 8 meet first: the large values cancel before the small one joins.
        (x[0], x[8], x[1], x[32]) = (1e8, -1e8, 1.0, 0.5);
        assert_eq!(sum16(&x), 1.0);
        (x[32], x[2]) = (0.0, 0.5);
        assert_eq!(sum16(&x), 1.5);
        assert_eq!(dot16(&[2.0; 17], &[3.0; 17]), 102.0);
        assert_eq!(dot16(&[], &[]), 0.0);
    }

    #[test]
    fn rounding_is_half_to_even() {
        for (x, n) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-1.5, -2), (2.5, 2), (127.49, 127), (-127.5, -128)] {
            assert_eq!(round(x), (n as f32, n));
        }
    }
}
