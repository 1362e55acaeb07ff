//! A snapshot: all that a pool remembers at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::large::Fragmentation;
use super::record::{Lifetime, Record};
use super::trace::{Change, Event, Trace};
use super::tracker::{Remembered, Tally, Tracking};
use super::{HybridMemoryPool, Stats};

/// Allocations of one power of two, as counted since tracking was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeCount {
    /// Largest capacity counted here: a power of two.
    pub up_to: usize,
    /// Allocations.
    pub allocs: u64,
    /// Releases of those.
    pub frees: u64,
    /// Bytes of those in use.
    pub live_bytes: usize,
}

impl SizeCount {
    /// The sum of the ledgers' tallies of a size; none where nothing was allocated.
    pub(super) fn sum(size: usize, tallies: impl Iterator<Item = Tally>) -> Option<Self> {
        let mut sum = Self { up_to: 1 << size, allocs: 0, frees: 0, live_bytes: 0 };
        for tally in tallies {
            sum.allocs += tally.allocs;
            sum.frees += tally.frees;
            sum.live_bytes += tally.live_bytes;
        }
        (sum.allocs > 0).then_some(sum)
    }
}

/// What one owner holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerTotal {
    /// Blocks in use.
    pub blocks: usize,
    /// Bytes reserved for them.
    pub bytes: usize,
    /// Age of the oldest.
    pub oldest: Duration,
}

/// All that a pool remembers at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken, since the pool was made.
    pub at: Duration,
    /// The level at that moment.
    pub tracking: Tracking,
    /// What the pool holds and did.
    pub stats: Stats,
    /// How what it holds and does not use is cut up.
    pub fragmentation: Fragmentation,
    /// Allocations by size, the smallest first.
    pub sizes: Vec<SizeCount>,
    /// Recorded blocks in use, the oldest first.
    pub live: Vec<Record>,
    /// Recorded blocks that were freed, by their death.
    pub finished: Vec<Lifetime>,
    /// Lifetimes that were forgotten because the history is full.
    pub forgotten: u64,
    /// Names of the threads that used the pool.
    pub threads: Vec<String>,
    /// The last of the forgotten deaths: before it the history has gaps.
    pub(super) horizon: Duration,
    /// What was held when the pool went to the system.
    pub(super) growth: Vec<Event>,
}

impl Snapshot {
    pub(super) fn take(pool: &HybridMemoryPool) -> Self {
        let tracker = &pool.0.tracker;
        let Remembered { sizes, live, finished, forgotten, horizon } = tracker.remembered();
        Self {
            at: tracker.now(),
            tracking: tracker.level(),
            stats: pool.stats(),
            fragmentation: pool.fragmentation(),
            sizes,
            live,
            finished,
            forgotten,
            threads: tracker.threads(),
            horizon,
            growth: tracker.samples(),
        }
    }

    /// Age of a block in use.
    pub fn age(&self, record: &Record) -> Duration {
        self.at.saturating_sub(record.born)
    }

    /// Bytes that recorded blocks reserve beyond what they were asked for.
    pub fn padding(&self) -> usize {
        self.live.iter().map(|record| record.capacity - record.bytes).sum()
    }

    /// What every owner holds, of the blocks that are recorded.
    pub fn owners(&self) -> BTreeMap<&'static str, OwnerTotal> {
        let mut owners = BTreeMap::<_, OwnerTotal>::new();
        for record in &self.live {
            let total = owners.entry(record.owner).or_default();
            total.blocks += 1;
            total.bytes += record.capacity;
            total.oldest = total.oldest.max(self.age(record));
        }
        owners
    }

    /// What happened since the history has no gaps, as a trace of the device. Blocks that were made before that appear
    /// where the trace starts.
    pub fn trace(&self, device: u32) -> Trace {
        let event = |at: Duration, owner, change| Event { at: at.max(self.horizon), device, owner, change };
        let alloc = |r: &Record| event(r.born, r.owner, Change::Alloc { id: r.id, bytes: r.capacity });
        let free = |l: &Lifetime| event(l.died, l.record.owner, Change::Free { id: l.record.id });
        let whole = || self.finished.iter().filter(|lifetime| lifetime.died > self.horizon);
        let growth = self.growth.iter().filter(|sample| sample.at > self.horizon);
        let mut events: Vec<Event> = self.live.iter().chain(whole().map(|l| &l.record)).map(alloc).collect();
        events.extend(whole().map(free));
        events.extend(growth.map(|sample| Event { device, ..sample.clone() }));
        Trace::new(events)
    }
}
