//! Cleanup: strategies that give memory back, and the scheduler that runs them.
//!
//! Every [`Report`] holds what was counted before and after; nothing is estimated.

mod scheduler;
mod strategy;

use std::fmt;

pub use scheduler::{Background, Scheduler};
pub use strategy::Strategy;

use super::usage::Linux;
use super::{Bytes, Compaction, Fragmentation, HybridMemoryPool, Stats};

/// What was counted at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// What the pool holds and did.
    pub stats: Stats,
    /// How the memory that it does not use is cut up.
    pub fragmentation: Fragmentation,
    /// Bytes of this process in memory, where the system tells.
    pub resident: Option<usize>,
}

impl Counted {
    /// Counts now.
    pub fn now(pool: &HybridMemoryPool) -> Self {
        Self {
            stats: pool.stats(),
            fragmentation: pool.fragmentation(),
            resident: Linux::default().resident(),
        }
    }
}

/// What one run of a strategy did.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Name that the pool was added under.
    pub device: String,
    /// Name of the strategy.
    pub strategy: &'static str,
    /// Counted before.
    pub before: Counted,
    /// Counted after.
    pub after: Counted,
    /// Blocks that were moved, if the strategy moves any.
    pub moved: usize,
    /// Bytes that were copied for that.
    pub copied: usize,
    /// Whether the strategy came to its end within the time; if not, it goes on in the next run.
    pub complete: bool,
}

impl Report {
    /// Bytes that the pool holds less of than before.
    pub fn released(&self) -> usize {
        self.before.stats.held().saturating_sub(self.after.stats.held())
    }

    fn add(&mut self, compaction: &Compaction) {
        self.moved += compaction.moved;
        self.copied += compaction.bytes;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (&self.before, &self.after);
        write!(
            f,
            "{} {}: held {} -> {}, largest free run {} -> {}",
            self.device,
            self.strategy,
            Bytes(before.stats.held()),
            Bytes(after.stats.held()),
            Bytes(before.fragmentation.largest_free),
            Bytes(after.fragmentation.largest_free),
        )?;
        if let (Some(before), Some(after)) = (before.resident, after.resident) {
            write!(f, ", resident {} -> {}", Bytes(before), Bytes(after))?;
        }
        if self.moved > 0 {
            write!(f, ", moved {} blocks ({})", self.moved, Bytes(self.copied))?;
        }
        f.write_str(if self.complete { "" } else { ", to be continued" })
    }
}
