//! When to give memory back, and how much.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use crate::memory::pressure::{Monitor, Pressure};
use crate::memory::{Compaction, HybridMemoryPool};

/// When to give memory back, and how much.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Strategy {
    /// Everything cached, once nothing was allocated or freed for a while.
    Idle {
        /// How long.
        after: Duration,
    },
    /// While pressure is medium, what is cached beyond half of what was when it rose to that; at high all of it, at critical all of it after
    /// compaction.
    Pressure {
        /// Tells the level; it is checked at every run.
        monitor: Arc<Monitor>,
    },
    /// What is cached beyond a limit, at fixed times.
    Periodic {
        /// Time between two cleanups.
        every: Duration,
        /// Bytes that stay cached.
        keep: usize,
    },
    /// What was not touched for some generations, each of a fixed time.
    Generational {
        /// Length of a generation.
        every: Duration,
        /// Generations that memory stays unused for.
        generations: u64,
    },
    /// Moves movable blocks together and gives back what that frees, and nothing else that is cached, while memory is badly cut up.
    Compact {
        /// Time between two looks.
        every: Duration,
        /// The least [`external`](crate::memory::Fragmentation::external) fragmentation that is worth the copying.
        fragmentation: f64,
    },
}

/// The most that is given back or copied between two looks at the clock.
const SLICE: usize = 64 << 20;

/// What a strategy remembers from run to run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// When it is next due.
    pub due: Duration,
    /// Allocations and releases so far, and when that was last seen to change.
    activity: u64,
    changed: Duration,
    /// Bytes that are to be left cached by the work in progress.
    keep: usize,
    compact: bool,
    /// The level of pressure at the last run, and what may stay cached while it is medium.
    level: Pressure,
    half: usize,
}

impl Memory {
    pub fn due_at(due: Duration) -> Self {
        Self { due, ..Self::default() }
    }
}

/// What the next slice of work came to.
pub(super) enum Slice {
    /// There is more.
    More(Compaction),
    /// That was all.
    Done,
}

impl Strategy {
    /// Its name in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle { .. } => "idle",
            Self::Pressure { .. } => "pressure",
            Self::Periodic { .. } => "periodic",
            Self::Generational { .. } => "generational",
            Self::Compact { .. } => "compact",
        }
    }

    /// Time between two runs.
    pub(super) fn every(&self) -> Duration {
        match *self {
            Self::Idle { .. } | Self::Pressure { .. } => Duration::ZERO,
            Self::Periodic { every, .. } | Self::Generational { every, .. } | Self::Compact { every, .. } => {
                every
            }
        }
    }

    /// Looks whether there is anything to do, and if so decides how far to go.
    pub(super) fn decide(&self, pool: &HybridMemoryPool, memory: &mut Memory, now: Duration) -> bool {
        let stats = pool.stats();
        (memory.keep, memory.compact) = (0, false);
        match self {
            Self::Idle { after } => {
                let activity = 2 * (stats.hits + stats.misses) - stats.live_blocks;
                if activity != memory.activity {
                    (memory.activity, memory.changed) = (activity, now);
                }
                stats.cached > 0 && now.saturating_sub(memory.changed) >= *after
            }
            Self::Pressure { monitor } => {
                let level = monitor.check().to;
                match (memory.level.cmp(&Pressure::Medium), level) {
                    (Ordering::Less, Pressure::Medium) => memory.half = stats.cached / 2,
                    (Ordering::Greater, Pressure::Medium) => memory.half = usize::MAX,
                    _ => {}
                }
                memory.level = level;
                memory.keep = if level == Pressure::Medium { memory.half } else { 0 };
                memory.compact = level == Pressure::Critical;
                level >= Pressure::Medium && stats.cached > memory.keep
            }
            Self::Periodic { keep, .. } => {
                memory.keep = *keep;
                stats.cached > *keep
            }
            Self::Generational { .. } => true,
            Self::Compact { fragmentation, .. } => {
                memory.compact = true;
                !pool.0.movables.all().is_empty() && pool.fragmentation().external() >= *fragmentation
            }
        }
    }

    /// Does a slice of the work.
    pub(super) fn work(&self, pool: &HybridMemoryPool, memory: &mut Memory) -> Slice {
        if let Self::Generational { generations, .. } = self {
            pool.trim_generation(*generations);
            return Slice::Done;
        }
        let only_compacts = matches!(self, Self::Compact { .. });
        if memory.compact {
            let compaction = if only_compacts { pool.compact_away(SLICE) } else { pool.compact(SLICE) };
            memory.compact = compaction.moved > 0;
            return Slice::More(compaction);
        }
        if only_compacts {
            return Slice::Done;
        }
        let surplus = pool.stats().cached.saturating_sub(memory.keep);
        match pool.trim(surplus.min(SLICE)) {
            0 => Slice::Done,
            _ => Slice::More(Compaction::default()),
        }
    }
}
