//! Small blocks: size classes cut from slabs, and a cache of them for every thread.

use std::array;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ptr;
use std::sync::{Arc, Weak};
use std::thread;

use super::block::{Body, Source};
use super::large::{Span, offset};
use super::latch::{Latch, Latched};
use super::pool::Shared;
use super::shelf::Shelf;
use super::stats::{Counts, Meter, Tide};
use super::sync::thread_local;

/// Largest block that comes from a size class.
pub(super) const SMALL_MAX: usize = 64 << 10;
/// Every class is a multiple of this.
pub(super) const QUANTUM: usize = 64;
/// Number of classes.
pub(super) const CLASSES: usize = 64;

/// Usual size of a slab; one of a big class holds at least `SLAB_SLOTS`.
const SLAB: usize = 64 << 10;
const SLAB_SLOTS: usize = 4;

/// Most bytes, and most blocks, of one class that a thread keeps; less under loom, which has to see them exchanged.
const CACHE_BYTES: usize = if cfg!(loom) { 128 << 10 } else { 1 << 20 };
const CACHE_BLOCKS: usize = 64;

/// The smallest class that holds `bytes` (1..=`SMALL_MAX`).
///
/// Up to 512 bytes there is a class every 64 bytes, above that eight from a power of two to the next, so that at
/// most an eighth of a block is unused. A multiple of a power of two lands on a class that is also a multiple of it.
#[inline]
pub(super) fn class_of(bytes: usize) -> usize {
    usize::from(CLASS_OF[(bytes - 1) / QUANTUM])
}

/// By the quanta below the last one that a block needs.
static CLASS_OF: [u8; SMALL_MAX / QUANTUM] = {
    let mut classes = [0; SMALL_MAX / QUANTUM];
    let mut below = 0;
    while below < classes.len() {
        let octave = if below < 8 { 0 } else { below.ilog2() as usize - 3 };
        classes[below] = (8 * octave + (below >> octave)) as u8;
        below += 1;
    }
    classes
};

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

/// Blocks of the class that a thread keeps; it gives and fetches half of them at a time.
fn cache_limit(class: usize) -> usize {
    (CACHE_BYTES / class_len(class)).clamp(2, CACHE_BLOCKS)
}

/// Blocks that a thread fetches when it has none left.
pub(super) fn batch(class: usize) -> usize {
    cache_limit(class) / 2
}

/// Small blocks that are not in use; their boxes go to and fro between slabs, caches and blocks.
pub(super) type Bodies = Vec<Box<Body>>;

struct Slab {
    span: Span,
    class: usize,
    /// Blocks that were given back.
    free: Bodies,
    /// Blocks that were ever taken: those from the start on.
    begun: usize,
}

impl Slab {
    /// A block that is neither in use nor in a thread's cache; `id` is the slab's.
    fn take(&mut self, id: usize) -> Option<Box<Body>> {
        self.free.pop().or_else(|| {
            let len = class_len(self.class);
            let at = self.begun * len;
            (at + len <= self.span.len).then(|| {
                self.begun += 1;
                let span = Span { start: offset(self.span.start, at), len, home: id };
                Body::new(span, Source::Slab(self.class as u8))
            })
        })
    }

    fn is_empty(&self) -> bool {
        self.free.is_empty() && (self.begun + 1) * class_len(self.class) > self.span.len
    }

    fn is_unused(&self) -> bool {
        self.free.len() == self.begun
    }
}

/// All slabs of a pool.
pub(super) struct Slabs {
    /// By number; `None` where one was taken out.
    slabs: Vec<Option<Slab>>,
    /// For each class, the slabs with a free block.
    partial: [BTreeSet<usize>; CLASSES],
    /// Numbers that are free again.
    vacant: BTreeSet<usize>,
}

impl Slabs {
    pub fn new() -> Self {
        Self { slabs: Vec::new(), partial: [const { BTreeSet::new() }; CLASSES], vacant: BTreeSet::new() }
    }

    /// Makes `span` a slab of the class.
    pub fn add(&mut self, class: usize, span: Span) {
        let id = self.vacant.pop_first().unwrap_or_else(|| {
            self.slabs.push(None);
            self.slabs.len() - 1
        });
        self.partial[class].insert(id);
        self.slabs[id] = Some(Slab { span, class, free: Vec::new(), begun: 0 });
    }

    /// A free block of the class, from the first slab that has one.
    pub fn take(&mut self, class: usize) -> Option<Box<Body>> {
        let home = *self.partial[class].first()?;
        let slab = self.slabs[home].as_mut().expect("partial lists name existing slabs");
        let body = slab.take(home).expect("partial lists name slabs with free blocks");
        if slab.is_empty() {
            self.partial[class].remove(&home);
        }
        Some(body)
    }

    /// Takes a block back. Returns the slab's span when nothing of it is in use and the class has another to go on
    /// with.
    pub fn put(&mut self, mut body: Box<Body>) -> Option<Span> {
        let home = body.span.home;
        let slab = self.slabs[home].as_mut().expect("a slab is held until its blocks are back");
        let class = slab.class;
        if slab.is_empty() {
            self.partial[class].insert(home);
        }
        body.leave();
        slab.free.push(body);
        (slab.is_unused() && self.partial[class].len() > 1).then(|| self.remove(home))
    }

    /// Takes out every slab of which nothing is in use.
    pub fn drain_unused(&mut self) -> Vec<Span> {
        let is_unused = |slab: &Option<Slab>| slab.as_ref().is_some_and(Slab::is_unused);
        let unused: Vec<usize> = (0..self.slabs.len()).filter(|&id| is_unused(&self.slabs[id])).collect();
        unused.into_iter().map(|id| self.remove(id)).collect()
    }

    fn remove(&mut self, id: usize) -> Span {
        let slab = self.slabs[id].take().expect("callers name existing slabs");
        self.partial[slab.class].remove(&id);
        self.vacant.insert(id);
        slab.span
    }
}

/// The blocks one thread keeps of one pool. Only what is rare comes from outside, `trim`, `stats`, a pool that
/// grows, so the lock is almost never contended.
pub(super) struct ThreadCache {
    bins: Latch<Bins>,
    /// The thread's number in the pool.
    thread: u32,
}

impl ThreadCache {
    #[inline]
    pub fn lock(&self) -> Latched<'_, Bins> {
        self.bins.lock()
    }

    #[inline]
    pub fn try_lock(&self) -> Option<Latched<'_, Bins>> {
        self.bins.try_lock()
    }
}

/// A thread's small blocks by class, its large ones, and what it counted.
pub(super) struct Bins {
    bins: [Bin; CLASSES],
    shelf: Shelf,
    pub counts: Counts,
    pub tide: Tide,
    /// The counts when a generation last ended.
    seen: Counts,
}

/// A thread's blocks of one class, the oldest first.
struct Bin {
    /// Has `limit` places once there was no room for one.
    blocks: Bodies,
    limit: u32,
    /// Bytes of a block.
    len: u32,
}

impl Bin {
    fn new(class: usize) -> Self {
        Self { blocks: Vec::new(), limit: cache_limit(class) as u32, len: class_len(class) as u32 }
    }
}

impl Bins {
    fn new() -> Self {
        Self {
            bins: array::from_fn(Bin::new),
            shelf: Shelf::default(),
            counts: Counts::default(),
            tide: Tide::default(),
            seen: Counts::default(),
        }
    }

    /// A block of the class, unless there is none or what was counted has to be told first. What is known without it is not looked up in
    /// it, which would wait for memory.
    #[inline]
    pub fn pop(&mut self, class: usize) -> Option<Box<Body>> {
        let bin = &mut self.bins[class];
        let tide = self.tide.risen(bin.len as isize)?;
        let block = bin.blocks.pop()?;
        self.tide = tide;
        self.counts.hits += 1;
        Some(block)
    }

    /// Keeps a block that is freed; gives it back where there is no room or what was counted has to be told first.
    #[inline]
    pub fn push(&mut self, class: usize, body: Box<Body>) -> Option<Box<Body>> {
        let bin = &mut self.bins[class];
        match self.tide.fallen(bin.len as isize) {
            Some(tide) if bin.blocks.len() < bin.blocks.capacity() => {
                bin.blocks.push(body);
                self.tide = tide;
                self.counts.frees += 1;
                None
            }
            _ => Some(body),
        }
    }

    /// A large block of exactly `len` bytes.
    #[inline]
    pub fn take_large(&mut self, len: usize, meter: &Meter) -> Option<Box<Body>> {
        let block = self.shelf.take(len)?;
        self.counts.hits += 1;
        self.tide.add(len, meter);
        Some(block)
    }

    /// Keeps a large block that is freed; returns those for which there is no more room.
    #[inline]
    pub fn put_large(&mut self, body: Box<Body>) -> Bodies {
        self.counts.frees += 1;
        self.shelf.put(body)
    }

    /// Makes room for another block of the class, and tells what was counted; returns those that have to go, the older half.
    pub fn make_room(&mut self, class: usize, meter: &Meter) -> Bodies {
        self.tide.settle(meter);
        let Bin { blocks, limit, .. } = &mut self.bins[class];
        let limit = *limit as usize;
        blocks.reserve_exact(limit.saturating_sub(blocks.len()));
        if blocks.len() < limit { Bodies::new() } else { blocks.drain(..batch(class)).collect() }
    }

    /// Takes blocks that were not in use.
    pub fn extend(&mut self, class: usize, blocks: impl Iterator<Item = Box<Body>>) {
        self.bins[class].blocks.extend(blocks);
    }

    /// Ends a generation: takes everything out if nothing happened in it.
    pub fn drain_if_idle(&mut self) -> Bodies {
        if self.counts == self.seen {
            return self.drain();
        }
        self.seen = self.counts;
        Vec::new()
    }

    pub fn drain_large(&mut self) -> Bodies {
        self.shelf.drain()
    }

    pub fn drain(&mut self) -> Bodies {
        let small = self.bins.iter_mut().flat_map(|bin| std::mem::take(&mut bin.blocks));
        small.chain(self.shelf.drain()).collect()
    }
}

/// This thread's cache of one pool; its end gives everything back.
struct Local {
    pool: Weak<Shared>,
    /// Where the pool is, which no other can be while this knows it.
    at: *const Shared,
    cache: Arc<ThreadCache>,
}

impl Drop for Local {
    fn drop(&mut self) {
        Last::set(Last::NONE);
        if let Some(pool) = self.pool.upgrade() {
            pool.retire(&self.cache);
        }
    }
}

/// The pool that this thread came to last, which is nearly always the one that it comes to next, and its cache of it.
#[derive(Clone, Copy)]
struct Last {
    pool: *const Shared,
    cache: *const ThreadCache,
}

thread_local! {
    static LOCALS: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    static LAST: Cell<Last> = const { Cell::new(Last::NONE) };
}

impl Last {
    const NONE: Self = Self { pool: ptr::null(), cache: ptr::null() };

    /// This thread's cache of the pool; null unless it came to that last.
    #[inline]
    fn cache_of(pool: &Arc<Shared>) -> *const ThreadCache {
        let last = Self::get();
        if last.pool == Arc::as_ptr(pool) { last.cache } else { ptr::null() }
    }

    #[inline]
    fn get() -> Self {
        LAST.try_with(Cell::get).unwrap_or(Self::NONE)
    }

    fn set(last: Self) {
        // Where there is no place for it any more, nobody looks for it.
        _ = LAST.try_with(|at| at.set(last));
    }
}

/// Runs `f` on this thread's cache of the subject's pool, and on the subject, which comes back while the thread is ending and has no cache
/// any more. `f` may not come back here.
#[inline]
pub(super) fn with_local<S, R>(
    subject: S,
    pool: impl Fn(&S) -> &Arc<Shared>,
    f: impl FnOnce(&ThreadCache, S) -> R,
) -> Result<R, S> {
    let of = pool(&subject);
    let last = Last::cache_of(of);
    let cache = if last.is_null() { find(of) } else { last };
    on_cache(cache, subject, f)
}

/// As [`with_local`], but the subject comes back unless its pool is the one that the thread came to last. Calls nothing.
#[inline]
pub(super) fn with_last<S, R>(
    subject: S,
    pool: impl Fn(&S) -> &Arc<Shared>,
    f: impl FnOnce(&ThreadCache, S) -> R,
) -> Result<R, S> {
    let cache = Last::cache_of(pool(&subject));
    on_cache(cache, subject, f)
}

/// `cache` is the last one, or null.
#[inline]
fn on_cache<S, R>(
    cache: *const ThreadCache,
    subject: S,
    f: impl FnOnce(&ThreadCache, S) -> R,
) -> Result<R, S> {
    // SAFETY: the list of this thread's caches keeps it until the thread, which is here, ends or finds its pool gone, and then it is no
    // longer the last one. Another pool cannot be at the place of one that is in the list.
    match unsafe { cache.as_ref() } {
        Some(cache) => Ok(f(cache, subject)),
        None => Err(subject),
    }
}

/// This thread's cache of a pool, the last one from now on; null while the thread is ending.
#[inline(never)]
fn find(pool: &Arc<Shared>) -> *const ThreadCache {
    let found = LOCALS.try_with(|locals| {
        let mut locals = locals.borrow_mut();
        let at = Arc::as_ptr(pool);
        let known = locals.iter().find(|local| local.at == at).map(|local| Arc::as_ptr(&local.cache));
        let cache = known.unwrap_or_else(|| enlist(&mut locals, pool));
        Last::set(Last { pool: at, cache });
        cache
    });
    found.unwrap_or(ptr::null())
}

/// This thread's number in the pool; 0 while the thread is ending.
pub(super) fn thread_number(pool: &Arc<Shared>) -> u32 {
    with_local(pool, |pool| pool, |cache, _| cache.thread).unwrap_or(0)
}

/// Adds a cache for a pool that this thread has not met, and forgets pools that are gone.
#[cold]
fn enlist(locals: &mut Vec<Local>, pool: &Arc<Shared>) -> *const ThreadCache {
    locals.retain(|local| local.pool.strong_count() > 0);
    let thread = pool.tracker.enlist(thread::current().name());
    let cache = Arc::new(ThreadCache { bins: Latch::new(Bins::new()), thread });
    pool.caches().push(Arc::clone(&cache));
    let at = Arc::as_ptr(&cache);
    locals.push(Local { pool: Arc::downgrade(pool), at: Arc::as_ptr(pool), cache });
    at
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
