//! What the choice of digits has to know of a float type.

use half::f16;

/// A float that NumPy prints.
pub(super) trait Float: Copy + Into<f64> {
    /// Numbers from here on are written with exponents: ten to the decimal digits that the type holds.
    const LARGE: f64;

    /// Non-zero numbers below are written with exponents: 0.0001 in the precision of the type.
    fn small() -> f64;

    /// A quotient, rounded as the type rounds.
    fn ratio(self, other: Self) -> f64;

    /// The fewest digits that tell a number from its neighbours, as `1.5e7`.
    fn shortest(self) -> String;
}

impl Float for f32 {
    const LARGE: f64 = 1e6;

    fn small() -> f64 {
        f64::from(1e-4f32)
    }

    fn ratio(self, other: Self) -> f64 {
        f64::from(self / other)
    }

    fn shortest(self) -> String {
        format!("{self:e}")
    }
}

impl Float for f16 {
    const LARGE: f64 = 1e3;

    fn small() -> f64 {
        Self::from_f64(1e-4).to_f64()
    }

    fn ratio(self, other: Self) -> f64 {
        Self::from_f32(self.to_f32() / other.to_f32()).to_f64()
    }

    /// Five digits always tell halves apart. Below a power of two the neighbour is nearer than above, so that a number that is
    /// rounded up may be the same half where the nearest one is not.
    fn shortest(self) -> String {
        let exact = self.to_f64();
        let candidates = |digits| {
            let near = format!("{exact:.digits$e}");
            let exponent = near.split_once('e').map_or("0", |(_, exponent)| exponent);
            let unit = format!("1e{exponent}").parse().unwrap_or(0.0) / 10f64.powi(digits as i32);
            let rounded: f64 = near.parse().unwrap_or(exact);
            [near, format!("{:.digits$e}", rounded + unit.copysign(exact))]
        };
        let same = |text: &String| text.parse().is_ok_and(|x| Self::from_f64(x) == self);
        (0..4).flat_map(candidates).find(same).unwrap_or_else(|| format!("{exact:.4e}"))
    }
}
