//! What a pool counts: exact at every moment no other thread is inside an allocation.

use std::fmt;
use std::sync::atomic::Ordering::SeqCst;

use super::sync::AtomicUsize;

/// What a pool holds and did, in bytes and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of blocks in use, each at its capacity.
    pub live: usize,
    /// Blocks in use, without the empty ones.
    pub live_blocks: u64,
    /// Highest `live` since the pool was made or the peak was reset.
    pub peak: usize,
    /// Bytes held from the system and not in use.
    pub cached: usize,
    /// Allocations served from memory that the pool held.
    pub hits: u64,
    /// Allocations that had to ask the system.
    pub misses: u64,
    /// Regions taken from the system.
    pub system_allocs: u64,
    /// Regions given back to the system.
    pub system_frees: u64,
}

impl Stats {
    /// Bytes held from the system: `live + cached`.
    pub fn held(&self) -> usize {
        self.live + self.cached
    }

    /// Share of allocations that needed no system call, 1 when there were none.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 1.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "live {} in {} blocks, peak {}, cached {}, {} hits and {} misses, system {} allocs and {} frees",
            Bytes(self.live),
            self.live_blocks,
            Bytes(self.peak),
            Bytes(self.cached),
            self.hits,
            self.misses,
            self.system_allocs,
            self.system_frees,
        )
    }
}

/// A byte count that prints with a binary unit: `512 B`, `1.5 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let power = (self.0.ilog2() / 10).min(UNITS.len() as u32);
        let value = self.0 as f64 / (1u64 << (10 * power)) as f64;
        write!(f, "{value:.1} {}", UNITS[power as usize - 1])
    }
}

/// Events, counted where they happen under a lock and summed for `Stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub frees: u64,
}

impl Counts {
    pub fn allocated(&mut self, from_cache: bool) {
        if from_cache {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.frees += other.frees;
    }
}

/// Live bytes and their high-water mark over all threads.
#[derive(Debug, Default)]
pub(super) struct Meter {
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Meter {
    pub fn add(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, SeqCst) + bytes;
        if live > self.peak.load(SeqCst) {
            self.peak.fetch_max(live, SeqCst);
        }
    }

    pub fn sub(&self, bytes: usize) {
        self.live.fetch_sub(bytes, SeqCst);
    }

    pub fn live(&self) -> usize {
        self.live.load(SeqCst)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(SeqCst)
    }

    pub fn reset_peak(&self) {
        self.peak.store(self.live(), SeqCst);
        // An allocation may have come between the load and the store.
        self.peak.fetch_max(self.live(), SeqCst);
    }
}
