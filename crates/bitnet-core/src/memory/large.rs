//! Regions from the system, cut into spans: best fit, split on take, coalesced on put.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use super::compaction::Places;
use super::{MAX_ALIGN, MemoryError, RawAlloc, RawMem, Result};

/// Size of a region that spans share.
const SHARED_REGION: usize = 4 << 20;
/// Spans above this get regions of their own, so that no small span pins a big region.
const SHARED_MAX: usize = SHARED_REGION / 4;

/// A run of bytes inside a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: NonNull<u8>,
    pub len: usize,
    /// Id of the region.
    pub home: usize,
}

// SAFETY: nothing here follows the pointer; whoever holds the span owns the bytes.
unsafe impl Send for Span {}

/// Which regions may serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Those of the request's kind that are held.
    Held,
    /// Those of the request's kind, and a new one.
    Preferred,
    /// All of them, when the system gives no more.
    Any,
}

#[derive(Debug)]
struct Region {
    mem: RawMem,
    dedicated: bool,
    /// Generation in which a span was last taken or put.
    touched: u64,
    /// Free runs: offset to length. Neighbours are always merged.
    free: BTreeMap<usize, usize>,
}

impl Region {
    fn is_unused(&self) -> bool {
        self.free.get(&0) == Some(&self.mem.len)
    }
}

/// A free run, ordered so that the first one not less than a request is its best fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    dedicated: bool,
    len: usize,
    region: usize,
    offset: usize,
}

/// How the memory that a pool holds and does not use is cut up, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragmentation {
    /// Bytes held from the system.
    pub held: usize,
    /// Free bytes in regions.
    pub free: usize,
    /// Bytes of the longest free run.
    pub largest_free: usize,
    /// Free runs.
    pub runs: usize,
    /// Free bytes in regions that blocks are in, which only [`compact`](super::HybridMemoryPool::compact) could empty.
    pub pinned: usize,
    /// Bytes of the longest free run of these.
    pub largest_pinned: usize,
    /// Bytes in slabs and in the caches of threads that no block uses.
    pub slack: usize,
    /// Regions held.
    pub regions: usize,
}

impl Fragmentation {
    /// Share of the pinned free bytes that lies outside of the longest run of them. A region without blocks is not cut up: it serves a request
    /// or goes back as it is.
    pub fn external(&self) -> f64 {
        match self.pinned {
            0 => 0.0,
            pinned => 1.0 - self.largest_pinned as f64 / pinned as f64,
        }
    }
}

/// What was free when a request went to the system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    pub wanted: usize,
    pub got: usize,
    pub free: usize,
    pub largest_free: usize,
}

/// All regions of a pool.
pub(super) struct Large {
    raw: Arc<dyn RawAlloc>,
    regions: BTreeMap<usize, Region>,
    runs: BTreeSet<Run>,
    next_region: usize,
    generation: u64,
    last_growth: Growth,
    /// All spans are multiples of this and aligned to it.
    pub granule: usize,
    pub budget: usize,
    pub held: usize,
    pub system_allocs: u64,
    pub system_frees: u64,
}

impl Large {
    pub fn new(raw: Arc<dyn RawAlloc>) -> Self {
        let granule = raw.alignment().max(MAX_ALIGN);
        Self {
            raw,
            regions: BTreeMap::new(),
            runs: BTreeSet::new(),
            next_region: 0,
            generation: 0,
            last_growth: Growth::default(),
            granule,
            budget: usize::MAX,
            held: 0,
            system_allocs: 0,
            system_frees: 0,
        }
    }

    /// A span of at least `bytes`, and whether it came without a call to the system.
    pub fn take(&mut self, bytes: usize, fit: Fit) -> Result<(Span, bool)> {
        let Some(len) = bytes.checked_next_multiple_of(self.granule) else {
            return Err(self.out_of_memory(bytes));
        };
        if let Some(run) = self.best_fit(len, fit) {
            return Ok((self.split(run, len), true));
        }
        if fit == Fit::Held {
            return Err(self.out_of_memory(bytes));
        }
        let run = self.grow(len)?;
        Ok((self.split(run, len), false))
    }

    /// Takes a span back and merges it with its free neighbours.
    pub fn put(&mut self, span: Span) {
        let region =
            self.regions.get_mut(&span.home).expect("a span's region is held until the span is back");
        let run = |offset, len| Run { dedicated: region.dedicated, len, region: span.home, offset };
        let (mut offset, mut len) = (distance(region.mem.start, span.start), span.len);
        if let Some((&before, &before_len)) = region.free.range(..offset).next_back()
            && before + before_len == offset
        {
            self.runs.remove(&run(before, before_len));
            (offset, len) = (before, before_len + len);
        }
        if let Some(&after_len) = region.free.get(&(offset + len)) {
            self.runs.remove(&run(offset + len, after_len));
            region.free.remove(&(offset + len));
            len += after_len;
        }
        self.runs.insert(run(offset, len));
        region.free.insert(offset, len);
        region.touched = self.generation;
    }

    /// Gives the system what lies behind the whole pages of a part of a span; returns how many bytes that were.
    ///
    /// # Safety
    /// Whoever owns the span calls this, and uses none of the part meanwhile.
    pub unsafe fn discard(&self, span: Span, part: Range<usize>) -> usize {
        debug_assert!(part.start <= part.end && part.end <= span.len, "{part:?} of {span:?}");
        let region = self.regions.get(&span.home).expect("a span's region is held until the span is back");
        let at = distance(region.mem.start, span.start);
        // SAFETY: the region came from `raw.alloc`, the part lies in it, and its owner does not use it.
        unsafe { self.raw.discard(&region.mem, at + part.start..at + part.end) }
    }

    /// Gives unused regions back, the largest first, until `bytes` are reached; returns how many bytes it gave.
    pub fn release(&mut self, bytes: usize) -> usize {
        let mut unused = self.unused(|_| true);
        unused.sort_unstable();
        let mut released = 0;
        while released < bytes
            && let Some((len, id)) = unused.pop()
        {
            self.release_region(id);
            released += len;
        }
        released
    }

    /// Ends a generation and gives back the unused regions that nothing touched in the last `generations`.
    pub fn release_older(&mut self, generations: u64) -> usize {
        self.generation += 1;
        let oldest = self.generation.saturating_sub(generations);
        let unused = self.unused(|region| region.touched < oldest);
        unused.iter().for_each(|&(_, id)| self.release_region(id));
        unused.iter().map(|&(len, _)| len).sum()
    }

    /// Ids of the regions that are not in use.
    pub fn unused_ids(&self) -> Vec<usize> {
        self.unused(|_| true).into_iter().map(|(_, id)| id).collect()
    }

    /// Gives back the unused regions but for some.
    pub fn release_except(&mut self, kept: &[usize]) {
        let emptied = self.unused_ids().into_iter().filter(|id| !kept.contains(id));
        emptied.collect::<Vec<_>>().into_iter().for_each(|id| self.release_region(id));
    }

    /// Lengths and ids of the regions that are not in use.
    fn unused(&self, which: impl Fn(&Region) -> bool) -> Vec<(usize, usize)> {
        let unused = self.regions.iter().filter(|(_, region)| region.is_unused() && which(region));
        unused.map(|(&id, region)| (region.mem.len, id)).collect()
    }

    /// How the memory is cut up while `live` bytes of it are in use.
    pub fn fragmentation(&self, live: usize) -> Fragmentation {
        let free = self.free();
        let used = self.regions.values().filter(|region| !region.is_unused());
        let pinned = || used.clone().flat_map(|region| region.free.values().copied());
        Fragmentation {
            held: self.held,
            free,
            largest_free: self.largest_free(),
            runs: self.runs.len(),
            pinned: pinned().sum(),
            largest_pinned: pinned().max().unwrap_or(0),
            slack: (self.held - free).saturating_sub(live),
            regions: self.regions.len(),
        }
    }

    /// What was free when the system was last asked.
    pub fn last_growth(&self) -> Growth {
        self.last_growth
    }

    fn free(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }

    fn largest_free(&self) -> usize {
        let shared = self.runs.iter().rev().find(|run| !run.dedicated);
        self.runs.last().into_iter().chain(shared).map(|run| run.len).max().unwrap_or(0)
    }

    /// The largest span that could be had: a free run, or what the budget leaves.
    pub fn available(&self) -> usize {
        self.largest_free().max(self.budget_left())
    }

    /// Every region's place: the fullest first.
    pub fn places(&self) -> Places {
        let live = |region: &Region| region.mem.len - region.free.values().sum::<usize>();
        let mut ids: Vec<_> = self.regions.iter().map(|(&id, region)| (live(region), id)).collect();
        ids.sort_unstable_by_key(|&(live, id)| (Reverse(live), id));
        ids.into_iter().enumerate().map(|(place, (_, id))| (id, place)).collect()
    }

    /// A span for moving `from` into a region with an earlier place or further down in its own. It never overlaps `from`.
    pub fn take_before(&mut self, from: Span, places: &Places) -> Option<Span> {
        let own = self.regions.get(&from.home).expect("a span's region is held until the span is back");
        let (dedicated, limit) =
            (own.dedicated, (places.get(&from.home)?, distance(own.mem.start, from.start)));
        let least = Run { dedicated, len: from.len, region: 0, offset: 0 };
        let fitting = self.runs.range(least..).take_while(|run| run.dedicated == dedicated);
        let placed = fitting.filter_map(|run| Some(((places.get(&run.region)?, run.offset), *run)));
        let (_, run) = placed.filter(|&(place, _)| place < limit).min_by_key(|&(place, _)| place)?;
        Some(self.split(run, from.len))
    }

    /// The free run right in front of `from`, for sliding it down.
    pub fn take_below(&mut self, from: Span, _: &Places) -> Option<Span> {
        let region = self.regions.get(&from.home).expect("a span's region is held until the span is back");
        let end = distance(region.mem.start, from.start);
        let (&offset, &len) = region.free.range(..end).next_back()?;
        let run = Run { dedicated: region.dedicated, len, region: from.home, offset };
        // Where the whole block fits, it takes no more than it needs.
        (offset + len == end).then(|| self.split(run, len.min(from.len)))
    }

    fn budget_left(&self) -> usize {
        let left = self.budget.saturating_sub(self.held);
        left - left % self.granule
    }

    fn out_of_memory(&self, wanted: usize) -> MemoryError {
        MemoryError::OutOfMemory { wanted, available: self.available(), held: self.held }
    }

    fn best_fit(&self, len: usize, fit: Fit) -> Option<Run> {
        let dedicated = len > SHARED_MAX;
        let first = |dedicated| {
            let least = Run { dedicated, len, region: 0, offset: 0 };
            self.runs.range(least..).next().filter(|run| run.dedicated == dedicated).copied()
        };
        match fit {
            Fit::Held | Fit::Preferred => first(dedicated),
            Fit::Any => first(dedicated).or_else(|| first(!dedicated)),
        }
    }

    fn split(&mut self, run: Run, len: usize) -> Span {
        let region = self.regions.get_mut(&run.region).expect("a run belongs to a held region");
        self.runs.remove(&run);
        region.free.remove(&run.offset);
        region.touched = self.generation;
        if run.len > len {
            let rest = Run { len: run.len - len, offset: run.offset + len, ..run };
            self.runs.insert(rest);
            region.free.insert(rest.offset, rest.len);
        }
        Span { start: offset(region.mem.start, run.offset), len, home: run.region }
    }

    /// A new region with room for `len` bytes, as one free run.
    fn grow(&mut self, len: usize) -> Result<Run> {
        let left = self.budget_left();
        if len > left {
            return Err(self.out_of_memory(len));
        }
        let dedicated = len > SHARED_MAX;
        let roomy = if dedicated { len } else { SHARED_REGION.next_multiple_of(self.granule).min(left) };
        let mem = match self.raw.alloc(roomy, self.granule) {
            Err(_) if roomy > len => self.raw.alloc(len, self.granule)?,
            result => result?,
        };
        self.last_growth =
            Growth { wanted: len, got: mem.len, free: self.free(), largest_free: self.largest_free() };
        self.system_allocs += 1;
        self.held += mem.len;
        let run = Run { dedicated, len: mem.len, region: self.next_region, offset: 0 };
        self.next_region += 1;
        self.regions.insert(
            run.region,
            Region { mem, dedicated, touched: self.generation, free: BTreeMap::from([(0, run.len)]) },
        );
        self.runs.insert(run);
        Ok(run)
    }

    fn release_region(&mut self, id: usize) {
        let region = self.regions.remove(&id).expect("the region was just listed");
        self.runs.remove(&Run { dedicated: region.dedicated, len: region.mem.len, region: id, offset: 0 });
        self.held -= region.mem.len;
        self.system_frees += 1;
        // SAFETY: the region came from `raw.alloc`, leaves the table here, and no span of it is out.
        unsafe { self.raw.free(region.mem) };
    }
}

/// The pointer `bytes` further on, which is inside the same region.
pub(super) fn offset(start: NonNull<u8>, bytes: usize) -> NonNull<u8> {
    start.map_addr(|addr| addr.checked_add(bytes).expect("regions do not wrap around the address space"))
}

/// Bytes from `start` on to `ptr`.
pub(super) fn distance(start: NonNull<u8>, ptr: NonNull<u8>) -> usize {
    ptr.addr().get() - start.addr().get()
}

impl Drop for Large {
    fn drop(&mut self) {
        for region in std::mem::take(&mut self.regions).into_values() {
            // SAFETY: blocks keep the pool alive, so none is left that points into this region.
            unsafe { self.raw.free(region.mem) };
        }
    }
}
