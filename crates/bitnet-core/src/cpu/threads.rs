//! A fork-join pool for regions of a few microseconds: one start barrier, one end barrier, spin before sleep.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
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

// SAFETY: it is written only while no worker is between its two barriers, and read only between them.
unsafe impl Sync for Job {}

struct Shared {
    job: Job,
    /// Number of regions started.
    started: Barrier,
    /// Number of workers that have not finished the region.
    pending: Barrier,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
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
            started: Barrier::default(),
            pending: Barrier::default(),
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
        let _turn = lock(&self.turn);
        self.start(f);
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| f(0)));
        INSIDE.set(false);
        self.shared.pending.wait(|pending| pending == 0);
        let from_worker = lock(&self.shared.panic).take();
        if let Some(payload) = result.err().or(from_worker) {
            resume_unwind(payload);
        }
    }

    /// Hands `f` to the workers. The caller must wait until none is pending before `f` goes away.
    fn start(&self, f: &Part<'_>) {
        // SAFETY: only the lifetime changes, and `run` keeps `f` borrowed until no worker can call it any more.
        let f = unsafe { std::mem::transmute::<&Part<'_>, &'static Part<'static>>(f) };
        self.post(Some(f));
    }

    fn post(&self, job: Option<&'static Part<'static>>) {
        // SAFETY: no worker is inside a region, so none reads the job.
        unsafe { *self.shared.job.0.get() = job };
        self.shared.pending.set(self.workers.len());
        self.shared.started.add(1);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.post(None);
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
        seen = shared.started.wait(|started| started != seen);
        // SAFETY: the region has started and this worker is still pending, so the caller does not write.
        let Some(f) = (unsafe { *shared.job.0.get() }) else { return };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(index))) {
            lock(&shared.panic).get_or_insert(payload);
        }
        shared.pending.sub(1);
    }
}

/// A number that threads wait on.
#[derive(Default)]
// Two cache lines, because the prefetcher of x86 fetches pairs.
#[repr(align(128))]
struct Barrier {
    value: AtomicUsize,
    sleepers: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
}

impl Barrier {
    /// Sets a value that nobody waits for.
    fn set(&self, value: usize) {
        self.value.store(value, SeqCst);
    }

    fn add(&self, n: usize) {
        self.value.fetch_add(n, SeqCst);
        self.wake();
    }

    fn sub(&self, n: usize) {
        if self.value.fetch_sub(n, SeqCst) == n {
            self.wake();
        }
    }

    /// Waits until the value is `ready` and returns it.
    fn wait(&self, ready: impl Fn(usize) -> bool) -> usize {
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
    fn sleep(&self, ready: impl Fn(usize) -> bool) -> usize {
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
