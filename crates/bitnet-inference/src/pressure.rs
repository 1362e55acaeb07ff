//! What an engine does about scarce memory: caches shrink first, then new sequences are refused; those that run go on.

use std::time::{Duration, Instant};

use bitnet_core::memory::HybridMemoryPool;
use bitnet_core::memory::pressure::{Monitor, Pressure};
use bitnet_core::memory::usage::{Scope, Usage};

use crate::error::Error;

/// A read of the system takes about 90 µs: this seldom it is at most a thousandth of the time.
const INTERVAL: Duration = Duration::from_millis(100);

/// The memory that an engine keeps an eye on.
#[derive(Debug)]
pub struct Watch {
    monitor: Monitor,
    pool: HybridMemoryPool,
    every: Duration,
    last: Option<Instant>,
    /// The level rose, and no blocks were given back for it yet.
    risen: bool,
    /// Memory was read, and no blocks were given back since.
    looked: bool,
    /// Whether what is scarce becomes less so where blocks are given back.
    blocks_help: bool,
    relief: Relief,
}

/// How scarce memory is, and what an engine did about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relief {
    /// The level when it was last read.
    pub level: Pressure,
    /// The highest level so far.
    pub highest: Pressure,
    /// Blocks of the prefix cache that were dropped.
    pub dropped_blocks: usize,
    /// Bytes of the KV cache that were given back to the system: whole pages of dropped blocks and of those that held nothing any more. The
    /// pool still counts them as live, for their addresses stay.
    pub discarded: usize,
    /// Bytes that the pool gave back to the system.
    pub trimmed: usize,
    /// Sequences that were refused.
    pub refused: usize,
}

impl Watch {
    /// The memory of a pool and of this machine, read at most ten times a second.
    pub fn new(pool: &HybridMemoryPool) -> Self {
        Self::with_monitor(pool, Monitor::new(pool), INTERVAL)
    }

    /// What `monitor` reads, at most once in `every`; `pool` is trimmed when it is scarce.
    pub fn with_monitor(pool: &HybridMemoryPool, monitor: Monitor, every: Duration) -> Self {
        Self {
            monitor,
            pool: pool.clone(),
            every,
            last: None,
            risen: false,
            looked: false,
            blocks_help: false,
            relief: Relief::default(),
        }
    }

    pub(crate) fn relief(&self) -> &Relief {
        &self.relief
    }

    /// Whether new sequences should wait for those that run.
    pub(crate) fn is_critical(&self) -> bool {
        self.relief.level == Pressure::Critical
    }

    /// Reads memory if it was not read lately.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            return;
        }
        self.last = Some(now);
        self.looked = true;
        let shift = self.monitor.check();
        // What blocks of the KV cache give back stays a part of the pool.
        self.blocks_help = shift.tightest().is_some_and(|usage| usage.scope != Scope::Budget);
        self.relief.level = shift.to;
        self.relief.highest = self.relief.highest.max(shift.to);
        if shift.to > shift.from && shift.to >= Pressure::Medium {
            tracing::info!(level = %shift.to, usage = ?shift.tightest(), "memory is scarce, caches shrink");
            self.risen = true;
            self.trim();
        }
    }

    /// How many of `idle` blocks may stay, if blocks are to be given back now: half of them when the level has become medium, none from high
    /// on, there again after every look.
    pub(crate) fn keep(&mut self, idle: usize) -> Option<usize> {
        let (risen, looked) = (std::mem::take(&mut self.risen), std::mem::take(&mut self.looked));
        match self.relief.level {
            _ if !self.blocks_help => None,
            Pressure::High | Pressure::Critical => looked.then_some(0),
            Pressure::Medium if risen => Some(idle / 2),
            _ => None,
        }
    }

    pub(crate) fn blocks_help(&self) -> bool {
        self.blocks_help
    }

    pub(crate) fn trim(&mut self) {
        self.relief.trimmed += self.pool.trim(usize::MAX);
    }

    pub(crate) fn count_dropped(&mut self, blocks: usize, bytes: usize) {
        self.relief.dropped_blocks += blocks;
        self.relief.discarded += bytes;
    }

    pub(crate) fn count_refused(&mut self) {
        self.relief.refused += 1;
    }

    /// Why a sequence that takes `needed` more bytes may not start, if it may not.
    ///
    /// Beside others it has to leave what separates a critical level from a lower one; alone it may take all there is, or
    /// a machine that others fill would never serve anybody.
    pub(crate) fn shortage(&self, tokens: usize, needed: usize, alone: bool) -> Option<Error> {
        let usages = self.monitor.usages();
        let tightest = usages.into_iter().max_by(|a, b| a.share().total_cmp(&b.share()))?;
        let Usage { scope, used, limit } = tightest;
        let available = limit.saturating_sub(used);
        let reserve = if alone { 0 } else { self.reserve(limit) };
        let missing = needed.saturating_add(reserve).saturating_sub(available);
        (missing > 0).then_some(Error::MemoryPressure {
            tokens,
            needed,
            reserve,
            available,
            limit,
            missing,
            scope,
        })
    }

    /// Bytes that are free at the end of the critical level.
    fn reserve(&self, limit: usize) -> usize {
        let thresholds = self.monitor.thresholds();
        let [.., critical] = thresholds.begin;
        ((1.0 - critical + thresholds.margin) * limit as f64) as usize
    }
}
