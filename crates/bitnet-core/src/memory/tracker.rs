//! Tracking: what a pool remembers of its allocations, at a chosen level.
//!
//! Every thread writes into one of a few ledgers under a lock that is rarely contended. A block carries a ticket with the
//! ledger and the place of its record, so that neither allocation nor release searches for anything.

use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::clock::{Clock, Moment};
use super::latch::{Latch, Latched};
use super::record::{Lifetime, Record};
use super::snapshot::SizeCount;
use super::sync::{AtomicU8, AtomicUsize, Mutex, MutexGuard};
use super::trace::{Change, Event};

/// How much a pool remembers. A block keeps to the level at which it was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracking {
    /// Nothing but [`Stats`](super::Stats).
    #[default]
    Off,
    /// Allocations and releases by size.
    Counts,
    /// Every allocation: id, size, age, owner, thread.
    Records,
    /// Records with backtraces, which takes microseconds per allocation.
    Debug,
}

impl Tracking {
    const ALL: [Self; 4] = [Self::Off, Self::Counts, Self::Records, Self::Debug];

    /// Its name: `off`, `counts`, `records` or `debug`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Counts => "counts",
            Self::Records => "records",
            Self::Debug => "debug",
        }
    }
}

/// Ledgers, a power of two; threads share them by number.
const LEDGERS: u32 = 16;
/// Finished lifetimes that each ledger keeps unless told otherwise.
const HISTORY: usize = 16 << 10;
/// Sizes are counted by their power of two.
pub(super) const SIZES: usize = 48;
/// Samples of the held memory that are kept.
const SAMPLES: usize = 4096;

/// Where a block's record is: the ledger in the low bits, above it 0 for none, 1 for counted only, or the place + 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u32);

impl Ticket {
    pub const NONE: Self = Self(0);

    fn new(ledger: u32, place: Option<u32>) -> Self {
        Self(place.map_or(1, |place| place + 2) * LEDGERS + ledger)
    }

    fn ledger(self) -> u32 {
        self.0 % LEDGERS
    }

    fn place(self) -> Option<u32> {
        (self.0 / LEDGERS).checked_sub(2)
    }
}

/// Allocations and releases of one size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub allocs: u64,
    pub frees: u64,
    pub live_bytes: usize,
}

/// A [`Record`] as it is written: a cache line, with the time as the clock tells it.
#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    bytes: usize,
    capacity: usize,
    owner: &'static str,
    thread: u32,
    born: Moment,
    backtrace: Option<Arc<Backtrace>>,
}

impl Entry {
    fn record(&self, clock: &Clock) -> Record {
        let Self { id, bytes, capacity, owner, thread, born, ref backtrace } = *self;
        Record {
            id,
            bytes,
            capacity,
            owner,
            thread,
            born: clock.since_start(born),
            backtrace: backtrace.clone(),
        }
    }
}

/// What the threads of one ledger remember.
struct Ledger {
    sizes: [Tally; SIZES],
    live: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    next: u64,
    /// What was freed, when, and by which thread.
    finished: VecDeque<(Entry, Moment, u32)>,
    forgotten: u64,
    /// Death of the last lifetime that was forgotten.
    horizon: Moment,
}

#[repr(align(128))]
struct Padded(Latch<Ledger>);

/// The ledgers of a pool.
pub(super) struct Tracker {
    level: AtomicU8,
    history: AtomicUsize,
    clock: Clock,
    ledgers: Box<[Padded]>,
    samples: Mutex<VecDeque<Event>>,
    threads: Mutex<Vec<String>>,
}

/// Everything the ledgers hold, put together.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub sizes: Vec<SizeCount>,
    pub live: Vec<Record>,
    pub finished: Vec<Lifetime>,
    pub forgotten: u64,
    pub horizon: Duration,
}

impl Tracker {
    pub fn new() -> Self {
        Self {
            level: AtomicU8::new(Tracking::Off as u8),
            history: AtomicUsize::new(HISTORY),
            clock: Clock::new(),
            ledgers: (0..LEDGERS).map(|_| Padded(Latch::new(Ledger::new()))).collect(),
            samples: Mutex::default(),
            threads: Mutex::new(vec!["a thread that was ending".to_owned()]),
        }
    }

    #[inline]
    pub fn level(&self) -> Tracking {
        Tracking::ALL[usize::from(self.level.load(Relaxed) & 3)]
    }

    pub fn set_level(&self, level: Tracking) {
        self.level.store(level as u8, Relaxed);
    }

    pub fn set_history(&self, lifetimes: usize) {
        self.history.store(lifetimes.div_ceil(LEDGERS as usize), Relaxed);
    }

    /// Time since the pool was made.
    pub fn now(&self) -> Duration {
        self.clock.since_start(self.clock.now())
    }

    /// Gives a thread its number.
    pub fn enlist(&self, name: Option<&str>) -> u32 {
        let mut threads = lock(&self.threads);
        let number = threads.len() as u32;
        threads.push(name.map_or_else(|| format!("thread {number}"), str::to_owned));
        number
    }

    pub fn threads(&self) -> Vec<String> {
        lock(&self.threads).clone()
    }

    /// Remembers an allocation at a level above `Off`.
    #[inline(never)]
    pub fn allocated(
        &self,
        level: Tracking,
        bytes: usize,
        capacity: usize,
        owner: &'static str,
        thread: u32,
    ) -> Ticket {
        let number = thread % LEDGERS;
        let backtrace = (level == Tracking::Debug).then(|| Arc::new(Backtrace::force_capture()));
        let born = if level >= Tracking::Records { self.clock.now() } else { Moment::default() };
        let mut ledger = self.ledger(number);
        ledger.sizes[size_of(capacity)].allocated(capacity);
        if level < Tracking::Records {
            return Ticket::new(number, None);
        }
        let id = ledger.next * u64::from(LEDGERS) + u64::from(number);
        ledger.next += 1;
        let entry = Entry { id, bytes, capacity, owner, thread, born, backtrace };
        Ticket::new(number, ledger.insert(entry))
    }

    /// Remembers the release of a block with a ticket, by the thread that `thread` tells.
    #[inline(never)]
    pub fn freed(&self, ticket: Ticket, capacity: usize, thread: impl FnOnce() -> u32) {
        let died = if ticket.place().is_some() { self.clock.now() } else { Moment::default() };
        let thread = if ticket.place().is_some() { thread() } else { 0 };
        let mut ledger = self.ledger(ticket.ledger());
        ledger.sizes[size_of(capacity)].freed(capacity);
        if let Some(place) = ticket.place() {
            ledger.remove(place, (died, thread), self.history.load(Relaxed));
        }
    }

    /// Remembers how much was held when the pool went to the system.
    pub fn sample(&self, change: Change) {
        let at = self.now();
        let mut samples = lock(&self.samples);
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(Event { at, device: 0, owner: "", change });
    }

    pub fn samples(&self) -> Vec<Event> {
        lock(&self.samples).iter().cloned().collect()
    }

    pub fn remembered(&self) -> Remembered {
        let ledgers: Vec<_> = (0..LEDGERS).map(|number| self.ledger(number)).collect();
        let mut all = Remembered::default();
        for ledger in &ledgers {
            all.live.extend(ledger.live.iter().flatten().map(|entry| entry.record(&self.clock)));
            all.finished.extend(ledger.finished.iter().map(|(entry, died, thread)| Lifetime {
                record: entry.record(&self.clock),
                died: self.clock.since_start(*died),
                freed_by: *thread,
            }));
            all.forgotten += ledger.forgotten;
            all.horizon = all.horizon.max(self.clock.since_start(ledger.horizon));
        }
        all.sizes = (0..SIZES)
            .filter_map(|size| SizeCount::sum(size, ledgers.iter().map(|l| l.sizes[size])))
            .collect();
        drop(ledgers);
        all.live.sort_unstable_by_key(|record| (record.born, record.id));
        all.finished.sort_unstable_by_key(|lifetime| (lifetime.died, lifetime.record.id));
        all
    }

    fn ledger(&self, number: u32) -> Latched<'_, Ledger> {
        self.ledgers[number as usize].0.lock()
    }
}

impl Ledger {
    fn new() -> Self {
        Self {
            sizes: [Tally::default(); SIZES],
            live: Vec::new(),
            vacant: Vec::new(),
            next: 0,
            finished: VecDeque::new(),
            forgotten: 0,
            horizon: Moment::default(),
        }
    }

    /// The place of the record; none when every place that a ticket can name is taken.
    fn insert(&mut self, entry: Entry) -> Option<u32> {
        if let Some(place) = self.vacant.pop() {
            self.live[place as usize] = Some(entry);
            return Some(place);
        }
        let place = u32::try_from(self.live.len()).ok().filter(|&place| place < u32::MAX / LEDGERS - 2)?;
        self.live.push(Some(entry));
        Some(place)
    }

    fn remove(&mut self, place: u32, (died, thread): (Moment, u32), history: usize) {
        let entry = self.live[place as usize].take().expect("a ticket names a live record");
        self.vacant.push(place);
        while self.finished.len() >= history.max(1) {
            let (_, died, _) = self.finished.pop_front().expect("there are as many as the history keeps");
            self.horizon = self.horizon.max(died);
            self.forgotten += 1;
        }
        let died = died.max(entry.born);
        self.finished.push_back((entry, died, thread));
    }
}

impl Tally {
    fn allocated(&mut self, bytes: usize) {
        self.allocs += 1;
        self.live_bytes += bytes;
    }

    fn freed(&mut self, bytes: usize) {
        self.frees += 1;
        self.live_bytes -= bytes;
    }
}

/// The power of two that holds `bytes`.
fn size_of(bytes: usize) -> usize {
    (bytes.next_power_of_two().trailing_zeros() as usize).min(SIZES - 1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
