//! The memory pool over a fake allocator that counts, and over the host's.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bitnet_core::memory::{Block, HybridMemoryPool, MemoryError, RawAlloc, RawMem, Result};
use proptest::prelude::*;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Makes up addresses, counts what is out, and refuses to hold more than `capacity`.
struct Fake {
    capacity: usize,
    alignment: usize,
    state: Mutex<FakeState>,
}

#[derive(Default)]
struct FakeState {
    next: usize,
    /// Address to length and alignment of everything out.
    out: BTreeMap<usize, (usize, usize)>,
    allocs: u64,
    frees: u64,
}

impl Fake {
    fn new() -> Arc<Self> {
        Self::with(usize::MAX, 64)
    }

    fn with(capacity: usize, alignment: usize) -> Arc<Self> {
        Arc::new(Self { capacity, alignment, state: Mutex::default() })
    }

    fn pool(self: &Arc<Self>) -> HybridMemoryPool {
        HybridMemoryPool::new(Arc::clone(self) as Arc<dyn RawAlloc>)
    }

    fn held(&self) -> usize {
        self.state.lock().unwrap().out.values().map(|(len, _)| len).sum()
    }

    fn allocs(&self) -> u64 {
        self.state.lock().unwrap().allocs
    }

    fn frees(&self) -> u64 {
        self.state.lock().unwrap().frees
    }

    /// Whether the bytes lie in one allocation that is out.
    fn owns(&self, start: usize, len: usize) -> bool {
        let state = self.state.lock().unwrap();
        let region = state.out.range(..=start).next_back();
        region.is_some_and(|(&addr, &(region_len, _))| start + len <= addr + region_len)
    }
}

// SAFETY: every address range is given out once and the memory is never touched.
unsafe impl RawAlloc for Fake {
    fn alloc(&self, bytes: usize, align: usize) -> Result<RawMem> {
        if bytes > self.capacity - self.held() {
            return Err(MemoryError::Refused { wanted: bytes });
        }
        let mut state = self.state.lock().unwrap();
        // A gap of one alignment between regions keeps them from merging and makes no better alignment than asked for.
        let start = ((state.next / align + 1) * align) | align;
        state.next = start + bytes;
        state.out.insert(start, (bytes, align));
        state.allocs += 1;
        let start = NonNull::without_provenance(NonZeroUsize::new(start).unwrap());
        Ok(RawMem { start, len: bytes, align })
    }

    unsafe fn free(&self, mem: RawMem) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(
            state.out.remove(&mem.start.addr().get()),
            Some((mem.len, mem.align)),
            "freed as allocated"
        );
        state.frees += 1;
    }

    fn alignment(&self) -> usize {
        self.alignment
    }

    fn host_addressable(&self) -> bool {
        false
    }
}

#[derive(Clone, Debug)]
enum Op {
    Alloc { bytes: usize, align: usize },
    Free(prop::sample::Index),
    Trim(usize),
    ResetPeak,
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = prop_oneof![
        1 => Just(0),
        6 => 1..=64 * KIB,
        3 => 64 * KIB + 1..=MIB,
        2 => MIB..=16 * MIB,
    ];
    let align = (0..=12u32).prop_map(|power| 1 << power);
    prop_oneof![
        12 => (bytes, align).prop_map(|(bytes, align)| Op::Alloc { bytes, align }),
        10 => any::<prop::sample::Index>().prop_map(Op::Free),
        1 => prop_oneof![Just(usize::MAX), 0..8 * MIB].prop_map(Op::Trim),
        1 => Just(Op::ResetPeak),
    ]
}

/// A pool, its blocks, and what it should have counted.
struct Model {
    fake: Arc<Fake>,
    pool: HybridMemoryPool,
    blocks: Vec<Block>,
    /// Start to end of the blocks.
    ranges: BTreeMap<usize, usize>,
    live: usize,
    peak: usize,
    allocated: u64,
}

impl Model {
    fn new(alignment: usize) -> Self {
        let fake = Fake::with(usize::MAX, alignment);
        let pool = fake.pool();
        Self { fake, pool, blocks: Vec::new(), ranges: BTreeMap::new(), live: 0, peak: 0, allocated: 0 }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Alloc { bytes, align } => self.alloc(bytes, align),
            Op::Free(index) if !self.blocks.is_empty() => self.free(index.index(self.blocks.len())),
            Op::Free(_) => {}
            Op::Trim(bytes) => {
                let held = self.fake.held();
                let released = self.pool.trim(bytes);
                assert_eq!(held - self.fake.held(), released);
            }
            Op::ResetPeak => {
                self.pool.reset_peak();
                self.peak = self.live;
            }
        }
        self.check();
    }

    fn alloc(&mut self, bytes: usize, align: usize) {
        let block = self.pool.alloc_aligned(bytes, align).unwrap();
        let (start, capacity) = (block.as_ptr().addr(), block.capacity());
        assert_eq!(block.len(), bytes);
        assert!(capacity >= bytes);
        assert_eq!(start % align.max(self.fake.alignment), 0);
        self.blocks.push(block);
        if bytes == 0 {
            return;
        }
        assert!(self.fake.owns(start, capacity), "a block lies in one region");
        let before = self.ranges.range(..start + capacity).next_back();
        assert!(before.is_none_or(|(_, &end)| end <= start), "blocks do not overlap");
        self.ranges.insert(start, start + capacity);
        self.allocated += 1;
        self.live += capacity;
        self.peak = self.peak.max(self.live);
    }

    fn free(&mut self, index: usize) {
        let block = self.blocks.swap_remove(index);
        self.live -= block.capacity();
        // The address of an empty block means nothing.
        if !block.is_empty() {
            self.ranges.remove(&block.as_ptr().addr());
        }
    }

    fn check(&self) {
        let stats = self.pool.stats();
        assert_eq!(stats.live, self.live);
        assert_eq!(stats.live_blocks, self.ranges.len() as u64);
        assert_eq!(stats.peak, self.peak);
        assert_eq!(stats.held(), self.fake.held());
        assert_eq!(stats.hits + stats.misses, self.allocated);
        assert_eq!((stats.system_allocs, stats.system_frees), (self.fake.allocs(), self.fake.frees()));
        assert_eq!(stats.misses, stats.system_allocs);
    }
}

proptest! {
    #[test]
    fn blocks_never_overlap_and_every_byte_is_accounted_for(
        ops in prop::collection::vec(op(), 1..300),
        alignment in prop_oneof![Just(64), Just(256), Just(64 * KIB)],
    ) {
        let mut model = Model::new(alignment);
        for op in ops {
            model.apply(op);
        }
        while !model.blocks.is_empty() {
            model.free(0);
        }
        model.apply(Op::Trim(usize::MAX));
        prop_assert_eq!(model.pool.stats().cached, 0);
        prop_assert_eq!(model.fake.held(), 0);
    }

    #[test]
    fn what_is_held_never_exceeds_the_budget(
        ops in prop::collection::vec((1..2 * MIB, any::<prop::sample::Index>()), 1..200),
        budget in 64 * KIB..8 * MIB,
    ) {
        let fake = Fake::new();
        let pool = fake.pool().with_budget(budget);
        let mut blocks = Vec::new();
        for (bytes, victim) in ops {
            match pool.alloc(bytes) {
                Ok(block) => blocks.push(block),
                Err(error) => {
                    let MemoryError::OutOfMemory { wanted, available, held } = error else {
                        panic!("the fake never refuses: {error}");
                    };
                    prop_assert_eq!((wanted, held), (bytes, fake.held()));
                    prop_assert!(available < bytes.next_multiple_of(4 * KIB));
                    if !blocks.is_empty() {
                        blocks.swap_remove(victim.index(blocks.len()));
                    }
                }
            }
            prop_assert!(fake.held() <= budget);
        }
    }
}

#[test]
fn freed_memory_is_reused() {
    for bytes in [100, 4 * KIB, 64 * KIB, 100 * KIB, 3 * MIB] {
        let fake = Fake::new();
        let pool = fake.pool();
        let first = pool.alloc(bytes).unwrap().as_ptr();
        let second = pool.alloc(bytes).unwrap();
        assert_eq!(second.as_ptr(), first);
        assert_eq!(fake.allocs(), 1);
    }
}

#[test]
fn a_huge_block_is_one_allocation_of_its_size() {
    let fake = Fake::new();
    let pool = fake.pool();
    let block = pool.alloc(656 * MIB).unwrap();
    assert_eq!(block.capacity(), 656 * MIB);
    assert_eq!((fake.allocs(), fake.held()), (1, 656 * MIB));
}

#[test]
fn neighbours_merge_in_whatever_order_they_are_freed() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let fake = Fake::new();
        let pool = fake.pool();
        drop(pool.alloc(12 * MIB).unwrap());
        let mut parts: Vec<_> = (0..3).map(|_| pool.alloc(4 * MIB).ok()).collect();
        order.into_iter().for_each(|part| parts[part] = None);
        let whole = pool.alloc(12 * MIB).unwrap();
        assert_eq!(fake.allocs(), 1, "{order:?}");
        assert_eq!(whole.capacity(), 12 * MIB);
    }
}

#[test]
fn the_best_fitting_hole_is_taken() {
    let pool = Fake::new().pool();
    let big = pool.alloc(8 * MIB).unwrap();
    let snug = pool.alloc(5 * MIB).unwrap();
    let expected = snug.as_ptr();
    drop((big, snug));
    assert_eq!(pool.alloc(4 * MIB).unwrap().as_ptr(), expected);
}

#[test]
fn a_small_block_does_not_pin_a_big_region() {
    let fake = Fake::new();
    let pool = fake.pool();
    drop(pool.alloc(100 * MIB).unwrap());
    let _small = pool.alloc(100).unwrap();
    assert!(pool.trim(100 * MIB) >= 100 * MIB);
}

#[test]
fn trim_stops_once_enough_is_given_back() {
    let fake = Fake::new();
    let pool = fake.pool();
    drop([pool.alloc(8 * MIB).unwrap(), pool.alloc(8 * MIB).unwrap()]);
    assert_eq!(pool.trim(MIB), 8 * MIB);
    assert_eq!(fake.held(), 8 * MIB);
    assert_eq!(pool.trim(0), 0);
}

#[test]
fn trim_reaches_the_caches_of_other_threads() {
    let fake = Fake::new();
    let pool = fake.pool();
    let (idle, wait_idle) = mpsc::channel();
    let (end, wait_end) = mpsc::channel::<()>();
    let wait_end = Mutex::new(wait_end);
    thread::scope(|scope| {
        scope.spawn(|| {
            drop(pool.alloc(100).unwrap());
            idle.send(()).unwrap();
            wait_end.lock().unwrap().recv().unwrap();
        });
        wait_idle.recv().unwrap();
        pool.trim(usize::MAX);
        assert_eq!(fake.held(), 0);
        end.send(()).unwrap();
    });
}

#[test]
fn a_thread_leaves_its_cache_and_its_counts_to_the_pool() {
    let fake = Fake::new();
    let pool = fake.pool();
    let ended = thread::spawn({
        let pool = pool.clone();
        move || {
            let start = pool.alloc(60 * KIB).unwrap().as_ptr().addr();
            // Fills the class's slab from this thread's cache and from the slab itself.
            let all: Vec<_> = (0..4).map(|_| pool.alloc(60 * KIB).unwrap()).collect();
            drop(all);
            start
        }
    });
    ended.join().unwrap();
    let before = pool.stats();
    assert_eq!((before.hits, before.misses, before.live_blocks), (4, 1, 0));
    let _all: Vec<_> = (0..4).map(|_| pool.alloc(60 * KIB).unwrap()).collect();
    assert_eq!(fake.held(), 4 * MIB, "no second region");
    assert_eq!(pool.stats().hits, 8);
}

#[test]
fn a_block_outlives_its_handle_and_the_thread_that_made_it() {
    let fake = Fake::new();
    let pool = fake.pool();
    let block = thread::spawn(move || pool.alloc(100).unwrap()).join().unwrap();
    assert!(fake.held() > 0);
    drop(block);
    assert_eq!(fake.held(), 0, "the last block takes the pool with it");
}

#[test]
fn a_pool_ends_with_blocks_on_their_way_between_threads() {
    let fake = Fake::new();
    let pool = fake.pool();
    // More than a thread keeps, of blocks from slabs and of others.
    let many = |bytes| (0..80).map(|_| pool.alloc(bytes).unwrap()).collect::<Vec<_>>();
    let blocks = [60 * KIB, MIB].map(many);
    thread::spawn(|| drop(blocks)).join().unwrap();
    drop(pool);
    assert_eq!(fake.held(), 0);
}

#[test]
fn pools_do_not_share_memory() {
    let (one, other) = (Fake::new(), Fake::new());
    let (one_pool, other_pool) = (one.pool(), other.pool());
    drop(one_pool.alloc(100).unwrap());
    let block = other_pool.alloc(100).unwrap();
    assert!(other.owns(block.as_ptr().addr(), 100));
    assert_eq!(other.allocs(), 1);
}

#[test]
fn an_empty_block_costs_nothing() {
    let fake = Fake::new();
    let pool = fake.pool();
    let block = pool.alloc_aligned(0, 4096).unwrap();
    assert_eq!((block.len(), block.capacity(), block.as_ptr().addr() % 4096), (0, 0, 0));
    assert_eq!(fake.allocs(), 0);
    assert_eq!(pool.stats().live_blocks, 0);
}

#[test]
fn impossible_alignments_are_refused() {
    let pool = Fake::new().pool();
    for got in [0, 3, 96, 8192, usize::MAX] {
        assert_eq!(pool.alloc_aligned(64, got).unwrap_err(), MemoryError::Alignment { got });
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for wanted in [usize::MAX, usize::MAX - 4096, isize::MAX as usize + 1] {
        let error = HybridMemoryPool::host().alloc(wanted).unwrap_err();
        assert!(matches!(error, MemoryError::OutOfMemory { .. } | MemoryError::Refused { .. }), "{error}");
    }
}

#[test]
fn the_error_says_how_much_the_budget_leaves() {
    let pool = Fake::new().pool().with_budget(10 * MIB);
    let _held = pool.alloc(6 * MIB).unwrap();
    let error = pool.alloc(5 * MIB).unwrap_err();
    assert_eq!(error, MemoryError::OutOfMemory { wanted: 5 * MIB, available: 4 * MIB, held: 6 * MIB });
    assert_eq!(
        error.to_string(),
        "out of memory: 5.0 MiB wanted, at most 4.0 MiB available (the pool holds 6.0 MiB of its budget)"
    );
    assert_eq!(pool.alloc(4 * MIB).unwrap().capacity(), 4 * MIB);
}

#[test]
fn cached_memory_makes_room_within_the_budget() {
    let fake = Fake::new();
    let pool = fake.pool().with_budget(10 * MIB);
    drop([pool.alloc(5 * MIB).unwrap(), pool.alloc(100).unwrap(), pool.alloc(300 * KIB).unwrap()]);
    let block = pool.alloc(10 * MIB).unwrap();
    assert_eq!((block.capacity(), fake.held()), (10 * MIB, 10 * MIB));
}

#[test]
fn a_budget_can_be_used_to_its_last_page() {
    let pool = Fake::new().pool().with_budget(40 * KIB);
    let blocks: Vec<_> = (0..10).map(|_| pool.alloc(4 * KIB).unwrap()).collect();
    assert_eq!(pool.stats().live, 40 * KIB);
    assert!(pool.alloc(1).is_err());
    drop(blocks);
    assert_eq!(pool.alloc(40 * KIB).unwrap().capacity(), 40 * KIB);
}

#[test]
fn a_device_that_runs_out_gets_its_cached_memory_back_first() {
    let fake = Fake::with(10 * MIB, 256);
    let pool = fake.pool();
    drop(pool.alloc(6 * MIB).unwrap());
    let block = pool.alloc(8 * MIB).unwrap();
    assert_eq!(fake.held(), block.capacity());
    assert_eq!(pool.alloc(3 * MIB).unwrap_err(), MemoryError::Refused { wanted: 3 * MIB });
    assert!(pool.alloc(100 * KIB).is_ok(), "a region smaller than usual");
}

#[test]
fn the_peak_starts_again_from_what_is_live() {
    let pool = Fake::new().pool();
    let kept = pool.alloc(MIB).unwrap();
    drop(pool.alloc(2 * MIB).unwrap());
    assert_eq!(pool.stats().peak, 3 * MIB);
    pool.reset_peak();
    assert_eq!(pool.stats().peak, kept.capacity());
}

#[test]
fn statistics_are_one_line() {
    let pool = Fake::new().pool();
    let _kept = pool.alloc(3 * MIB / 2).unwrap();
    drop(pool.alloc(MIB).unwrap());
    assert_eq!(
        pool.stats().to_string(),
        "live 1.5 MiB in 1 blocks, peak 2.5 MiB, cached 4.0 MiB, 0 hits and 2 misses, system 2 allocs and 0 frees"
    );
}

#[test]
fn device_memory_has_no_host_bytes() {
    assert!(Fake::new().pool().alloc(64).unwrap().bytes().is_none());
}

#[test]
fn host_memory_keeps_what_is_written() {
    let pool = HybridMemoryPool::host();
    let mut blocks: Vec<_> = [1, 100, 5000, 70_000, 2_000_000]
        .into_iter()
        .map(|bytes| pool.alloc_aligned(bytes, 4096).unwrap())
        .collect();
    for (value, block) in blocks.iter_mut().enumerate() {
        write(block, value as u8);
    }
    for (value, block) in blocks.iter_mut().enumerate() {
        assert_eq!(block.as_ptr().addr() % 4096, 0);
        assert!(reads(block, value as u8));
    }
}

#[test]
fn threads_that_exchange_blocks_keep_contents_and_counts_exact() {
    const THREADS: usize = 4;
    const ROUNDS: usize = if cfg!(miri) { 40 } else { 4000 };
    let pool = HybridMemoryPool::host();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<(u8, Block)>()).unzip();
    thread::scope(|scope| {
        for (id, inbox) in receivers.into_iter().enumerate() {
            let next = senders[(id + 1) % THREADS].clone();
            let pool = &pool;
            scope.spawn(move || {
                let mut random = id as u64 + 1;
                for round in 0..ROUNDS {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    // Most sizes are small; every seventh block is large.
                    let bytes = if round % 7 == 0 { random >> 46 } else { random >> 52 } as usize + 1;
                    let mut block = pool.alloc(bytes).unwrap();
                    write(&mut block, round as u8);
                    // A thread that is done takes no more blocks.
                    drop(next.send((round as u8, block)));
                    if round % 500 == 0 {
                        pool.trim(usize::MAX);
                    }
                    for (value, mut block) in inbox.try_iter() {
                        assert!(reads(&mut block, value));
                    }
                }
            });
        }
        drop(senders);
    });
    let stats = pool.stats();
    assert_eq!((stats.live, stats.live_blocks), (0, 0));
    assert_eq!(stats.hits + stats.misses, (THREADS * ROUNDS) as u64);
    assert_eq!(stats.misses, stats.system_allocs);
    assert_eq!(pool.trim(usize::MAX), stats.cached);
    assert_eq!(pool.stats().cached, 0);
    assert_eq!(pool.stats().system_allocs, pool.stats().system_frees);
}

fn write(block: &mut Block, value: u8) {
    block.bytes_mut().unwrap().fill(value);
}

fn reads(block: &mut Block, value: u8) -> bool {
    block.bytes().unwrap().iter().all(|&byte| byte == value)
}
