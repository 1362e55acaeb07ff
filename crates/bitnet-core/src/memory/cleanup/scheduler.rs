//! The scheduler: runs cleanup strategies when they are due, within a time budget.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::strategy::{Memory, Slice};
use super::{Counted, Report, Strategy};
use crate::memory::HybridMemoryPool;

/// Runs the cleanup of one or more devices. It acts only inside of [`run`](Self::run); what a run does follows from the
/// pools, from `now` and from the clock, which [`with_clock`](Self::with_clock) replaces.
///
/// ```
/// use bitnet_core::memory::{HybridMemoryPool, cleanup::{Scheduler, Strategy}};
/// use std::time::Duration;
/// let pool = HybridMemoryPool::host();
/// let mut scheduler = Scheduler::new();
/// scheduler.add("cpu", &pool, Strategy::Periodic { every: Duration::from_secs(10), keep: 0 });
/// drop(pool.alloc(10_000_000)?);
/// let reports = scheduler.run(Duration::from_secs(10), Duration::from_millis(5));
/// assert!(reports[0].released() >= 10_000_000);
/// # Ok::<(), bitnet_core::memory::MemoryError>(())
/// ```
pub struct Scheduler {
    tasks: Vec<Task>,
    clock: Box<dyn Fn() -> Duration + Send>,
}

struct Task {
    device: String,
    pool: HybridMemoryPool,
    strategy: Strategy,
    memory: Memory,
    /// Whether a run ended before the work did.
    unfinished: bool,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl Scheduler {
    /// A scheduler without tasks.
    pub fn new() -> Self {
        let start = Instant::now();
        Self::with_clock(move || start.elapsed())
    }

    /// A scheduler that measures the time a run takes by another clock.
    pub fn with_clock(clock: impl Fn() -> Duration + Send + 'static) -> Self {
        Self { tasks: Vec::new(), clock: Box::new(clock) }
    }

    /// Adds a strategy for the pool of a device, first due once its time has passed.
    pub fn add(&mut self, device: &str, pool: &HybridMemoryPool, strategy: Strategy) {
        let memory = Memory::due_at(strategy.every());
        let (device, pool) = (device.to_owned(), pool.clone());
        self.tasks.push(Task { device, pool, strategy, memory, unfinished: false });
    }

    /// Runs what is due at `now`, the time since the scheduler was made by the caller's clock, the longest overdue first,
    /// until `budget` is spent. A slice of work is not interrupted: it releases 64 MiB, or
    /// one region where that is larger, or copies as much.
    pub fn run(&mut self, now: Duration, budget: Duration) -> Vec<Report> {
        self.run_where(now, budget, |_| true)
    }

    /// As [`run`](Self::run), for one device only.
    pub fn run_device(&mut self, device: &str, now: Duration, budget: Duration) -> Vec<Report> {
        self.run_where(now, budget, |name| name == device)
    }

    fn run_where(&mut self, now: Duration, budget: Duration, which: impl Fn(&str) -> bool) -> Vec<Report> {
        let end = (self.clock)() + budget;
        let due = |task: &Task| (task.unfinished || task.memory.due <= now) && which(&task.device);
        let mut order: Vec<usize> = (0..self.tasks.len()).filter(|&index| due(&self.tasks[index])).collect();
        order.sort_by_key(|&index| self.tasks[index].memory.due);
        let mut reports = Vec::new();
        for index in order {
            if (self.clock)() >= end {
                break;
            }
            reports.extend(self.tasks[index].run(now, || (self.clock)() >= end));
        }
        reports
    }

    /// Runs on a thread of its own, every `every` for at most `budget`, and hands each report to `report`.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn spawn(
        mut self,
        every: Duration,
        budget: Duration,
        mut report: impl FnMut(Report) + Send + 'static,
    ) -> std::io::Result<Background> {
        let (stop, stopped) = channel();
        let start = Instant::now();
        let thread = thread::Builder::new().name("memory cleanup".to_owned()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                self.run(start.elapsed(), budget).into_iter().for_each(&mut report);
            }
        })?;
        Ok(Background { stop: Some(stop), thread: Some(thread) })
    }
}

impl Task {
    /// Works until all is done or `expired`; reports if there was anything to do.
    fn run(&mut self, now: Duration, expired: impl Fn() -> bool) -> Option<Report> {
        if !self.unfinished && !self.strategy.decide(&self.pool, &mut self.memory, now) {
            self.memory.due = now + self.strategy.every();
            return None;
        }
        let before = Counted::now(&self.pool);
        let mut report = Report {
            device: self.device.clone(),
            strategy: self.strategy.name(),
            before,
            after: before,
            moved: 0,
            copied: 0,
            complete: false,
        };
        while let Slice::More(compaction) = self.strategy.work(&self.pool, &mut self.memory) {
            report.add(&compaction);
            if expired() {
                self.unfinished = true;
                report.after = Counted::now(&self.pool);
                return Some(report);
            }
        }
        self.unfinished = false;
        self.memory.due = now + self.strategy.every();
        report.complete = true;
        report.after = Counted::now(&self.pool);
        Some(report)
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = self.tasks.iter().map(|task| (&task.device, task.strategy.name()));
        f.debug_list().entries(tasks).finish()
    }
}

/// A scheduler on a thread of its own; it ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
