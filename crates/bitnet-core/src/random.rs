//! Random numbers: a fixed generator, so that a seed means the same text and the same tensors everywhere.

/// xoshiro256++ 1.0, its state filled from a 64-bit seed by SplitMix64 (Blackman and Vigna,
/// <https://prng.di.unimi.it>).
///
/// Every sequence of an engine has its own, so that its draws do not depend on the company in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number in `[0, 1)`: the upper 53 bits of [`next_u64`](Self::next_u64) times 2⁻⁵³.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number in `[0, 1)`: the upper 24 bits of [`next_u64`](Self::next_u64) times 2⁻²⁴.
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Two independent normally distributed numbers: `r cos φ` and `r sin φ` with `r = sqrt(-2 ln(1 - u))` and `φ = 2π v` of two
    /// draws of [`next_f64`](Self::next_f64) (Box and Muller, 1958).
    pub fn next_normals(&mut self) -> [f64; 2] {
        let radius = (-2.0 * libm::log(1.0 - self.next_f64())).sqrt();
        let angle = std::f64::consts::TAU * self.next_f64();
        [radius * libm::cos(angle), radius * libm::sin(angle)]
    }
}

fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: the test vector of the `rand_xoshiro` crate, made with the authors' C program.
    #[test]
    fn xoshiro_gives_the_published_sequence() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let expected = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
            9973669472204895162,
            14011001112246962877,
            12406186145184390807,
            15849039046786891736,
            10450023813501588000,
        ];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
    }

    /// Expected values: Vigna's `splitmix64.c` from the seed 1234567.
    #[test]
    fn split_mix_gives_the_published_sequence() {
        let mut counter = 1234567;
        let expected = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ];
        assert_eq!(expected.map(|_| split_mix(&mut counter)), expected);
    }

    #[test]
    fn seeds_give_different_streams() {
        assert_ne!(Rng::new(0).next_u64(), Rng::new(1).next_u64());
    }

    #[test]
    fn unit_draws_have_the_mean_of_the_uniform_distribution() {
        let mut rng = Rng::new(7);
        let n = 100_000;
        let mean = (0..n).map(|_| rng.next_f64()).sum::<f64>() / f64::from(n);
        let five_sigma = 5.0 * (1.0 / 12.0f64).sqrt() / f64::from(n).sqrt();
        assert!((mean - 0.5).abs() < five_sigma, "mean {mean}");
    }
}
