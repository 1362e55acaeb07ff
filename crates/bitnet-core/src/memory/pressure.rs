//! Pressure: how scarce memory is, by the pool's budget, the control group and the machine.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::HybridMemoryPool;
use super::usage::{Linux, Scope, Usage};

/// How scarce memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is plenty.
    #[default]
    None,
    /// Enough is used to be worth a look.
    Low,
    /// Caches should shrink.
    Medium,
    /// Caches should be empty and new work should wait.
    High,
    /// The next allocation may fail.
    Critical,
}

impl Pressure {
    const RISING: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// From which share of the limit on a level begins, and how far below it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Shares at which low, medium, high and critical begin, ascending.
    pub begin: [f64; 4],
    /// How much lower the share must be for a level to end, so that it does not flicker.
    pub margin: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { begin: [0.6, 0.75, 0.85, 0.95], margin: 0.05 }
    }
}

impl Thresholds {
    /// The level at `share` when it was `before`.
    fn level(&self, share: f64, before: Pressure) -> Pressure {
        let reached = |level: Pressure, begin: f64| {
            let begin = if level <= before { begin - self.margin } else { begin };
            share >= begin
        };
        let levels = Pressure::RISING.into_iter().zip(self.begin);
        levels
            .filter(|&(level, begin)| reached(level, begin))
            .map(|(level, _)| level)
            .next_back()
            .unwrap_or_default()
    }

    /// Bytes that must be given back for the level to end.
    pub fn excess(&self, usage: &Usage, level: Pressure) -> usize {
        let Some(begin) = Pressure::RISING.iter().position(|&l| l == level).map(|i| self.begin[i]) else {
            return 0;
        };
        let most = ((begin - self.margin) * usage.limit as f64).ceil() as usize;
        (usage.used + 1).saturating_sub(most)
    }
}

/// A change of the level, as callbacks get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// The level until now.
    pub from: Pressure,
    /// The level from now on.
    pub to: Pressure,
    /// All that was read.
    pub usages: Vec<Usage>,
}

impl Shift {
    /// The usage closest to its limit.
    pub fn tightest(&self) -> Option<Usage> {
        tightest(&self.usages)
    }
}

/// Names a registered callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Registration(u64);

type Callback = Arc<dyn Fn(&Shift) + Send + Sync>;
type Source = Box<dyn Fn() -> Vec<Usage> + Send + Sync>;

/// Watches a pool's memory. It reads when it is asked to; it has no thread of its own.
pub struct Monitor {
    pool: HybridMemoryPool,
    source: Source,
    thresholds: Thresholds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    level: Pressure,
    callbacks: Vec<(Registration, Callback)>,
    next: u64,
}

impl Monitor {
    /// A monitor of a pool on this machine.
    pub fn new(pool: &HybridMemoryPool) -> Self {
        let linux = Linux::default();
        Self::with_source(pool, Thresholds::default(), move || linux.usages())
    }

    /// A monitor of a pool and of whatever `source` reads.
    pub fn with_source(
        pool: &HybridMemoryPool,
        thresholds: Thresholds,
        source: impl Fn() -> Vec<Usage> + Send + Sync + 'static,
    ) -> Self {
        Self { pool: pool.clone(), source: Box::new(source), thresholds, state: Mutex::default() }
    }

    /// The level when it was last read.
    pub fn level(&self) -> Pressure {
        self.state().level
    }

    /// The thresholds.
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Reads all usages: the pool's against its budget, if it has one, and those of the source.
    pub fn usages(&self) -> Vec<Usage> {
        let budget = self.pool.budget().map(|limit| {
            // Cached memory makes room for any request, so only live bytes press on the budget.
            Usage { scope: Scope::Budget, used: self.pool.stats().live, limit }
        });
        budget.into_iter().chain((self.source)()).collect()
    }

    /// Reads all usages, moves to the level of the tightest and, if that is another one, tells all callbacks. They run on
    /// this thread, without a lock, in the order of their registration.
    pub fn check(&self) -> Shift {
        let usages = self.usages();
        let (shift, callbacks) = {
            let mut state = self.state();
            let from = state.level;
            let share = tightest(&usages).map_or(0.0, |usage| usage.share());
            state.level = self.thresholds.level(share, from);
            (Shift { from, to: state.level, usages }, state.callbacks.clone())
        };
        if shift.from != shift.to {
            callbacks.iter().for_each(|(_, callback)| callback(&shift));
        }
        shift
    }

    /// Calls `callback` at every change of level from now on.
    pub fn register(&self, callback: impl Fn(&Shift) + Send + Sync + 'static) -> Registration {
        let mut state = self.state();
        let registration = Registration(state.next);
        state.next += 1;
        state.callbacks.push((registration, Arc::new(callback)));
        registration
    }

    /// Stops calling; returns whether the callback was registered. A check in progress may still call it once.
    pub fn unregister(&self, registration: Registration) -> bool {
        let removed = {
            let mut state = self.state();
            let index = state.callbacks.iter().position(|(other, _)| *other == registration);
            index.map(|index| state.callbacks.remove(index))
        };
        // The callback is dropped here, outside of the lock.
        removed.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("level", &self.level()).finish_non_exhaustive()
    }
}

fn tightest(usages: &[Usage]) -> Option<Usage> {
    usages.iter().copied().max_by(|a, b| a.share().total_cmp(&b.share()))
}
