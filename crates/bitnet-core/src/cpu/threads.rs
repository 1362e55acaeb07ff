//! A fork-join pool for regions of a few microseconds: a gate to enter by, a count of those who left, spin before sleep.
//!
//! On a busy machine a worker may be off its core when a region begins. Work that any thread can do is claimed part by part, and the
//! caller waits only for those who have entered: a worker that comes too late finds the gate closed.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Checks of a barrier in a row before the thread offers its core to others: some tens of microseconds, longer than the serial
/// code between two regions of a decode step.
const SPINS: usize = 4000;
/// Offers before the thread sleeps until it is woken.
const YIELDS: usize = 100;

/// A team of threads that run the parts of one region at a time. The caller is one of them.
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
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose region runs.
    turn: Mutex<()>,
}

type Part<'a> = dyn Fn(usize) + Sync + 'a;

/// The function of the region that runs; none tells the workers to end.
struct Job(UnsafeCell<Option<&'static Part<'static>>>);

// SAFETY: it is written only while the gate is closed and all who entered have left, and read only by those inside.
unsafe impl Sync for Job {}

struct Shared {
    job: Job,
    /// The number of the region in the high half, [`OPEN`], and below it how many workers have entered.
    gate: Barrier,
    /// Number of workers that have left the region.
    left: Barrier,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Set in the gate while workers may enter.
const OPEN: u64 = 1 << 31;

/// The number of the region of a gate.
fn region(gate: u64) -> u64 {
    gate >> 32
}

thread_local! {
    /// Whether this thread is inside a region, so that another one begun here must run inline.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Threads {
    /// A team of `n` threads, the caller and `n - 1` workers; at least the caller, and fewer where the system
    /// refuses to make more.
    pub fn new(n: usize) -> Self {
        let shared = Arc::new(Shared {
            job: Job(UnsafeCell::new(None)),
            gate: Barrier::default(),
            left: Barrier::default(),
            panic: Mutex::default(),
        });
        let workers = (1..n).map_while(|i| spawn_worker(i, &shared)).collect();
        Self { shared, workers, turn: Mutex::default() }
    }

    /// Number of threads, the caller included.
    #[expect(clippy::len_without_is_empty, reason = "a team is never empty")]
    pub fn len(&self) -> usize {
        self.workers.len() + 1
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
        if self.workers.is_empty() {
            return f(0);
        }
        if INSIDE.get() {
            return (0..self.len()).for_each(f);
        }
        self.region(f, || self.shared.left.wait(|left| left == self.workers.len() as u64));
    }

    /// Runs `f(i)` for every `i` in `0..parts`, each on whichever thread is free, and returns when all are done. The caller does
    /// everything where no other thread comes.
    ///
    /// # Panics
    ///
    /// With the panic of a part; others may be left out then.
    pub fn share(&self, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        if parts <= 1 || self.workers.is_empty() || INSIDE.get() {
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
        self.region(&claim, || 0);
    }

    /// Runs `f` on ranges that cover `0..n`, each on whichever thread is free, and returns when all are done. The first are long, so that
    /// claims are few, the last short, so that all threads end together, even where one of them reads memory more slowly. Cut at
    /// multiples of `grain`, at least one.
    ///
    /// # Panics
    ///
    /// As [`share`](Self::share).
    pub fn share_range(&self, n: usize, grain: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
        if n <= grain || self.workers.is_empty() || INSIDE.get() {
            if n > 0 {
                f(0..n);
            }
            return;
        }
        let next = AtomicUsize::new(0);
        let end = |start: usize| {
            let length = ((n - start) / (2 * self.len())).next_multiple_of(grain).max(grain);
            n.min(start + length)
        };
        let claim = |_| {
            while let Ok(start) = next.fetch_update(Relaxed, Relaxed, |at| (at < n).then(|| end(at))) {
                f(start..end(start));
            }
        };
        self.region(&claim, || 0);
    }

    /// Opens the gate to `f`, runs the caller's part, waits for `enough`, and closes the gate behind the last worker.
    fn region(&self, f: &Part<'_>, enough: impl FnOnce() -> u64) {
        let _turn = lock(&self.turn);
        // SAFETY: only the lifetime changes, and `f` is borrowed until the gate is closed and all who entered have left.
        let job = unsafe { std::mem::transmute::<&Part<'_>, &'static Part<'static>>(f) };
        self.open(Some(job));
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| f(0)));
        INSIDE.set(false);
        enough();
        let entered = self.shared.gate.value.fetch_and(!OPEN, SeqCst) & (OPEN - 1);
        self.shared.left.wait(|left| left == entered);
        let from_worker = lock(&self.shared.panic).take();
        if let Some(payload) = result.err().or(from_worker) {
            resume_unwind(payload);
        }
    }

    fn open(&self, job: Option<&'static Part<'static>>) {
        // SAFETY: the gate is closed and all who entered have left, so that nobody reads the job.
        unsafe { *self.shared.job.0.get() = job };
        self.shared.left.value.store(0, SeqCst);
        let gate = &self.shared.gate;
        let next = region(gate.value.load(SeqCst)) + 1;
        gate.value.store(next << 32 | OPEN, SeqCst);
        gate.wake();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.open(None);
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
    let mut seen = 0;
    loop {
        let gate = shared.gate.wait(|gate| region(gate) != seen);
        seen = region(gate);
        if !shared.enter(gate) {
            continue;
        }
        // SAFETY: this worker is inside until it counts itself as left, so the caller does not write.
        let Some(f) = (unsafe { *shared.job.0.get() }) else { return };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(index))) {
            lock(&shared.panic).get_or_insert(payload);
        }
        shared.left.value.fetch_add(1, SeqCst);
        shared.left.wake();
    }
}

impl Shared {
    /// Enters the region of `gate`, unless it is closed by now.
    fn enter(&self, mut gate: u64) -> bool {
        let wanted = region(gate);
        while region(gate) == wanted && gate & OPEN != 0 {
            match self.gate.value.compare_exchange_weak(gate, gate + 1, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(now) => gate = now,
            }
        }
        false
    }
}

/// A number that threads wait on.
#[derive(Default)]
// Two cache lines, because the prefetcher of x86 fetches pairs.
#[repr(align(128))]
struct Barrier {
    value: AtomicU64,
    sleepers: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
}

impl Barrier {
    /// Waits until the value is `ready` and returns it.
    fn wait(&self, ready: impl Fn(u64) -> bool) -> u64 {
        for round in 0..SPINS + YIELDS {
            let value = self.value.load(SeqCst);
            if ready(value) {
                return value;
            }
            if round < SPINS { spin_loop() } else { thread::yield_now() }
        }
        self.sleep(ready)
    }

    /// Sleeps until the value is `ready`. The sleeper registers before it looks at the value and the waker changes the value
    /// before it looks for sleepers, so one of them always sees the other.
    #[cold]
    fn sleep(&self, ready: impl Fn(u64) -> bool) -> u64 {
        let mut door = lock(&self.door);
        self.sleepers.fetch_add(1, SeqCst);
        loop {
            let value = self.value.load(SeqCst);
            if ready(value) {
                self.sleepers.fetch_sub(1, SeqCst);
                return value;
            }
            door = self.bell.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self) {
        if self.sleepers.load(SeqCst) != 0 {
            // A sleeper holds the door from its look at the value until it hears the bell.
            drop(lock(&self.door));
            self.bell.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
