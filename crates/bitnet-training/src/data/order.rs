//! The order in which windows are learnt: every epoch has its own, and any place of it is found without the places before, so that a run that
//! continues sees what it would have seen.

/// Windows of a corpus in random order, epoch after epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    seed: u64,
    context: usize,
    /// Windows of an epoch.
    count: usize,
    /// Places where the first window of an epoch may begin.
    phases: usize,
}

impl Order {
    /// Of a corpus of `tokens` tokens, more than `context`.
    pub fn new(tokens: usize, context: usize, seed: u64) -> Self {
        let windows = (tokens - 1) / context;
        // Where there is room, windows of different epochs are cut at different places.
        let count = windows.saturating_sub(1).max(1);
        let phases = (tokens - 1 - count * context + 1).min(context);
        Self { seed, context, count, phases }
    }

    /// Windows of an epoch.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where window `index` of the run begins.
    pub fn start(&self, index: u64) -> usize {
        let (epoch, place) = (index / self.count as u64, index % self.count as u64);
        let key = mix(self.seed ^ mix(epoch));
        let phase = (mix(key) % self.phases as u64) as usize;
        phase + Permutation::new(self.count as u64, key).at(place) as usize * self.context
    }
}

/// A random order of `0..n` that is computed place by place: a Feistel network over the next power of four, walked until it is below `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    /// The order of a key.
    pub fn new(n: u64, key: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1), key }
    }

    /// The number at a place below `n`.
    pub fn at(&self, place: u64) -> u64 {
        let mut x = place;
        loop {
            x = self.rounds(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn rounds(&self, x: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..4 {
            let f = mix(self.key ^ (right | round << 60)) & mask;
            (left, right) = (right, left ^ f);
        }
        left << self.half_bits | right
    }
}

/// The finalizer of SplitMix64.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_every_number_once() {
        for n in [1, 2, 3, 7, 64, 1000] {
            let mut all: Vec<u64> = (0..n).map(|i| Permutation::new(n, 42).at(i)).collect();
            let in_order = all.is_sorted();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>(), "{n}");
            assert!(n < 64 || !in_order);
        }
    }

    #[test]
    fn windows_of_an_epoch_do_not_overlap_and_lie_inside() {
        for tokens in [9, 10, 17, 18, 100, 1003] {
            let order = Order::new(tokens, 8, 1);
            for epoch in 0..5 {
                let indices = (0..order.count() as u64).map(|i| epoch * order.count() as u64 + i);
                let mut starts: Vec<usize> = indices.map(|i| order.start(i)).collect();
                starts.sort_unstable();
                assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 8), "{tokens}: {starts:?}");
                assert!(starts.last().unwrap() + 8 < tokens, "{tokens}: {starts:?}");
            }
        }
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let starts = |seed, first| {
            let order = Order::new(1003, 8, seed);
            (first..first + 50).map(|i| order.start(i)).collect::<Vec<_>>()
        };
        assert_eq!(starts(1, 0), starts(1, 0));
        assert_ne!(starts(1, 0), starts(2, 0));
        assert_ne!(starts(1, 0), starts(1, Order::new(1003, 8, 1).count() as u64));
    }
}
