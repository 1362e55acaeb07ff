//! Memory: one pool for the host and for devices.
//!
//! [`HybridMemoryPool`] keeps what is freed and hands it out again. Blocks of up to 64 KiB come from size classes with a
//! cache for every thread, larger ones from the best fitting free run of the regions held, split on allocation and merged with
//! their neighbours on release. [`RawAlloc`] is all that a device owes it. Memory is reached through [`Block`]s, which
//! return on drop, so that a double free, a use after free or a block in the wrong pool cannot be written in safe code.

mod host;
mod large;
mod small;
mod stats;

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, slice};

use large::{Fit, Large, Span};
use small::{QUANTUM, SMALL_MAX, Slabs, Slot, ThreadCache, batch, class_len, class_of, slab_len, with_cache};
use stats::{Counts, Meter};

pub use host::Host;
pub use stats::{Bytes, Stats};

/// Alignment of blocks that ask for none: a cache line, and the widest vector register.
pub const DEFAULT_ALIGN: usize = 64;
/// Largest alignment that a block can ask for: a memory page.
pub const MAX_ALIGN: usize = 4096;

/// Why memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The pool's budget leaves no room, even after everything cached was given back.
    #[error(
        "out of memory: {} wanted, at most {} available (the pool holds {} of its budget)",
        Bytes(*wanted), Bytes(*available), Bytes(*held)
    )]
    OutOfMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes of the largest block that could be had.
        available: usize,
        /// Bytes that the pool holds from the system.
        held: usize,
    },
    /// The system or device gave no memory, even after everything cached was given back.
    #[error("the system refused {} of memory", Bytes(*wanted))]
    Refused {
        /// Bytes asked for.
        wanted: usize,
    },
    /// The alignment is not a power of two in range.
    #[error("alignment: expected a power of two up to {MAX_ALIGN}, got {got}")]
    Alignment {
        /// The alignment asked for.
        got: usize,
    },
}

impl MemoryError {
    /// The same failure in terms of what the caller asked for, instead of the slab or region that was needed for it.
    fn of_request(self, bytes: usize) -> Self {
        match self {
            Self::OutOfMemory { available, held, .. } => Self::OutOfMemory { wanted: bytes, available, held },
            Self::Refused { .. } => Self::Refused { wanted: bytes },
            other => other,
        }
    }
}

/// Result of a memory operation.
pub type Result<T> = std::result::Result<T, MemoryError>;

/// A range of addresses, as the system or a device gives it. A device whose memory has no addresses makes up a range of
/// its own for every allocation and finds the allocation by it.
#[derive(Debug)]
pub struct RawMem {
    /// First byte; on a device, its address there, which the host must not follow.
    pub start: NonNull<u8>,
    /// Bytes.
    pub len: usize,
    /// Alignment it was asked for with.
    pub align: usize,
}

// SAFETY: a `RawMem` owns its memory and follows no pointer.
unsafe impl Send for RawMem {}

/// Where a pool gets its memory from.
///
/// # Safety
///
/// `alloc` returns a range of exactly the size and at least the alignment asked for, that overlaps no other and stays
/// valid until it is passed to `free`. When `host_addressable` is true, `start` points to that memory, all of it
/// initialised, so that safe code may read what nobody wrote.
pub unsafe trait RawAlloc: Send + Sync {
    /// Memory of `bytes` bytes whose start is a multiple of `align`, a power of two.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Refused`] when there is none.
    fn alloc(&self, bytes: usize, align: usize) -> Result<RawMem>;

    /// Gives memory back.
    ///
    /// # Safety
    ///
    /// `mem` came from `alloc` of the same allocator and nothing uses it any more.
    unsafe fn free(&self, mem: RawMem);

    /// The least alignment of a block, a power of two.
    fn alignment(&self) -> usize;

    /// Whether the host can read and write the memory at its addresses.
    fn host_addressable(&self) -> bool;
}

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
pub struct HybridMemoryPool(Arc<Shared>);

/// What the handles and blocks of a pool share. Locks are taken in the order `caches`, one thread's cache, `central`.
struct Shared {
    raw: Arc<dyn RawAlloc>,
    /// Least alignment of a block.
    align: usize,
    meter: Meter,
    caches: Mutex<Vec<Arc<ThreadCache>>>,
    central: Mutex<Central>,
}

/// Everything that is not in a thread's cache.
struct Central {
    large: Large,
    slabs: Slabs,
    counts: Counts,
}

impl HybridMemoryPool {
    /// A pool over an allocator, without a budget.
    pub fn new(raw: Arc<dyn RawAlloc>) -> Self {
        let central =
            Central { large: Large::new(Arc::clone(&raw)), slabs: Slabs::new(), counts: Counts::default() };
        Self(Arc::new(Shared {
            align: raw.alignment().max(QUANTUM),
            raw,
            meter: Meter::default(),
            caches: Mutex::default(),
            central: Mutex::new(central),
        }))
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
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(MemoryError::Alignment { got: align });
        }
        let align = align.max(self.0.align);
        let span = match bytes.checked_add(align - 1).map(|end| end & !(align - 1)) {
            Some(0) => Span { start: dangling(align), len: 0, home: 0 },
            Some(padded @ 1..=SMALL_MAX) => {
                self.0.take_small(class_of(padded)).map_err(|e| e.of_request(bytes))?
            }
            Some(padded) => self.0.take_large(padded).map_err(|e| e.of_request(bytes))?,
            None => return Err(MemoryError::Refused { wanted: bytes }),
        };
        self.0.meter.add(span.len);
        Ok(Block { pool: self.clone(), span, len: bytes })
    }

    /// Gives cached memory back to the system until `bytes` are reached or nothing more can be given, and returns how
    /// many bytes it gave. A region goes back as a whole, once none of it is in use.
    pub fn trim(&self, bytes: usize) -> usize {
        self.0.trim(bytes)
    }

    /// What the pool holds and did so far.
    pub fn stats(&self) -> Stats {
        let caches = self.0.caches();
        // All at once, or a block freed by one thread could be counted before its allocation by another.
        let bins: Vec<_> = caches.iter().map(|cache| cache.lock()).collect();
        let central = self.0.central();
        let mut counts = central.counts;
        bins.iter().for_each(|bins| counts.add(&bins.counts));
        let live = self.0.meter.live();
        Stats {
            live,
            live_blocks: counts.hits + counts.misses - counts.frees,
            peak: self.0.meter.peak(),
            cached: central.large.held - live,
            hits: counts.hits,
            misses: counts.misses,
            system_allocs: central.large.system_allocs,
            system_frees: central.large.system_frees,
        }
    }

    /// Starts the peak again from what is live now.
    pub fn reset_peak(&self) {
        self.0.meter.reset_peak();
    }

    /// Whether the host can read and write this pool's memory.
    pub fn host_addressable(&self) -> bool {
        self.0.raw.host_addressable()
    }
}

impl fmt::Debug for HybridMemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HybridMemoryPool({})", self.stats())
    }
}

impl Shared {
    fn central(&self) -> MutexGuard<'_, Central> {
        self.central.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caches(&self) -> MutexGuard<'_, Vec<Arc<ThreadCache>>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_small(self: &Arc<Self>, class: usize) -> Result<Span> {
        let slot = match with_cache(self, |bins| bins.pop(class)) {
            Some(Some(slot)) => slot,
            Some(None) => self.refill(class, batch(class))?,
            None => self.refill(class, 1)?,
        };
        Ok(Span { start: slot.start, len: class_len(class), home: slot.home })
    }

    /// Fetches `count` slots of the class, one for the caller and the others for this thread's cache.
    #[cold]
    fn refill(self: &Arc<Self>, class: usize, count: usize) -> Result<Slot> {
        let (slot, others) = self.with_reclaim(|central, fit| central.take_small(class, count, fit))?;
        if !others.is_empty() {
            with_cache(self, |bins| bins.extend(class, others));
        }
        Ok(slot)
    }

    fn take_large(&self, bytes: usize) -> Result<Span> {
        self.with_reclaim(|central, fit| central.take_large(bytes, fit))
    }

    fn give_small(self: &Arc<Self>, class: usize, slot: Slot) {
        match with_cache(self, |bins| bins.push(class, slot)) {
            Some(false) => {}
            Some(true) => self.shed(class),
            None => {
                let mut central = self.central();
                central.counts.frees += 1;
                central.put_small(vec![slot]);
            }
        }
    }

    /// Moves half of a class from this thread's cache back to the slabs.
    #[cold]
    fn shed(self: &Arc<Self>, class: usize) {
        if let Some(surplus) = with_cache(self, |bins| bins.shed(class)) {
            self.central().put_small(surplus);
        }
    }

    fn give_large(&self, span: Span) {
        let mut central = self.central();
        central.counts.frees += 1;
        central.large.put(span);
    }

    fn trim(&self, bytes: usize) -> usize {
        let released = self.central().large.release(bytes);
        if released >= bytes {
            return released;
        }
        let cached: Vec<Slot> = self.caches().iter().flat_map(|cache| cache.lock().drain()).collect();
        let mut central = self.central();
        central.put_small(cached);
        for slab in central.slabs.drain_unused() {
            central.large.put(slab);
        }
        released + central.large.release(bytes - released)
    }

    /// Runs `attempt`, and once more with everything cached given back if there was no memory.
    fn with_reclaim<T>(&self, attempt: impl Fn(&mut Central, Fit) -> Result<T>) -> Result<T> {
        let first = attempt(&mut self.central(), Fit::Preferred);
        match first {
            Err(MemoryError::OutOfMemory { .. } | MemoryError::Refused { .. }) => {
                self.trim(usize::MAX);
                attempt(&mut self.central(), Fit::Any)
            }
            done => done,
        }
    }

    /// Takes the blocks and counts of a thread that ends.
    fn retire(&self, cache: &Arc<ThreadCache>) {
        let mut caches = self.caches();
        caches.retain(|other| !Arc::ptr_eq(other, cache));
        let mut bins = cache.lock();
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

/// Where a block of no bytes starts.
fn dangling(align: usize) -> NonNull<u8> {
    NonNull::without_provenance(NonZeroUsize::new(align).expect("an alignment is not zero"))
}

/// Memory from a pool, returned to it on drop.
pub struct Block {
    pool: HybridMemoryPool,
    span: Span,
    len: usize,
}

impl Block {
    /// The first byte: a pointer on the host, an address on a device that has them. Valid for `capacity` bytes, never
    /// null, and shared by nobody else; what is written through it is the business of the block's owner.
    pub fn as_ptr(&self) -> *mut u8 {
        self.span.start.as_ptr()
    }

    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes were asked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes reserved, `len` or a little more; this is what the pool counts as live.
    pub fn capacity(&self) -> usize {
        self.span.len
    }

    /// The pool it returns to.
    pub fn pool(&self) -> &HybridMemoryPool {
        &self.pool
    }

    /// The bytes, where the host can reach them: zeros, or what an earlier block left there.
    pub fn bytes(&self) -> Option<&[u8]> {
        if !self.pool.host_addressable() {
            return None;
        }
        // SAFETY: the block owns `len` addressable bytes from its start, which the allocator handed out initialised.
        Some(unsafe { slice::from_raw_parts(self.as_ptr(), self.len) })
    }

    /// As [`Block::bytes`], to write.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.pool.host_addressable() {
            return None;
        }
        // SAFETY: as in `bytes`, and the block is borrowed mutably.
        Some(unsafe { slice::from_raw_parts_mut(self.as_ptr(), self.len) })
    }
}

// SAFETY: a shared block gives its address away but no access to its bytes without further unsafe code.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        let Span { start, len, home } = self.span;
        self.pool.0.meter.sub(len);
        match len {
            0 => {}
            1..=SMALL_MAX => self.pool.0.give_small(class_of(len), Slot { start, home }),
            _ => self.pool.0.give_large(self.span),
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("ptr", &self.as_ptr()).field("len", &self.len).finish_non_exhaustive()
    }
}
