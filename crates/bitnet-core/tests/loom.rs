//! What threads share in a pool, run by loom through every order of their steps with at most `PREEMPTIONS` switches that no thread
//! asked for: `RUSTFLAGS="--cfg loom" cargo test --target-dir target/loom -p bitnet-core --test loom`.

#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bitnet_core::memory::{Block, HybridMemoryPool, RawAlloc, RawMem, Result, Tracking};
use loom::cell::UnsafeCell;
use loom::thread::{JoinHandle, spawn};

const KIB: usize = 1 << 10;
/// The largest small block: a thread fetches one and keeps two, and a slab holds four.
const SMALL: usize = 64 * KIB;
const LARGE: usize = 100 * KIB;
const PREEMPTIONS: usize = 4;

/// Makes up addresses and knows what is out. Its own lock is none that loom sees: it orders nothing.
#[derive(Default)]
struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: usize,
    /// Address to length.
    out: BTreeMap<usize, usize>,
}

// SAFETY: every address range is given out once and the memory is never touched.
unsafe impl RawAlloc for Fake {
    fn alloc(&self, bytes: usize, align: usize) -> Result<RawMem> {
        let mut state = self.state.lock().unwrap();
        let start = ((state.next / align + 1) * align) | align;
        state.next = start + bytes;
        state.out.insert(start, bytes);
        let start = NonNull::without_provenance(NonZeroUsize::new(start).unwrap());
        Ok(RawMem { start, len: bytes, align })
    }

    unsafe fn free(&self, mem: RawMem) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.out.remove(&mem.start.addr().get()), Some(mem.len), "freed as allocated");
    }

    fn alignment(&self) -> usize {
        64
    }

    fn host_addressable(&self) -> bool {
        false
    }
}

impl Fake {
    fn held(&self) -> usize {
        self.state.lock().unwrap().out.values().sum()
    }
}

/// A pool over a fake, and what loom sees of the bytes at every address that a block ever had. Loom's threads take turns on one
/// thread of the system, so that they may share an `Rc`.
#[derive(Clone)]
struct Fixture {
    fake: Arc<Fake>,
    pool: HybridMemoryPool,
    bytes: Rc<RefCell<BTreeMap<usize, Rc<UnsafeCell<()>>>>>,
}

/// A block that its owner writes at once and again before it gives it back. Loom fails a model where two writes are in no order.
struct Written {
    _block: Block,
    bytes: Rc<UnsafeCell<()>>,
}

impl Fixture {
    fn new() -> Self {
        let fake = Arc::new(Fake::default());
        let pool = HybridMemoryPool::new(Arc::clone(&fake) as Arc<dyn RawAlloc>);
        Self { fake, pool, bytes: Rc::default() }
    }

    fn with_budget(bytes: usize) -> Self {
        let Self { fake, pool, bytes: written } = Self::new();
        Self { fake, pool: pool.with_budget(bytes), bytes: written }
    }

    fn try_write(&self, bytes: usize) -> Result<Written> {
        let block = self.pool.alloc(bytes)?;
        let mut all = self.bytes.borrow_mut();
        let bytes = all.entry(block.as_ptr().addr()).or_insert_with(|| Rc::new(UnsafeCell::new(())));
        let written = Written { _block: block, bytes: Rc::clone(bytes) };
        written.write();
        Ok(written)
    }

    fn write(&self, bytes: usize) -> Written {
        self.try_write(bytes).unwrap()
    }

    fn spawn<T: 'static>(&self, run: impl FnOnce(Self) -> T + 'static) -> JoinHandle<T> {
        let fixture = self.clone();
        spawn(move || run(fixture))
    }

    /// Nothing is in use, `allocs` allocations were counted, and the pool can give everything back.
    fn settle(&self, allocs: u64) {
        let stats = self.pool.stats();
        assert_eq!((stats.live, stats.live_blocks, stats.hits + stats.misses), (0, 0, allocs), "{stats}");
        assert_eq!(stats.cached, self.fake.held(), "{stats}");
        self.pool.trim(usize::MAX);
        let stats = self.pool.stats();
        assert_eq!((stats.cached, self.fake.held()), (0, 0), "{stats}");
        assert_eq!(stats.system_allocs, stats.system_frees, "{stats}");
    }
}

impl Written {
    fn write(&self) {
        self.bytes.with_mut(|_| {});
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.write();
    }
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 10_000;
    builder.check(model);
}

#[test]
fn two_threads_never_have_the_same_small_block() {
    explore(|| {
        let here = Fixture::new();
        let there = here.spawn(|there| {
            drop(there.write(SMALL));
            let _kept = [there.write(SMALL), there.write(SMALL)];
        });
        drop([here.write(SMALL), here.write(SMALL)]);
        there.join().unwrap();
        here.settle(5);
    });
}

#[test]
fn a_block_may_be_freed_by_another_thread() {
    explore(|| {
        let here = Fixture::new();
        let block = here.write(SMALL);
        let there = here.spawn(|there| {
            drop(block);
            there.write(SMALL)
        });
        let other = here.write(SMALL);
        drop(there.join().unwrap());
        drop(other);
        here.settle(3);
    });
}

#[test]
fn a_trim_leaves_blocks_in_use_alone() {
    explore(|| {
        let here = Fixture::new();
        let there = here.spawn(|there| {
            let _small = there.write(SMALL);
            drop(there.write(LARGE));
            drop(there.write(SMALL));
        });
        here.pool.trim(usize::MAX);
        here.pool.trim(usize::MAX);
        there.join().unwrap();
        here.settle(3);
    });
}

#[test]
fn a_generation_ends_while_another_thread_allocates() {
    explore(|| {
        let here = Fixture::new();
        drop([here.write(SMALL), here.write(LARGE)]);
        let there = here.spawn(|there| drop([there.write(SMALL), there.write(LARGE)]));
        here.pool.trim_generation(0);
        here.pool.trim_generation(0);
        there.join().unwrap();
        here.settle(4);
    });
}

#[test]
fn what_is_counted_fits_together_while_threads_allocate() {
    explore(|| {
        let here = Fixture::new();
        let block = here.write(SMALL);
        let there = here.spawn(|there| {
            drop(block);
            drop(there.write(LARGE));
        });
        let (stats, cut) = (here.pool.stats(), here.pool.fragmentation());
        assert!(stats.live_blocks <= 1 && stats.live <= LARGE.next_multiple_of(4 * KIB), "{stats}");
        assert!(cut.free + cut.slack <= cut.held, "{cut:?}");
        there.join().unwrap();
        here.settle(2);
    });
}

#[test]
fn a_thread_may_end_beside_a_trim() {
    explore(|| {
        let here = Fixture::new();
        let there = here.spawn(|there| drop(there.write(SMALL)));
        here.pool.trim(usize::MAX);
        there.join().unwrap();
        here.settle(1);
    });
}

/// The last handle ends here, the last block there, or the other way round.
#[test]
fn a_pool_without_handles_ends_with_its_last_block() {
    explore(|| {
        let here = Fixture::new();
        let blocks = [here.write(SMALL), here.write(SMALL)];
        let there = here.spawn(|there| {
            drop(there.write(SMALL));
            drop(there);
            drop(blocks);
        });
        let fake = Arc::clone(&here.fake);
        drop(here);
        there.join().unwrap();
        assert_eq!(fake.held(), 0);
    });
}

#[test]
fn a_cache_is_looked_into_while_its_thread_works() {
    explore(|| {
        let here = Fixture::new();
        let there = here.spawn(|there| {
            drop(there.write(SMALL));
            drop([there.write(SMALL), there.write(SMALL)]);
        });
        let before = here.pool.stats();
        here.pool.reset_peak();
        let after = here.pool.stats();
        assert!(before.live <= 2 * SMALL && after.live <= 2 * SMALL, "{before}, {after}");
        assert!(before.hits + before.misses <= after.hits + after.misses, "{before}, {after}");
        there.join().unwrap();
        here.settle(3);
    });
}

#[test]
fn threads_fetch_and_shed_blocks_of_one_slab() {
    explore(|| {
        let here = Fixture::new();
        let there = here.spawn(|there| drop([SMALL; 3].map(|bytes| there.write(bytes))));
        drop([SMALL; 3].map(|bytes| here.write(bytes)));
        there.join().unwrap();
        here.settle(6);
    });
}

#[test]
fn large_blocks_of_two_threads_merge_again() {
    explore(|| {
        let here = Fixture::new();
        let there = here.spawn(|there| {
            drop(there.write(2 * LARGE));
            drop(there.write(LARGE));
        });
        drop([here.write(LARGE), here.write(3 * LARGE)]);
        there.join().unwrap();
        assert_eq!(here.pool.fragmentation().runs, 1);
        here.settle(4);
    });
}

/// Under loom a thread keeps two.
#[test]
fn threads_exchange_large_blocks() {
    explore(|| {
        let here = Fixture::new();
        let there = here.spawn(|there| drop([LARGE; 3].map(|bytes| there.write(bytes))));
        drop(here.write(LARGE));
        there.join().unwrap();
        drop([LARGE; 2].map(|bytes| here.write(bytes)));
        here.settle(6);
    });
}

#[test]
fn a_record_ends_on_whatever_thread_frees_the_block() {
    explore(|| {
        let here = Fixture::new();
        here.pool.set_tracking(Tracking::Records);
        let block = here.write(LARGE);
        let there = here.spawn(|there| {
            drop(block);
            there.write(LARGE)
        });
        drop(here.write(LARGE));
        assert!(here.pool.snapshot().live.len() <= 2);
        drop(there.join().unwrap());
        let snapshot = here.pool.snapshot();
        assert_eq!((snapshot.live.len(), snapshot.finished.len()), (0, 3));
        here.settle(3);
    });
}

#[test]
fn a_reader_keeps_a_block_from_being_moved() {
    explore(|| {
        let pool = HybridMemoryPool::host();
        let (gap, block) = (pool.alloc(LARGE).unwrap(), pool.alloc_movable(LARGE).unwrap());
        block.write().fill(7);
        drop(gap);
        let there = pool.clone();
        let reader = spawn(move || {
            let bytes = block.read();
            there.alloc(LARGE).unwrap().bytes_mut().unwrap().fill(8);
            assert!(bytes.iter().all(|&byte| byte == 7));
        });
        pool.compact(usize::MAX);
        reader.join().unwrap();
        assert_eq!((pool.stats().live, pool.fragmentation().runs), (0, 1));
        pool.trim(usize::MAX);
        assert_eq!(pool.stats().cached, 0);
    });
}

#[test]
fn what_is_cached_is_reclaimed_for_two_threads_at_once() {
    explore(|| {
        let here = Fixture::with_budget(4 * SMALL);
        drop(here.write(SMALL));
        let there = here.spawn(|there| there.write(LARGE));
        let large = here.write(LARGE);
        drop((large, there.join().unwrap()));
        here.settle(3);
    });
}

/// A slab of four, of which a thread fetches two, or all, at a time.
fn fetch_beside_another(bytes: usize) {
    explore(move || {
        let here = Fixture::with_budget(4 * bytes);
        let there = here.spawn(move |there| there.write(bytes));
        let blocks = [(); 3].map(|()| here.write(bytes));
        drop((blocks, there.join().unwrap()));
        here.settle(4);
    });
}

#[test]
fn what_another_thread_fetches_is_not_lost_meanwhile() {
    fetch_beside_another(SMALL / 2);
}

#[test]
fn what_is_reclaimed_is_not_fetched_by_another_thread_first() {
    fetch_beside_another(SMALL / 4);
}

#[test]
fn a_budget_holds_for_all_threads_together() {
    explore(|| {
        let here = Fixture::with_budget(4 * SMALL);
        let there = here.spawn(|there| there.try_write(3 * SMALL).is_ok());
        let fitted = here.try_write(2 * SMALL).is_ok();
        assert!(here.fake.held() <= 4 * SMALL);
        let fitted = u64::from(fitted) + u64::from(there.join().unwrap());
        assert!(fitted > 0);
        here.settle(fitted);
    });
}
