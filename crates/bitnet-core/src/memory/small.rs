//! Small blocks: size classes cut from slabs, and a cache of them for every thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;

use super::large::{Span, distance, offset};
use super::pool::Shared;
use super::stats::{Counts, Tide};
use super::sync::{Mutex, MutexGuard, thread_local};

/// Largest block that comes from a size class.
pub(super) const SMALL_MAX: usize = 64 << 10;
/// Every class is a multiple of this.
pub(super) const QUANTUM: usize = 64;
/// Number of classes.
const CLASSES: usize = 64;

/// Usual size of a slab; one of a big class holds at least `SLAB_SLOTS`.
const SLAB: usize = 64 << 10;
const SLAB_SLOTS: usize = 4;

/// Most bytes, and most blocks, of one class that a thread keeps.
const CACHE_BYTES: usize = 128 << 10;
const CACHE_BLOCKS: usize = 64;

/// The smallest class that holds `bytes` (1..=`SMALL_MAX`).
///
/// Up to 512 bytes there is a class every 64 bytes, above that eight from a power of two to the next, so that at
/// most an eighth of a block is unused. A multiple of a power of two lands on a class that is also a multiple of it.
pub(super) fn class_of(bytes: usize) -> usize {
    let units = bytes.div_ceil(QUANTUM);
    if units <= 8 {
        return units - 1;
    }
    let octave = (units - 1).ilog2() as usize - 3;
    8 * octave + ((units - 1) >> octave)
}

/// Bytes of a block of the class.
pub(super) fn class_len(class: usize) -> usize {
    if class < 8 {
        return (class + 1) * QUANTUM;
    }
    let octave = class / 8 - 1;
    (class % 8 + 9) * (QUANTUM << octave)
}

/// Bytes of a slab of the class.
pub(super) fn slab_len(class: usize) -> usize {
    SLAB.max(SLAB_SLOTS * class_len(class))
}

/// Blocks of the class that a thread keeps; it trades half of them with the slabs at a time.
fn cache_limit(class: usize) -> usize {
    (CACHE_BYTES / class_len(class)).clamp(2, CACHE_BLOCKS)
}

/// Blocks that a thread fetches when it has none left.
pub(super) fn batch(class: usize) -> usize {
    cache_limit(class) / 2
}

/// A small block that is not in use; its class is known from where it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub start: NonNull<u8>,
    /// Id of the slab.
    pub home: usize,
}

// SAFETY: nothing here follows the pointer; whoever holds the slot owns the bytes.
unsafe impl Send for Slot {}

#[derive(Debug)]
struct Slab {
    span: Span,
    class: usize,
    /// Indices of the slots that are neither in use nor in a thread's cache.
    free: Vec<u32>,
}

impl Slab {
    fn slots(&self) -> usize {
        self.span.len / class_len(self.class)
    }

    fn is_unused(&self) -> bool {
        self.free.len() == self.slots()
    }
}

/// All slabs of a pool.
pub(super) struct Slabs {
    slabs: BTreeMap<usize, Slab>,
    /// For each class, the slabs with a free slot.
    partial: [BTreeSet<usize>; CLASSES],
    next_slab: usize,
}

impl Slabs {
    pub fn new() -> Self {
        Self { slabs: BTreeMap::new(), partial: [const { BTreeSet::new() }; CLASSES], next_slab: 0 }
    }

    /// Makes `span` a slab of the class.
    pub fn add(&mut self, class: usize, span: Span) {
        let mut slab = Slab { span, class, free: Vec::new() };
        slab.free = (0..slab.slots() as u32).rev().collect();
        self.partial[class].insert(self.next_slab);
        self.slabs.insert(self.next_slab, slab);
        self.next_slab += 1;
    }

    /// A free slot of the class, from the oldest slab that has one.
    pub fn take(&mut self, class: usize) -> Option<Slot> {
        let home = *self.partial[class].first()?;
        let slab = self.slabs.get_mut(&home).expect("partial lists name existing slabs");
        let index = slab.free.pop().expect("partial lists name slabs with free slots");
        if slab.free.is_empty() {
            self.partial[class].remove(&home);
        }
        Some(Slot { start: offset(slab.span.start, index as usize * class_len(class)), home })
    }

    /// Takes a slot back. Returns the slab's span when nothing of it is in use and the class has another to go on
    /// with.
    pub fn put(&mut self, slot: Slot) -> Option<Span> {
        let slab = self.slabs.get_mut(&slot.home).expect("a slab is held until its slots are back");
        let class = slab.class;
        slab.free.push((distance(slab.span.start, slot.start) / class_len(class)) as u32);
        self.partial[class].insert(slot.home);
        (slab.is_unused() && self.partial[class].len() > 1).then(|| self.remove(slot.home))
    }

    /// Takes out every slab of which nothing is in use.
    pub fn drain_unused(&mut self) -> Vec<Span> {
        let unused: Vec<usize> =
            self.slabs.iter().filter(|(_, slab)| slab.is_unused()).map(|(&id, _)| id).collect();
        unused.into_iter().map(|id| self.remove(id)).collect()
    }

    fn remove(&mut self, id: usize) -> Span {
        let slab = self.slabs.remove(&id).expect("callers name existing slabs");
        self.partial[slab.class].remove(&id);
        slab.span
    }
}

/// The small blocks one thread keeps of one pool. Only `trim`, `stats` and the end of the thread come from outside,
/// so the lock is almost never contended.
pub(super) struct ThreadCache(Mutex<Bins>);

impl ThreadCache {
    fn new(thread: u32) -> Self {
        Self(Mutex::new(Bins {
            lists: [const { Vec::new() }; CLASSES],
            counts: Counts::default(),
            tide: Tide::default(),
            thread,
            seen: Counts::default(),
        }))
    }

    pub fn lock(&self) -> MutexGuard<'_, Bins> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's blocks by class, and what it counted.
pub(super) struct Bins {
    lists: [Vec<Slot>; CLASSES],
    pub counts: Counts,
    pub tide: Tide,
    /// The thread's number in the pool.
    pub thread: u32,
    /// The counts when a generation last ended.
    seen: Counts,
}

impl Bins {
    pub fn pop(&mut self, class: usize) -> Option<Slot> {
        let slot = self.lists[class].pop();
        self.counts.hits += u64::from(slot.is_some());
        slot
    }

    /// Keeps a freed slot; returns whether there are too many of its class now.
    pub fn push(&mut self, class: usize, slot: Slot) -> bool {
        self.lists[class].push(slot);
        self.counts.frees += 1;
        self.lists[class].len() > cache_limit(class)
    }

    /// Takes out the older half of a class.
    pub fn shed(&mut self, class: usize) -> Vec<Slot> {
        self.lists[class].drain(..batch(class)).collect()
    }

    pub fn extend(&mut self, class: usize, slots: Vec<Slot>) {
        self.lists[class].extend(slots);
    }

    /// Ends a generation: takes everything out if nothing happened in it.
    pub fn drain_if_idle(&mut self) -> Vec<Slot> {
        if self.counts == self.seen {
            return self.drain();
        }
        self.seen = self.counts;
        Vec::new()
    }

    pub fn drain(&mut self) -> Vec<Slot> {
        self.lists.iter_mut().flat_map(std::mem::take).collect()
    }
}

/// This thread's cache of one pool; its end gives everything back.
struct Local {
    pool: Weak<Shared>,
    cache: Arc<ThreadCache>,
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.retire(&self.cache);
        }
    }
}

thread_local! {
    static LOCAL: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` on this thread's cache of the pool; `None` while the thread is ending and has no cache any more.
#[inline]
pub(super) fn with_cache<R>(pool: &Arc<Shared>, f: impl FnOnce(&mut Bins) -> R) -> Option<R> {
    LOCAL
        .try_with(|local| {
            let mut local = local.borrow_mut();
            let known = local.iter().position(|l| Weak::as_ptr(&l.pool) == Arc::as_ptr(pool));
            let index = known.unwrap_or_else(|| enlist(&mut local, pool));
            f(&mut local[index].cache.lock())
        })
        .ok()
}

/// This thread's number in the pool; 0 while the thread is ending.
pub(super) fn thread_number(pool: &Arc<Shared>) -> u32 {
    with_cache(pool, |bins| bins.thread).unwrap_or(0)
}

/// Adds a cache for a pool that this thread has not met, and forgets pools that are gone.
#[cold]
fn enlist(local: &mut Vec<Local>, pool: &Arc<Shared>) -> usize {
    local.retain(|l| l.pool.strong_count() > 0);
    let thread = pool.tracker.enlist(thread::current().name());
    let cache = Arc::new(ThreadCache::new(thread));
    pool.caches().push(Arc::clone(&cache));
    local.push(Local { pool: Arc::downgrade(pool), cache });
    local.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 1..=SMALL_MAX {
            let class = class_of(bytes);
            assert!(class_len(class) >= bytes, "{bytes} bytes in class {class} of {}", class_len(class));
            assert!(class == 0 || class_len(class - 1) < bytes, "{bytes} bytes fit a class below {class}");
        }
        assert_eq!(class_of(SMALL_MAX), CLASSES - 1);
        assert_eq!(class_len(CLASSES - 1), SMALL_MAX);
    }

    #[test]
    fn an_aligned_size_gets_an_aligned_class() {
        for align in (6..=12).map(|power| 1usize << power) {
            for bytes in (align..=SMALL_MAX).step_by(align) {
                assert_eq!(class_len(class_of(bytes)) % align, 0, "{bytes} bytes at {align}");
            }
        }
    }
}
