//! The pool.

use std::fmt;
use std::sync::{Arc, PoisonError};

use super::block::{Source, dangling};
use super::large::{Fit, Fragmentation, Growth, Large, Span};
use super::movable::Registry;
use super::record::Owner;
use super::small::{
    Bins, QUANTUM, SMALL_MAX, Slabs, Slot, ThreadCache, batch, class_len, class_of, slab_len, thread_number,
    with_cache,
};
use super::snapshot::Snapshot;
use super::stats::{Counts, Meter};
use super::sync::{Mutex, MutexGuard};
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
pub struct HybridMemoryPool(pub(super) Arc<Shared>, Arc<[Arc<Anchor>; ANCHORS]>);

/// Keeps a pool alive for the blocks of a thread. Blocks come and go so fast that threads which counted them in one place would wait
/// for its cache line, so that threads have different anchors as long as there are enough.
#[repr(align(128))]
pub(super) struct Anchor(pub Arc<Shared>);

/// Anchors of a pool; threads share them by number.
const ANCHORS: usize = 16;

/// What the handles and blocks of a pool share. Locks are taken in the order `caches`, one thread's cache, `central`.
pub(super) struct Shared {
    pub meter: Meter,
    raw: Arc<dyn RawAlloc>,
    /// Least alignment of a block.
    align: usize,
    pub tracker: Tracker,
    pub movables: Registry,
    caches: Mutex<Vec<Arc<ThreadCache>>>,
    central: Mutex<Central>,
}

/// Everything that is not in a thread's cache.
pub(super) struct Central {
    pub large: Large,
    slabs: Slabs,
    counts: Counts,
}

impl HybridMemoryPool {
    /// A pool over an allocator, without a budget.
    pub fn new(raw: Arc<dyn RawAlloc>) -> Self {
        let central =
            Central { large: Large::new(Arc::clone(&raw)), slabs: Slabs::new(), counts: Counts::default() };
        Self::of(Arc::new(Shared {
            align: raw.alignment().max(QUANTUM),
            raw,
            meter: Meter::default(),
            tracker: Tracker::new(),
            movables: Registry::default(),
            caches: Mutex::default(),
            central: Mutex::new(central),
        }))
    }

    /// A handle of a pool.
    pub(super) fn of(shared: Arc<Shared>) -> Self {
        let anchor = |_| Arc::new(Anchor(Arc::clone(&shared)));
        let anchors = Arc::new(std::array::from_fn(anchor));
        Self(shared, anchors)
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

    fn alloc_owned(&self, bytes: usize, align: usize, owner: Option<&'static str>) -> Result<Block> {
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(MemoryError::Alignment { got: align });
        }
        let align = align.max(self.0.align);
        let (taken, source) = match bytes.checked_add(align - 1).map(|end| end & !(align - 1)) {
            Some(0) => return Ok(Block::empty(self.anchor(0), dangling(align))),
            Some(padded @ 1..=SMALL_MAX) => (self.0.take_small(class_of(padded)), Source::Slab),
            Some(padded) => (self.0.take_large(padded), Source::Region),
            None => return Err(MemoryError::Refused { wanted: bytes }),
        };
        Ok(self.block(taken.map_err(|e| e.of_request(bytes))?, source, bytes, owner))
    }

    /// A block of whole pages from a region, whatever its size.
    pub(super) fn alloc_region(&self, bytes: usize) -> Result<Block> {
        let taken = self.0.take_large(bytes.max(1)).map_err(|e| e.of_request(bytes))?;
        Ok(self.block(taken, Source::Region, bytes, None))
    }

    /// Records a block that was just taken, by a thread of this number.
    fn block(
        &self,
        (span, thread): (Span, u32),
        source: Source,
        bytes: usize,
        owner: Option<&'static str>,
    ) -> Block {
        let ticket = match self.0.tracker.level() {
            Tracking::Off => Ticket::NONE,
            level => self.0.record(level, bytes, span.len, owner, thread),
        };
        Block::new(self.anchor(thread), span, source, bytes, ticket)
    }

    fn anchor(&self, thread: u32) -> Arc<Anchor> {
        Arc::clone(&self.1[thread as usize % ANCHORS])
    }

    /// Gives cached memory back to the system until `bytes` are reached or nothing more can be given, and returns how
    /// many bytes it gave. A region goes back as a whole, once none of it is in use.
    pub fn trim(&self, bytes: usize) -> usize {
        self.0.trim(bytes)
    }

    /// Gives back what no allocation touched for `generations` calls of this function, and returns how many bytes that
    /// was. What is in use again and again between two calls stays, however much it is.
    pub fn trim_generation(&self, generations: u64) -> usize {
        self.0.gather(Bins::drain_if_idle).large.release_older(generations)
    }

    /// How the memory that is held and not in use is cut up.
    pub fn fragmentation(&self) -> Fragmentation {
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
    fn with_all<R>(&self, f: impl FnOnce(&mut [MutexGuard<'_, Bins>], &Central) -> R) -> R {
        let caches = self.caches();
        let mut bins: Vec<_> = caches.iter().map(|cache| cache.lock()).collect();
        let central = self.central();
        f(&mut bins, &central)
    }

    /// A small block, and the number of this thread.
    fn take_small(self: &Arc<Self>, class: usize) -> Result<(Span, u32)> {
        let len = class_len(class);
        let cached = with_cache(self, |bins| {
            let slot = bins.pop(class).or_else(|| self.refill(class, bins))?;
            bins.tide.add(len, &self.meter);
            Some((slot, bins.thread))
        });
        let (slot, thread) = match cached.flatten() {
            Some(taken) => taken,
            None => {
                let (slot, _) = self.with_reclaim(|central, fit| central.take_small(class, 1, fit))?;
                self.meter.add(len);
                (slot, thread_number(self))
            }
        };
        Ok((Span { start: slot.start, len, home: slot.home }, thread))
    }

    /// Fetches slots of the class, one for the caller and the others for its cache, if that takes no reclaim. The cache stays locked, or the
    /// others would for a moment be nowhere that a reclaim looks.
    #[cold]
    fn refill(&self, class: usize, bins: &mut Bins) -> Option<Slot> {
        let fetched = self.watched(|central| central.take_small(class, batch(class), Fit::Preferred));
        let (slot, others) = fetched.ok()?;
        bins.extend(class, others);
        Some(slot)
    }

    /// A large block, and the number of this thread.
    pub fn take_large(self: &Arc<Self>, bytes: usize) -> Result<(Span, u32)> {
        let span = self.with_reclaim(|central, fit| central.take_large(bytes, fit))?;
        let thread = self.settle();
        self.meter.add(span.len);
        Ok((span, thread))
    }

    /// Tells the meter what this thread has not told, so that the peaks around a large block are whole. Returns its number.
    fn settle(self: &Arc<Self>) -> u32 {
        let settle = |bins: &mut Bins| {
            bins.tide.settle(&self.meter);
            bins.thread
        };
        with_cache(self, settle).unwrap_or(0)
    }

    #[cold]
    fn record(
        &self,
        level: Tracking,
        bytes: usize,
        capacity: usize,
        owner: Option<&'static str>,
        thread: u32,
    ) -> Ticket {
        let owner = owner.unwrap_or_else(Owner::current);
        self.tracker.allocated(level, bytes, capacity, owner, thread)
    }

    pub fn give_small(self: &Arc<Self>, class: usize, slot: Slot) {
        let kept = with_cache(self, |bins| {
            bins.tide.sub(class_len(class), &self.meter);
            if bins.push(class, slot) {
                self.shed(class, bins);
            }
        });
        if kept.is_none() {
            self.meter.sub(class_len(class));
            let mut central = self.central();
            central.counts.frees += 1;
            central.put_small(vec![slot]);
        }
    }

    /// Moves half of a class from a cache, which stays locked meanwhile, back to the slabs.
    #[cold]
    fn shed(&self, class: usize, bins: &mut Bins) {
        self.central().put_small(bins.shed(class));
    }

    pub fn give_large(self: &Arc<Self>, span: Span) {
        self.settle();
        self.meter.sub(span.len);
        let mut central = self.central();
        central.counts.frees += 1;
        central.large.put(span);
    }

    fn trim(&self, bytes: usize) -> usize {
        let released = self.central().large.release(bytes);
        if released >= bytes {
            return released;
        }
        released + self.gather(Bins::drain).large.release(bytes - released)
    }

    /// Brings what `drain` takes from every cache back to the slabs, and slabs that nobody uses back to the regions. The caches' list stays
    /// locked meanwhile: a thread that reclaims waits instead of being refused.
    fn gather(&self, drain: impl Fn(&mut Bins) -> Vec<Slot>) -> MutexGuard<'_, Central> {
        let caches = self.caches();
        let slots: Vec<Slot> = caches.iter().flat_map(|cache| drain(&mut cache.lock())).collect();
        let mut central = self.central();
        central.put_small(slots);
        for slab in central.slabs.drain_unused() {
            central.large.put(slab);
        }
        central
    }

    /// Runs `attempt`, and once more with everything cached given back if there was no memory.
    fn with_reclaim<T>(&self, attempt: impl Fn(&mut Central, Fit) -> Result<T>) -> Result<T> {
        match self.watched(|central| attempt(central, Fit::Preferred)) {
            Err(MemoryError::OutOfMemory { .. } | MemoryError::Refused { .. }) => {
                self.trim(usize::MAX);
                self.watched(|central| attempt(central, Fit::Any))
            }
            done => done,
        }
    }

    /// Runs `attempt`, and samples what is held if it went to the system while blocks are recorded.
    fn watched<T>(&self, attempt: impl FnOnce(&mut Central) -> Result<T>) -> Result<T> {
        let mut central = self.central();
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
        central.put_small(bins.drain());
    }
}

impl Central {
    /// Up to `count` slots of the class: one for the caller, the rest for its cache.
    fn take_small(&mut self, class: usize, count: usize, fit: Fit) -> Result<(Slot, Vec<Slot>)> {
        let mut cached = true;
        let slot = match self.slabs.take(class) {
            Some(slot) => slot,
            None => {
                cached = self.add_slab(class, fit)?;
                self.slabs.take(class).expect("a new slab has a free slot")
            }
        };
        self.counts.allocated(cached);
        Ok((slot, (1..count).map_while(|_| self.slabs.take(class)).collect()))
    }

    /// Makes a slab, of a single block where memory is scarce; returns whether it came without a system call.
    fn add_slab(&mut self, class: usize, fit: Fit) -> Result<bool> {
        let bytes = match fit {
            Fit::Preferred => slab_len(class),
            Fit::Any => class_len(class),
        };
        let (span, cached) = self.large.take(bytes, fit)?;
        self.slabs.add(class, span);
        Ok(cached)
    }

    fn put_small(&mut self, slots: Vec<Slot>) {
        for slot in slots {
            if let Some(slab) = self.slabs.put(slot) {
                self.large.put(slab);
            }
        }
    }

    fn take_large(&mut self, bytes: usize, fit: Fit) -> Result<Span> {
        let (span, cached) = self.large.take(bytes, fit)?;
        self.counts.allocated(cached);
        Ok(span)
    }
}
