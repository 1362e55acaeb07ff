//! What a pool counts: exact at every moment no other thread is inside an allocation.

use std::fmt;
use std::sync::atomic::Ordering::SeqCst;

use super::sync::AtomicIsize;

/// What a pool holds and did, in bytes and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of blocks in use, each at its capacity.
    pub live: usize,
    /// Blocks in use, without the empty ones.
    pub live_blocks: u64,
    /// Highest `live` since the pool was made or the peak was reset. Where several threads allocate, up to 256 KiB of each may be
    /// missing.
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

/// Live bytes and their high-water mark, but for what threads still keep in their [`Tide`]. On a line of its own: every other line that
/// an allocation looks at is rarely written.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Meter {
    live: AtomicIsize,
    peak: AtomicIsize,
}

impl Meter {
    pub fn add(&self, bytes: usize) {
        self.change(bytes.cast_signed(), bytes.cast_signed());
    }

    pub fn sub(&self, bytes: usize) {
        self.live.fetch_sub(bytes.cast_signed(), SeqCst);
    }

    /// Counts a difference on the way to which `crest` bytes more than before were live.
    fn change(&self, difference: isize, crest: isize) {
        let most = self.live.fetch_add(difference, SeqCst) + crest;
        if most > self.peak.load(SeqCst) {
            self.peak.fetch_max(most, SeqCst);
        }
    }

    /// Live bytes and the most that there were, where threads have these to settle.
    pub fn read<'a>(&self, tides: impl Iterator<Item = &'a Tide> + Clone) -> [usize; 2] {
        let live = self.live.load(SeqCst) + tides.clone().map(|tide| tide.live).sum::<isize>();
        let crests = tides.map(|tide| live - tide.live + tide.crest);
        let peak = crests.fold(self.peak.load(SeqCst).max(live), isize::max);
        [live, peak].map(|bytes| usize::try_from(bytes).expect("what is counted down was counted up before"))
    }

    /// Starts the peak again, after every tide was settled.
    pub fn reset_peak(&self) {
        self.peak.store(self.live.load(SeqCst), SeqCst);
        // An allocation may have come between the load and the store.
        self.peak.fetch_max(self.live.load(SeqCst), SeqCst);
    }
}

/// Bytes that a thread has taken and given since it last told the [`Meter`], so that threads do not wait for its line
/// at every block. What one of them has not told is missing from the peaks of the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tide {
    live: isize,
    /// The highest that `live` was.
    crest: isize,
}

/// The most that a thread does not tell.
const UNTOLD: isize = 256 << 10;

impl Tide {
    /// This after `bytes` were taken, unless that is more than a thread keeps to itself.
    #[inline]
    pub fn risen(self, bytes: isize) -> Option<Self> {
        let live = self.live + bytes;
        (live <= UNTOLD).then(|| Self { live, crest: self.crest.max(live) })
    }

    /// This after `bytes` were given, unless that is more than a thread keeps to itself.
    #[inline]
    pub fn fallen(self, bytes: isize) -> Option<Self> {
        let live = self.live - bytes;
        (live >= -UNTOLD).then_some(Self { live, crest: self.crest })
    }

    #[inline]
    pub fn add(&mut self, bytes: usize, meter: &Meter) {
        self.live += bytes.cast_signed();
        self.crest = self.crest.max(self.live);
        if self.live > UNTOLD {
            self.settle(meter);
        }
    }

    #[inline]
    pub fn sub(&mut self, bytes: usize, meter: &Meter) {
        self.live -= bytes.cast_signed();
        if self.live < -UNTOLD {
            self.settle(meter);
        }
    }

    /// Tells everything.
    #[cold]
    #[inline(never)]
    pub fn settle(&mut self, meter: &Meter) {
        if self.live != 0 || self.crest != 0 {
            meter.change(self.live, self.crest);
            *self = Self::default();
        }
    }
}
