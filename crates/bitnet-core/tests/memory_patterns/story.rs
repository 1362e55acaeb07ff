//! A trace under construction: blocks with a birth and a death, as shares of its length.

use std::time::Duration;

use bitnet_core::memory::{Change, Event, Trace};

/// A seeded generator (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In `0..1`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Evenly distributed in the logarithm.
    pub fn scale(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    pub fn count(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// With mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// With mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.count(0, of.len() - 1)]
    }
}

/// A trace under construction.
pub struct Story {
    pub random: Random,
    pub device: u32,
    events: Vec<Event>,
    length: f64,
    next: u64,
}

impl Story {
    /// An empty one of between a fifth of a second and two minutes.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let length = random.scale(0.2, 120.0);
        let mut story = Self { random, device: 0, events: Vec::new(), length, next: 0 };
        // Every trace begins and ends with something small.
        story.block("begin", 64, 0.0, 0.001);
        story.block("end", 64, 0.998, 0.999_999);
        story
    }

    /// A block from one share of the length to another; what would die after the end is never freed.
    pub fn block(&mut self, owner: &'static str, bytes: usize, born: f64, died: f64) {
        if !(0.0..1.0).contains(&born) {
            return;
        }
        let id = self.next;
        self.next += 1;
        self.push(owner, born, Change::Alloc { id, bytes });
        if died < 1.0 {
            self.push(owner, died, Change::Free { id });
        }
    }

    /// A request that went to the system.
    pub fn grow(&mut self, at: f64, change: Change) {
        self.push("", at, change);
    }

    fn push(&mut self, owner: &'static str, at: f64, change: Change) {
        let at = Duration::from_secs_f64(at * self.length);
        self.events.push(Event { at, device: self.device, owner, change });
    }

    /// The finished trace; in one of three nothing happens for a long time somewhere on the way.
    pub fn trace(mut self) -> Trace {
        let (at, pause) = (self.random.between(0.2, 0.95), self.random.between(0.1, 0.4));
        if self.random.chance(1.0 / 3.0) {
            let (at, pause) = (self.length * at, self.length * pause);
            for event in self.events.iter_mut().filter(|event| event.at.as_secs_f64() > at) {
                event.at += Duration::from_secs_f64(pause);
            }
        }
        Trace::new(self.events)
    }
}
