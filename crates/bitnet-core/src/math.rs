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

/// `a` or `b`, both of which are computed: a choice by bits keeps a loop free of branches, so that it can be vectorised.
#[inline(always)]
fn choose(first: bool, a: f32, b: f32) -> f32 {
    let mask = u32::from(first).wrapping_neg();
    f32::from_bits(a.to_bits() & mask | b.to_bits() & !mask)
}

/// Adding and subtracting this rounds |x| < 2²² to an integer, half to even; its low bits then hold the integer.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Nearest integer of |x| < 2²², half to even, as float and as integer.
#[inline(always)]
pub fn round(x: f32) -> (f32, i32) {
    let shifted = x + ROUND;
    (shifted - ROUND, shifted_integer(shifted))
}

/// The integer in the low bits of a float that [`ROUND`] was added to.
#[inline(always)]
pub(crate) fn shifted_integer(shifted: f32) -> i32 {
    shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn exp2_int(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// Where e^x is 0 or infinite anyway.
pub(crate) const EXP_ENDS: [f32; 2] = [-105.0, 89.0];
/// ln 2 as the sum of a short and a small number.
pub(crate) const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Coefficients of e^x = 1 + x + x² p(x), from the highest power down.
pub(crate) const EXP_COEFFICIENTS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// e^x within 2 units in the last place over the whole range; `exp(-inf)` is 0, `exp(NaN)` is NaN.
///
/// Range reduction by a two-part ln 2 and the degree-5 polynomial of Cephes' `expf` (S. Moshier).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let [least, most] = EXP_ENDS;
    // The comparisons let NaN through.
    let x = if x < least { least } else { x };
    let x = if x > most { most } else { x };
    let (n, integer) = round(x * std::f32::consts::LOG2_E);
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let [mut p, rest @ ..] = EXP_COEFFICIENTS;
    for c in rest {
        p = p * r + c;
    }
    let y = (p * (r * r) + r) + 1.0;
    let [first, second] = powers_of_two(integer);
    y * first * second
}

/// Two powers of two with the product `2^n`, because `2^n` alone leaves the normal range at both ends.
#[inline(always)]
pub(crate) fn powers_of_two(n: i32) -> [f32; 2] {
    let half = n >> 1;
    [exp2_int(half), exp2_int(n.wrapping_sub(half))]
}

/// Natural logarithm within 2 units in the last place; NaN below zero, minus infinity at zero.
///
/// Polynomial and two-part ln 2 of Cephes' `logf` (S. Moshier).
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // A denormal has no exponent of its own.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // Exponent and mantissa such that the mantissa lies between sqrt(1/2) and sqrt(2).
    let biased = bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32;
    let exponent = (biased >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let mantissa = f32::from_bits(bits.wrapping_sub((biased & !0x007f_ffff) as u32));
    let r = mantissa - 1.0;
    let mut p = 7.037_683_6e-2;
    for c in [
        -1.151_461e-1,
        1.167_699_84e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p * r + c;
    }
    let square = r * r;
    let y = p * r * square + exponent * -2.121_944_4e-4 - 0.5 * square;
    let y = r + y + exponent * 0.693_359_4;
    let y = choose(x == f32::INFINITY, x, y);
    let y = choose(x == 0.0, f32::NEG_INFINITY, y);
    // Also for NaN, which compares with nothing.
    choose(x >= 0.0, y, f32::NAN)
}

/// ln(1 + x) without loss near zero.
///
/// W. Kahan's correction of the rounding of `1 + x`.
#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    let one_plus = 1.0 + x;
    let y = ln(one_plus) * (x / (one_plus - 1.0));
    let y = choose(one_plus == f32::INFINITY, one_plus, y);
    choose(one_plus == 1.0, x, y)
}

/// e^x - 1 without loss near zero.
///
/// The odd-even polynomial of `exp` below ln 2 / 2, and `exp` above, where the subtraction loses at most a bit.
#[inline(always)]
pub fn exp_m1(x: f32) -> f32 {
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * x + c;
    }
    let small = p * (x * x) + x;
    choose(x.abs() < 0.346_573_6, small, exp(x) - 1.0)
}

/// Hyperbolic tangent within 3 units in the last place.
///
/// Cephes' `tanhf` (S. Moshier): a polynomial below 0.625, `exp` above.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = x * x;
    let mut p = -5.704_988_7e-3;
    for c in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = p * square + c;
    }
    let small = p * square * x + x;
    let magnitude = x.abs();
    let large = 1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0);
    choose(magnitude < 0.625, small, large.copysign(x))
}

/// Error function within 3 units in the last place.
///
/// The polynomial and the exponential of a polynomial that N. Juffa published for single precision (2018).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let (t, square) = (x.abs(), x * x);
    let mut small = -5.967_617e-4;
    for c in [4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_3e-1, 1.283_791_7e-1] {
        small = small * square + c;
    }
    let small = small * x + x;
    let mut r = (-1.728_534_7e-5 * t + 3.831_971_3e-4) * square + (-3.883_964_4e-3 * t + 2.425_462_2e-2);
    for c in [-1.067_778_8e-1, -6.348_467e-1, -1.287_175_2e-1] {
        r = r * t + c;
    }
    let large = (1.0 - exp(r * t - t)).copysign(x);
    choose(t <= 0.927_734_4, small, large)
}

/// ln(1 + e^x) without overflow.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    let y = positive + ln_1p(exp(-x.abs()));
    choose(x.is_nan(), x, y)
}

/// `x Φ(x)` with the distribution function of the normal distribution.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// [`gelu`] by a hyperbolic tangent (Hendrycks and Gimpel, arXiv:1606.08415).
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)))
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

/// Value of half-precision bits; a NaN keeps its payload and becomes quiet.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    // The exponents differ by 112; a multiplication also normalises denormals.
    let value = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    let special = if magnitude > 0x7c00 { 0x7fc0_0000 } else { 0x7f80_0000 };
    let special = if magnitude >= 0x7c00 { special } else { 0 };
    f32::from_bits(value.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// Half-precision bits of the nearest value, half to even; too large becomes infinite. A NaN keeps the upper bits of its payload and becomes
/// quiet.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_add(0xc800_0fff).wrapping_add(odd) >> 13;
    // 0.5 has the unit in the last place of a half-precision denormal: the addition rounds.
    let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let special = if magnitude > 0x7f80_0000 { 0x7e00 | (magnitude >> 13) & 0x1ff } else { 0x7c00 };
    let finite = if magnitude < 0x3880_0000 { denormal } else { normal };
    let half = if magnitude >= 0x4780_0000 { special } else { finite };
    (half | (bits >> 16) & 0x8000) as u16
}

/// Value of bfloat16 bits.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Bfloat16 bits of the nearest value, half to even. A NaN keeps the upper bits of its payload and becomes quiet.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    ((if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded }) >> 16) as u16
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

    /// Largest distance over `inputs`, in units of the last place of the larger of the exact result and `floor`.
    fn worst(inputs: &[f32], floor: f64, f: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let error = |&x: &f32| {
            let wanted = exact(f64::from(x));
            let scale = wanted.abs().max(floor) as f32;
            let unit = f64::from(f32::from_bits(scale.to_bits() + 1)) - f64::from(scale);
            (f64::from(f(x)) - wanted).abs() / unit
        };
        inputs.iter().map(error).fold(0.0, f64::max)
    }

    /// Numbers of both signs between two magnitudes, evenly spread over their bits.
    fn spread(low: f32, high: f32) -> Vec<f32> {
        let bits = (low.to_bits()..=high.to_bits()).step_by(997);
        bits.map(f32::from_bits).flat_map(|x| [x, -x]).collect()
    }

    #[test]
    fn elementary_functions_are_within_their_stated_errors() {
        let positive: Vec<f32> = spread(1e-44, f32::MAX).into_iter().filter(|x| *x > 0.0).collect();
        assert!(worst(&positive, 0.0, ln, libm::log) <= 2.0);
        let above: Vec<f32> = spread(1e-30, 1e30).into_iter().filter(|x| *x > -1.0).collect();
        assert!(worst(&above, 0.0, ln_1p, libm::log1p) <= 4.0);
        assert!(worst(&spread(1e-30, 80.0), 0.0, exp_m1, libm::expm1) <= 4.0);
        assert!(worst(&spread(1e-30, 20.0), 0.0, tanh, libm::tanh) <= 3.0);
        assert!(worst(&spread(1e-30, 20.0), 0.0, erf, libm::erf) <= 3.0);
        assert!(worst(&spread(1e-30, 80.0), 1e-30, softplus, |x| libm::log1p(libm::exp(x))) <= 4.0);
    }

    #[test]
    fn elementary_functions_keep_the_special_values() {
        assert_eq!((ln(0.0), ln(f32::INFINITY), ln(1.0)), (f32::NEG_INFINITY, f32::INFINITY, 0.0));
        assert!(ln(-1.0).is_nan() && ln(f32::NAN).is_nan() && ln(f32::NEG_INFINITY).is_nan());
        assert_eq!((ln_1p(-1.0), ln_1p(f32::INFINITY)), (f32::NEG_INFINITY, f32::INFINITY));
        assert_eq!((exp_m1(f32::NEG_INFINITY), exp_m1(f32::INFINITY)), (-1.0, f32::INFINITY));
        for f in [tanh, erf] {
            assert_eq!((f(f32::INFINITY), f(f32::NEG_INFINITY), f(0.0)), (1.0, -1.0, 0.0));
        }
        assert_eq!((softplus(f32::NEG_INFINITY), softplus(f32::INFINITY)), (0.0, f32::INFINITY));
        for f in [ln_1p, exp_m1, tanh, erf, softplus, gelu, gelu_tanh] {
            assert!(f(f32::NAN).is_nan());
        }
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
    fn sixteen_bits_agree_with_the_half_crate_on_all_bits() {
        for bits in 0..=u16::MAX {
            let half = half::f16::from_bits(bits).to_f32_const();
            assert_eq!(f16_to_f32(bits).to_bits(), half.to_bits(), "{bits:x}");
        }
        let borders =
            (0x3300_0000..0x3300_2000).chain(0x477f_e000..0x4780_0010).chain(0x7f80_0000..0x7f80_0100);
        for bits in (0..=u32::MAX).step_by(9973).chain(borders) {
            let x = f32::from_bits(bits);
            assert_eq!(f32_to_f16(x), half::f16::from_f32_const(x).to_bits(), "{bits:x}");
            assert_eq!(f32_to_bf16(x), half::bf16::from_f32_const(x).to_bits(), "{bits:x}");
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
