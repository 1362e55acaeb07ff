//! The pool.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::block::{Body, Source, dangling};
use super::central::Central;
use super::large::{Fit, Fragmentation, Growth};
use super::latch::Latched;
use super::movable::Registry;
use super::record::Owner;
use super::shelf::SHELF_MAX;
use super::small::{
    Bins, Bodies, QUANTUM, SMALL_MAX, ThreadCache, batch, class_of, thread_number, with_last, with_local,
};
use super::snapshot::Snapshot;
use super::stats::Meter;
use super::sync::{AtomicBool, Mutex, MutexGuard};
use super::trace::Change;
use super::tracker::{Ticket, Tracker, Tracking};
use super::{Block, DEFAULT_ALIGN, Host, MAX_ALIGN, MemoryError, RawAlloc, Result, Stats};

/// A cheap handle to a pool of memory; clones share it, and blocks keep it alive.
///
/// ```
/// let pool = bitnet_core::memory::HybridMemoryPool::host();
/// let block = pool.alloc(1000)?;
/// assert_eq!(block.len(), 1000);
/// drop(block);
/// assert_eq!(pool.stats().live, 0);
/// assert!(pool.trim(usize::MAX) > 0);
/// assert_eq!(pool.stats().cached, 0);
/// # Ok::<(), bitnet_core::memory::MemoryError>(())
/// ```
#[derive(Clone)]
pub struct HybridMemoryPool(pub(super) Arc<Handle>);

/// What clones of a handle share. Its end closes the pool: threads keep no more blocks, which would keep the pool.
pub(super) struct Handle(Arc<Shared>);

/// What the handles and blocks of a pool share, blocks in the caches of threads included. Locks are taken in the order `caches`, one
/// thread's cache, `central`.
pub(super) struct Shared {
    pub meter: Meter,
    raw: Arc<dyn RawAlloc>,
    /// Least alignment of a block.
    align: usize,
    /// What large blocks are multiples of.
    granule: usize,
    /// Whether there is no handle any more.
    closed: AtomicBool,
    pub tracker: Tracker,
    pub movables: Registry,
    caches: Mutex<Vec<Arc<ThreadCache>>>,
    central: Mutex<Central>,
}

impl HybridMemoryPool {
    /// A pool over an allocator, without a budget.
    pub fn new(raw: Arc<dyn RawAlloc>) -> Self {
        let central = Central::new(&raw);
        let shared = Arc::new(Shared {
            align: raw.alignment().max(QUANTUM),
            granule: central.large.granule,
            closed: AtomicBool::new(false),
            raw,
            meter: Meter::default(),
            tracker: Tracker::new(),
            movables: Registry::default(),
            caches: Mutex::default(),
            central: Mutex::new(central),
        });
        Self(Arc::new(Handle(shared)))
    }

    /// A pool of host memory.
    pub fn host() -> Self {
        Self::new(Arc::new(Host))
    }

    /// Limits what this pool, and every clone of it, holds from the system to `bytes`, live and cached together.
    #[must_use]
    pub fn with_budget(self, bytes: usize) -> Self {
        self.0.central().large.budget = bytes;
        self
    }

    /// The limit, if there is one.
    pub fn budget(&self) -> Option<usize> {
        Some(self.0.central().large.budget).filter(|&bytes| bytes != usize::MAX)
    }

    /// A block of `bytes` bytes, aligned to [`DEFAULT_ALIGN`], with unspecified contents.
    ///
    /// # Errors
    ///
    /// When the budget or the system has no room, after giving back everything cached.
    pub fn alloc(&self, bytes: usize) -> Result<Block> {
        self.alloc_aligned(bytes, DEFAULT_ALIGN)
    }

    /// A block of `bytes` bytes whose start is a multiple of `align`, with unspecified contents.
    ///
    /// # Errors
    ///
    /// When `align` is not a power of two up to [`MAX_ALIGN`], or as [`alloc`](Self::alloc).
    pub fn alloc_aligned(&self, bytes: usize, align: usize) -> Result<Block> {
        self.alloc_owned(bytes, align, None)
    }

    /// As [`alloc`](Self::alloc), recorded under `owner` instead of the scope of the thread.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    pub fn alloc_tagged(&self, bytes: usize, owner: &'static str) -> Result<Block> {
        self.alloc_owned(bytes, DEFAULT_ALIGN, Some(owner))
    }

    #[inline]
    fn alloc_owned(&self, bytes: usize, align: usize, owner: Option<&'static str>) -> Result<Block> {
        match self.alloc_kept(bytes, align) {
            Some(block) => Ok(block),
            None => self.alloc_any(bytes, align, owner),
        }
    }

    /// A small block that this thread keeps, if nobody records it. Nothing is called here, so that no registers are saved.
    #[inline]
    fn alloc_kept(&self, bytes: usize, align: usize) -> Option<Block> {
        let is_plain = align == DEFAULT_ALIGN && self.0.align == QUANTUM && (1..=SMALL_MAX).contains(&bytes);
        if !is_plain || self.0.tracker.level() != Tracking::Off {
            return None;
        }
        let pop = |cache: &ThreadCache, _| cache.try_lock()?.pop(class_of(bytes));
        let body = with_last(&**self.0, |pool| pool, pop).ok()??;
        Some(Block::new(body, bytes, Ticket::NONE))
    }

    #[inline(never)]
    fn alloc_any(&self, bytes: usize, align: usize, owner: Option<&'static str>) -> Result<Block> {
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(MemoryError::Alignment { got: align });
        }
        let align = align.max(self.0.align);
        let taken = match bytes.checked_add(align - 1).map(|end| end & !(align - 1)) {
            Some(0) => return Ok(Block::empty(&self.0, dangling(align))),
            Some(padded @ 1..=SMALL_MAX) => self.0.take_small(class_of(padded)),
            Some(padded) => self.0.take_large(padded),
            None => return Err(MemoryError::Refused { wanted: bytes }),
        };
        Ok(self.block(taken.map_err(|e| e.of_request(bytes))?, bytes, owner))
    }

    /// A block of whole pages from a region, whatever its size.
    pub(super) fn alloc_region(&self, bytes: usize) -> Result<Block> {
        let taken = self.0.take_large(bytes.max(1)).map_err(|e| e.of_request(bytes))?;
        Ok(self.block(taken, bytes, None))
    }

    /// Records a block that was just taken.
    #[inline]
    fn block(&self, body: Box<Body>, bytes: usize, owner: Option<&'static str>) -> Block {
        let ticket = match self.0.tracker.level() {
            Tracking::Off => Ticket::NONE,
            level => self.0.record(level, bytes, body.span.len, owner),
        };
        Block::new(body, bytes, ticket)
    }

    /// Gives cached memory back to the system until `bytes` are reached or nothing more can be given, and returns how
    /// many bytes it gave. A region goes back as a whole, once none of it is in use.
    pub fn trim(&self, bytes: usize) -> usize {
        self.0.trim(bytes)
    }

    /// Gives back what no allocation touched for `generations` calls of this function, and returns how many bytes that
    /// was. What is in use again and again between two calls stays, however much it is.
    pub fn trim_generation(&self, generations: u64) -> usize {
        self.0.gather(Bins::drain_if_idle).with_unused_slabs().release_older(generations)
    }

    /// How the memory that is held and not in use is cut up, after threads gave the large blocks they keep to be merged.
    pub fn fragmentation(&self) -> Fragmentation {
        drop(self.0.gather(Bins::drain_large));
        self.0.with_all(|bins, central| {
            let [live, _] = self.0.meter.read(bins.iter().map(|bins| &bins.tide));
            central.large.fragmentation(live)
        })
    }

    /// Chooses how much is remembered about the blocks allocated from now on.
    pub fn set_tracking(&self, level: Tracking) {
        self.0.tracker.set_level(level);
    }

    /// How much is remembered about blocks.
    pub fn tracking(&self) -> Tracking {
        self.0.tracker.level()
    }

    /// Keeps about the last `lifetimes` finished allocations, at most 262,144 without this.
    pub fn set_history(&self, lifetimes: usize) {
        self.0.tracker.set_history(lifetimes);
    }

    /// All that is remembered. Taking it while other threads allocate gives a moment that lies between its parts.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(self)
    }

    /// What the pool holds and did so far.
    pub fn stats(&self) -> Stats {
        self.0.with_all(|bins, central| {
            let mut counts = central.counts;
            bins.iter().for_each(|bins| counts.add(&bins.counts));
            let [live, peak] = self.0.meter.read(bins.iter().map(|bins| &bins.tide));
            Stats {
                live,
                live_blocks: counts.hits + counts.misses - counts.frees,
                peak,
                cached: central.large.held - live,
                hits: counts.hits,
                misses: counts.misses,
                system_allocs: central.large.system_allocs,
                system_frees: central.large.system_frees,
            }
        })
    }

    /// Starts the peak again from what is live now.
    pub fn reset_peak(&self) {
        self.0.with_all(|bins, _| {
            bins.iter_mut().for_each(|bins| bins.tide.settle(&self.0.meter));
            self.0.meter.reset_peak();
        });
    }

    /// Whether the host can read and write this pool's memory.
    pub fn host_addressable(&self) -> bool {
        self.0.host_addressable()
    }
}

impl fmt::Debug for HybridMemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HybridMemoryPool({})", self.stats())
    }
}

impl Deref for Handle {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
        self.trim(usize::MAX);
    }
}

/// Gives a small block that was in use and that nobody recorded to the cache of this thread, if there is room for it; else it comes back.
/// Nothing is called here, as in `alloc_kept`.
#[inline]
pub(super) fn give_kept(body: Box<Body>) -> Option<Box<Body>> {
    let Source::Slab(class) = body.source else { return Some(body) };
    let push = |cache: &ThreadCache, body: Box<Body>| match cache.try_lock() {
        // Whoever closes the pool looks into every cache after it said so.
        Some(mut bins) if !body.pool().closed.load(Relaxed) => bins.push(usize::from(class), body),
        _ => Some(body),
    };
    with_last(body, |body| body.pool(), push).unwrap_or_else(Some)
}

/// Gives a block that was in use to the cache of this thread, unless it is too large or the thread or the pool is ending.
pub(super) fn give(body: Box<Body>) {
    match with_local(body, |body| body.pool(), keep) {
        Ok(None) => {}
        Ok(Some(body)) | Err(body) => give_uncached(body),
    }
}

/// Puts a block into the cache, unless it is too large or the pool is ending.
#[inline]
fn keep(cache: &ThreadCache, body: Box<Body>) -> Option<Box<Body>> {
    let pool = body.pool();
    let mut bins = cache.lock();
    // Whoever closes the pool looks into every cache after it said so.
    if pool.closed.load(Relaxed) {
        return Some(body);
    }
    let Source::Slab(class) = body.source else {
        return keep_large(&mut bins, body);
    };
    let class = usize::from(class);
    let body = bins.push(class, body)?;
    let pool = body.pool();
    let shed = bins.make_room(class, &pool.meter);
    if !shed.is_empty() {
        pool.central().store(class, shed);
    }
    bins.push(class, body)
}

#[inline(never)]
fn keep_large(bins: &mut Bins, body: Box<Body>) -> Option<Box<Body>> {
    if body.span.len > SHELF_MAX {
        return Some(body);
    }
    bins.tide.sub(body.span.len, &body.pool().meter);
    let shed = bins.put_large(body);
    if let Some(pool) = shed.first().map(|body| Arc::clone(body.pool())) {
        pool.central().store_large(shed);
    }
    None
}

/// Gives a block that was in use back to its slab or region.
#[cold]
fn give_uncached(mut body: Box<Body>) {
    let Some(pool) = body.leave() else { return };
    let len = body.span.len;
    if with_local(&pool, |pool| pool, |cache, pool| cache.lock().tide.sub(len, &pool.meter)).is_err() {
        pool.meter.sub(len);
    }
    let mut central = pool.central();
    central.counts.frees += 1;
    central.put(body);
}

impl Shared {
    pub fn central(&self) -> MutexGuard<'_, Central> {
        self.central.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn caches(&self) -> MutexGuard<'_, Vec<Arc<ThreadCache>>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn host_addressable(&self) -> bool {
        self.raw.host_addressable()
    }

    /// Runs `f` on every cache and on the rest, all of them locked, or a block freed by one thread could be counted before its
    /// allocation by another.
    fn with_all<R>(&self, f: impl FnOnce(&mut [Latched<'_, Bins>], &Central) -> R) -> R {
        let caches = self.caches();
        let mut bins: Vec<_> = caches.iter().map(|cache| cache.lock()).collect();
        let central = self.central();
        f(&mut bins, &central)
    }

    #[inline]
    fn take_small(self: &Arc<Self>, class: usize) -> Result<Box<Body>> {
        let take = |bins: &mut Bins| {
            bins.pop(class).or_else(|| {
                bins.tide.settle(&self.meter);
                bins.pop(class).or_else(|| self.refill(class, bins))
            })
        };
        match self.take_cached(take) {
            Some(taken) => Ok(taken),
            None => self.take_uncached(class),
        }
    }

    /// A block of this thread's cache by way of `take`.
    #[inline]
    fn take_cached(self: &Arc<Self>, take: impl FnOnce(&mut Bins) -> Option<Box<Body>>) -> Option<Box<Body>> {
        with_local(self, |pool| pool, |cache, _| take(&mut cache.lock())).ok().flatten()
    }

    /// A small block from the slabs, for which everything cached may be given back.
    #[cold]
    fn take_uncached(self: &Arc<Self>, class: usize) -> Result<Box<Body>> {
        let (body, _) = self.with_reclaim(|central, fit| central.take_small(class, 1, fit))?;
        self.count(body.span.len);
        Ok(body.of(self))
    }

    /// Fetches blocks of the class, one for the caller and the others for its cache, if the memory for them is held. The cache stays
    /// locked, or the others would for a moment be nowhere that a reclaim looks.
    #[cold]
    fn refill(self: &Arc<Self>, class: usize, bins: &mut Bins) -> Option<Box<Body>> {
        let (body, others) = self.central().take_small(class, batch(class), Fit::Held).ok()?;
        bins.extend(class, others.into_iter().map(|body| body.of(self)));
        bins.tide.add(body.span.len, &self.meter);
        Some(body.of(self))
    }

    #[inline(never)]
    fn take_large(self: &Arc<Self>, bytes: usize) -> Result<Box<Body>> {
        let kept = bytes.checked_next_multiple_of(self.granule).filter(|&len| len <= SHELF_MAX);
        if let Some(len) = kept
            && let Some(body) = self.take_cached(|bins| bins.take_large(len, &self.meter))
        {
            return Ok(body);
        }
        let body = self.with_reclaim(|central, fit| central.take_large(bytes, fit))?;
        self.count(body.span.len);
        Ok(body.of(self))
    }

    /// Counts bytes that were taken elsewhere than from a cache, with those that this thread has not told: around a large block the peaks
    /// are whole.
    fn count(self: &Arc<Self>, bytes: usize) {
        if with_local(self, |pool| pool, |cache, _| cache.lock().tide.add(bytes, &self.meter)).is_err() {
            self.meter.add(bytes);
        }
    }

    #[cold]
    fn record(
        self: &Arc<Self>,
        level: Tracking,
        bytes: usize,
        capacity: usize,
        owner: Option<&'static str>,
    ) -> Ticket {
        let owner = owner.unwrap_or_else(Owner::current);
        self.tracker.allocated(level, bytes, capacity, owner, thread_number(self))
    }

    fn trim(&self, bytes: usize) -> usize {
        let released = self.central().large.release(bytes);
        if released >= bytes {
            return released;
        }
        released + self.gather(Bins::drain).with_unused_slabs().release(bytes - released)
    }

    /// Brings what `drain` takes from every cache, and what is on its way from one to another, back to the slabs and regions. All caches stay
    /// locked until these are: what is gathered can then be had, and no thread fetches it in between. The caches' list stays locked meanwhile:
    /// a thread that reclaims waits instead of being refused.
    fn gather(&self, drain: impl Fn(&mut Bins) -> Bodies) -> MutexGuard<'_, Central> {
        let caches = self.caches();
        let mut bins: Vec<_> = caches.iter().map(|cache| cache.lock()).collect();
        let blocks = bins.iter_mut().flat_map(|bins| drain(bins)).collect();
        let mut central = self.central();
        central.put_all(blocks);
        central.put_stored();
        central
    }

    /// Runs `attempt` on what is held, then with the system's help after threads gave the large blocks they keep, and once more with
    /// everything cached given back if there was no memory.
    fn with_reclaim<T>(&self, attempt: impl Fn(&mut Central, Fit) -> Result<T>) -> Result<T> {
        if let Ok(done) = attempt(&mut self.central(), Fit::Held) {
            return Ok(done);
        }
        match self.watched(self.gather(Bins::drain_large), |central| attempt(central, Fit::Preferred)) {
            Err(MemoryError::OutOfMemory { .. } | MemoryError::Refused { .. }) => {
                let mut central = self.gather(Bins::drain);
                central.with_unused_slabs().release(usize::MAX);
                self.watched(central, |central| attempt(central, Fit::Any))
            }
            done => done,
        }
    }

    /// Runs `attempt`, and samples what is held if it went to the system while blocks are recorded.
    fn watched<T>(
        &self,
        mut central: MutexGuard<'_, Central>,
        attempt: impl FnOnce(&mut Central) -> Result<T>,
    ) -> Result<T> {
        let calls = central.large.system_allocs;
        let done = attempt(&mut central);
        if central.large.system_allocs > calls && self.tracker.level() >= Tracking::Records {
            let Growth { wanted, got, free, largest_free } = central.large.last_growth();
            self.tracker.sample(Change::Grow { wanted, got, free, largest_free, held: central.large.held });
        }
        done
    }

    /// Takes the blocks and counts of a thread that ends.
    pub fn retire(&self, cache: &Arc<ThreadCache>) {
        let mut caches = self.caches();
        caches.retain(|other| !Arc::ptr_eq(other, cache));
        let mut bins = cache.lock();
        bins.tide.settle(&self.meter);
        let mut central = self.central();
        central.counts.add(&std::mem::take(&mut bins.counts));
        central.put_all(bins.drain());
    }
}
