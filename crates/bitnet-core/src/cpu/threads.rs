//! A fork-join pool for regions of a few microseconds: a gate to enter by, a count of those who left, spin before sleep.
//!
//! On a busy machine a worker may be off its core when a region begins. Work that any thread can do is claimed part by part, and the
//! caller waits only for those who have entered: a worker that comes too late finds the gate closed. A region may be for the first
//! threads of a team alone; the others are left in peace.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Checks of a barrier in a row before the thread offers its core to others: some tens of microseconds, longer than the serial
/// code between two regions of a decode step.
const SPINS: usize = 4000;
/// Offers before the thread sleeps until it is woken.
const YIELDS: usize = 100;

/// A team of threads that run the parts of one region at a time, or the first of such a team. The caller is one of them. Cloning shares
/// the team.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let threads = bitnet_core::cpu::threads::Threads::new(2);
/// let sum = AtomicUsize::new(0);
/// threads.run(&|i| {
///     sum.fetch_add(i + 1, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 3);
/// ```
#[derive(Clone)]
pub struct Threads {
    team: Arc<Team>,
    /// Threads that are used, the caller included.
    len: usize,
}

struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose region runs.
    turn: Mutex<()>,
}

type Part<'a> = dyn Fn(usize) + Sync + 'a;

/// The function of the region that runs; none tells the workers to end.
struct Job(UnsafeCell<Option<&'static Part<'static>>>);

// SAFETY: it is written only while nobody is inside or can enter, and read only by those inside.
unsafe impl Sync for Job {}

struct Shared {
    entrance: Padded<Entrance>,
    /// How often workers have left regions.
    left: Padded<AtomicU64>,
    /// Where each worker sleeps until a region is for it.
    beds: Vec<Padded<Bed>>,
    /// Where the caller sleeps until workers have left.
    bench: Padded<Bed>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What a worker needs to begin, on one line.
struct Entrance {
    /// A [`Gate`].
    gate: AtomicU64,
    job: Job,
}

/// On lines of its own: two, because the prefetcher of x86 fetches pairs.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// The gate to a region, in one word: from the low end how many workers have entered, for how many it is, whether it is open, and the
/// number of the region.
#[derive(Clone, Copy)]
struct Gate(u64);

impl Gate {
    /// Bits of a number of workers.
    const BITS: u32 = 12;
    /// Most workers.
    const MOST: usize = (1 << Self::BITS) - 1;
    /// Set while workers may enter.
    const OPEN: u64 = 1 << (2 * Self::BITS);

    /// The open gate of the next region, for the first `workers`.
    fn next(self, workers: usize) -> Self {
        let region = self.region().wrapping_add(1) << (2 * Self::BITS + 1);
        Self(region | Self::OPEN | (workers as u64) << Self::BITS)
    }

    fn region(self) -> u64 {
        self.0 >> (2 * Self::BITS + 1)
    }

    fn is_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }

    fn workers(self) -> usize {
        (self.0 >> Self::BITS) as usize & Self::MOST
    }

    fn entered(self) -> u64 {
        self.0 & Self::MOST as u64
    }
}

thread_local! {
    /// Whether this thread is inside a region, so that another one begun here must run inline.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Threads {
    /// A team of `n` threads, the caller and `n - 1` workers; at least the caller, and fewer where the system
    /// refuses to make more or where they are thousands.
    pub fn new(n: usize) -> Self {
        let n = n.min(1 + Gate::MOST);
        let shared = Arc::new(Shared {
            entrance: Padded(Entrance { gate: AtomicU64::new(0), job: Job(UnsafeCell::new(None)) }),
            left: Padded::default(),
            beds: (1..n).map(|_| Padded::default()).collect(),
            bench: Padded::default(),
            panic: Mutex::default(),
        });
        let workers: Vec<_> = (1..n).map_while(|i| spawn_worker(i, &shared)).collect();
        let len = workers.len() + 1;
        Self { team: Arc::new(Team { shared, workers, turn: Mutex::default() }), len }
    }

    /// The first `n` threads of the same team: at least the caller, at most all. The others sleep while only these are used.
    #[must_use]
    pub fn first(&self, n: usize) -> Self {
        Self { team: Arc::clone(&self.team), len: n.clamp(1, self.team.workers.len() + 1) }
    }

    /// Number of threads, the caller included.
    #[expect(clippy::len_without_is_empty, reason = "a team is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Runs `f(i)` for every `i` in `0..len()`, one on each thread, and returns when all are done.
    ///
    /// A region begun inside another one runs inline, so parts must not wait for each other. Concurrent callers take
    /// turns.
    ///
    /// # Panics
    ///
    /// With the panic of a part, after all parts are done.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        if self.len == 1 {
            return f(0);
        }
        if INSIDE.get() {
            return (0..self.len).for_each(f);
        }
        self.region(f, true);
    }

    /// Runs `f(i)` for every `i` in `0..parts`, each on whichever thread is free, and returns when all are done. The caller does
    /// everything where no other thread comes.
    ///
    /// # Panics
    ///
    /// With the panic of a part; others may be left out then.
    pub fn share(&self, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        if parts <= 1 || self.len == 1 || INSIDE.get() {
            return (0..parts).for_each(f);
        }
        let next = AtomicUsize::new(0);
        let claim = |_| {
            loop {
                let part = next.fetch_add(1, Relaxed);
                if part >= parts {
                    return;
                }
                f(part);
            }
        };
        self.region(&claim, false);
    }

    /// Runs `f` on ranges that cover `0..n`, each on whichever thread is free, and returns when all are done. The first are long, so that
    /// claims are few, the last short, so that all threads end together, even where one of them reads memory more slowly. Cut at
    /// multiples of `grain`, at least one.
    ///
    /// # Panics
    ///
    /// As [`share`](Self::share).
    pub fn share_range(&self, n: usize, grain: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
        if n <= grain || self.len == 1 || INSIDE.get() {
            if n > 0 {
                f(0..n);
            }
            return;
        }
        let next = AtomicUsize::new(0);
        let end = |start: usize| {
            let length = ((n - start) / (2 * self.len)).next_multiple_of(grain).max(grain);
            n.min(start + length)
        };
        let claim = |_| {
            while let Ok(start) = next.fetch_update(Relaxed, Relaxed, |at| (at < n).then(|| end(at))) {
                f(start..end(start));
            }
        };
        self.region(&claim, false);
    }

    /// Opens the gate to `f`, runs the caller's part, and waits for `everyone`, or closes the gate and waits for those who came.
    fn region(&self, f: &Part<'_>, everyone: bool) {
        let Team { shared, turn, .. } = &*self.team;
        let _turn = lock(turn);
        let workers = self.len - 1;
        // SAFETY: only the lifetime changes, and `f` is borrowed until all who entered have left and nobody can enter.
        let job = unsafe { std::mem::transmute::<&Part<'_>, &'static Part<'static>>(f) };
        let before = shared.left.0.load(SeqCst);
        shared.open(Some(job), workers);
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| f(0)));
        INSIDE.set(false);
        // A gate that everyone has entered, once, need not be closed.
        let entered = if everyone { workers as u64 } else { shared.close().entered() };
        wait(&shared.left.0, &shared.bench.0, |left| left == before.wrapping_add(entered));
        let from_worker = lock(&shared.panic).take();
        if let Some(payload) = result.err().or(from_worker) {
            resume_unwind(payload);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.open(None, self.workers.len());
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker catches the panics of its parts");
        }
    }
}

fn spawn_worker(index: usize, shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    thread::Builder::new().name(format!("bitnet-{index}")).spawn(move || work(index, &shared)).ok()
}

fn work(index: usize, shared: &Shared) {
    INSIDE.set(true);
    let bed = &shared.beds[index - 1].0;
    let mut seen = 0;
    loop {
        // A region for others does not count: its worker goes on to wait, and so to sleep.
        let wanted = |gate| Gate(gate).region() != seen && index <= Gate(gate).workers();
        let gate = Gate(wait(&shared.entrance.0.gate, bed, wanted));
        seen = gate.region();
        if !shared.enter(gate) {
            continue;
        }
        // SAFETY: this worker is inside until it counts itself as left, so the caller does not write.
        let Some(f) = (unsafe { *shared.entrance.0.job.0.get() }) else { return };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(index))) {
            lock(&shared.panic).get_or_insert(payload);
        }
        shared.left.0.fetch_add(1, SeqCst);
        shared.bench.0.wake();
    }
}

impl Shared {
    /// Opens the gate of the next region for the first `workers`.
    fn open(&self, job: Option<&'static Part<'static>>, workers: usize) {
        let Entrance { gate, job: place } = &self.entrance.0;
        // SAFETY: nobody is inside or can enter, so that nobody reads the job.
        unsafe { *place.0.get() = job };
        gate.store(Gate(gate.load(SeqCst)).next(workers).0, SeqCst);
        self.beds[..workers].iter().for_each(|bed| bed.0.wake());
    }

    /// Closes the gate and returns what it was.
    fn close(&self) -> Gate {
        Gate(self.entrance.0.gate.fetch_and(!Gate::OPEN, SeqCst))
    }

    /// Enters the region of `gate`, unless it is closed by now.
    fn enter(&self, mut gate: Gate) -> bool {
        let wanted = gate.region();
        while gate.region() == wanted && gate.is_open() {
            match self.entrance.0.gate.compare_exchange_weak(gate.0, gate.0 + 1, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(now) => gate = Gate(now),
            }
        }
        false
    }
}

/// Waits until the value is `ready` and returns it: awake for a while, then in `bed`.
fn wait(value: &AtomicU64, bed: &Bed, ready: impl Fn(u64) -> bool) -> u64 {
    for round in 0..SPINS + YIELDS {
        let now = value.load(SeqCst);
        if ready(now) {
            return now;
        }
        if round < SPINS { spin_loop() } else { thread::yield_now() }
    }
    bed.sleep(value, ready)
}

/// Where one thread sleeps at a time.
#[derive(Default)]
struct Bed {
    taken: AtomicBool,
    door: Mutex<()>,
    bell: Condvar,
}

impl Bed {
    /// Sleeps until the value is `ready`. The sleeper lies down before it looks at the value and the waker changes the value
    /// before it looks for a sleeper, so one of them always sees the other.
    #[cold]
    fn sleep(&self, value: &AtomicU64, ready: impl Fn(u64) -> bool) -> u64 {
        let mut door = lock(&self.door);
        self.taken.store(true, SeqCst);
        loop {
            let now = value.load(SeqCst);
            if ready(now) {
                self.taken.store(false, SeqCst);
                return now;
            }
            door = self.bell.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self) {
        if self.taken.load(SeqCst) {
            // A sleeper holds the door from its look at the value until it hears the bell.
            drop(lock(&self.door));
            self.bell.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
