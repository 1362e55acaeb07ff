//! What threads share of a pool: regions and slabs, and blocks on their way from one thread to another.

use std::sync::Arc;

use super::block::{Body, Source};
use super::depot::Depot;
use super::large::{Fit, Large};
use super::small::{Bodies, Slabs, class_len, slab_len};
use super::stats::Counts;
use super::{RawAlloc, Result};

/// Everything that is not in a thread's cache; on lines of its own, for it is written more often than what lies beside it.
#[repr(align(128))]
pub(super) struct Central {
    pub large: Large,
    slabs: Slabs,
    depot: Depot,
    pub counts: Counts,
}

impl Central {
    pub fn new(raw: &Arc<dyn RawAlloc>) -> Self {
        Self {
            large: Large::new(Arc::clone(raw)),
            slabs: Slabs::new(),
            depot: Depot::new(),
            counts: Counts::default(),
        }
    }

    /// The regions, after slabs that nobody uses came back to them.
    pub fn with_unused_slabs(&mut self) -> &mut Large {
        self.slabs.drain_unused().into_iter().for_each(|slab| self.large.put(slab));
        &mut self.large
    }

    /// Up to `count` blocks of the class: one for the caller, the rest for its cache.
    pub fn take_small(&mut self, class: usize, count: usize, fit: Fit) -> Result<(Box<Body>, Bodies)> {
        if count > 1
            && let Some(taken) = self.depot.take_small(class)
        {
            self.counts.allocated(true);
            return Ok(taken);
        }
        let mut cached = true;
        let body = match self.slabs.take(class) {
            Some(body) => body,
            None => {
                cached = self.add_slab(class, fit)?;
                self.slabs.take(class).expect("a new slab has a free block")
            }
        };
        self.counts.allocated(cached);
        Ok((body, (1..count).map_while(|_| self.slabs.take(class)).collect()))
    }

    /// Makes a slab, of a single block where memory is scarce; returns whether it came without a system call.
    fn add_slab(&mut self, class: usize, fit: Fit) -> Result<bool> {
        let bytes = match fit {
            Fit::Held | Fit::Preferred => slab_len(class),
            Fit::Any => class_len(class),
        };
        let (span, cached) = self.large.take(bytes, fit)?;
        self.slabs.add(class, span);
        Ok(cached)
    }

    pub fn put_all(&mut self, blocks: Bodies) {
        blocks.into_iter().for_each(|body| self.put(body));
    }

    /// Takes back a block that is in no cache.
    pub fn put(&mut self, body: Box<Body>) {
        let free = match body.source {
            Source::Slab(_) => self.slabs.put(body),
            Source::Region | Source::Empty => Some(body.span),
        };
        if let Some(span) = free {
            self.large.put(span);
        }
    }

    /// A block of at least `bytes`, as a thread left it or cut from a region.
    pub fn take_large(&mut self, bytes: usize, fit: Fit) -> Result<Box<Body>> {
        let stored =
            bytes.checked_next_multiple_of(self.large.granule).and_then(|len| self.depot.take_large(len));
        let (body, cached) = match stored {
            Some(body) => (body, true),
            None => {
                let (span, cached) = self.large.take(bytes, fit)?;
                (Body::new(span, Source::Region), cached)
            }
        };
        self.counts.allocated(cached);
        Ok(body)
    }

    /// Keeps small blocks of the class for the next thread that asks.
    pub fn store(&mut self, class: usize, blocks: Bodies) {
        let rest = self.depot.put_small(class, blocks);
        self.put_all(rest);
    }

    /// Keeps large blocks for the next thread that asks.
    pub fn store_large(&mut self, blocks: Bodies) {
        for body in blocks {
            let rest = self.depot.put_large(body);
            self.put_all(rest);
        }
    }

    /// Brings what is kept for other threads back to the slabs and regions.
    pub fn put_stored(&mut self) {
        let stored = self.depot.drain();
        self.put_all(stored);
    }
}
