//! Blocks: memory that returns to its pool on drop.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::{fmt, slice};

use super::HybridMemoryPool;
use super::large::Span;
use super::pool::Anchor;
use super::small::{Slot, class_of};
use super::tracker::Ticket;

/// Where the bytes of a block came from and return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nowhere: there are none.
    Empty,
    /// A slot of a slab.
    Slab,
    /// A run of a region.
    Region,
}

/// Memory from a pool, returned to it on drop.
pub struct Block {
    anchor: Arc<Anchor>,
    pub(super) span: Span,
    len: usize,
    source: Source,
    ticket: Ticket,
}

impl Block {
    pub(super) fn new(anchor: Arc<Anchor>, span: Span, source: Source, len: usize, ticket: Ticket) -> Self {
        Self { anchor, span, len, source, ticket }
    }

    pub(super) fn empty(anchor: Arc<Anchor>, start: NonNull<u8>) -> Self {
        let span = Span { start, len: 0, home: 0 };
        Self { anchor, span, len: 0, source: Source::Empty, ticket: Ticket::NONE }
    }

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
    pub fn pool(&self) -> HybridMemoryPool {
        HybridMemoryPool::of(Arc::clone(&self.anchor.0))
    }

    /// The bytes, where the host can reach them: zeros, or what an earlier block left there.
    pub fn bytes(&self) -> Option<&[u8]> {
        if !self.anchor.0.host_addressable() {
            return None;
        }
        // SAFETY: the block owns `len` addressable bytes from its start, which the allocator handed out initialised.
        Some(unsafe { slice::from_raw_parts(self.as_ptr(), self.len) })
    }

    /// As [`Block::bytes`], to write.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.anchor.0.host_addressable() {
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
        let pool = &self.anchor.0;
        if self.ticket != Ticket::NONE {
            pool.tracker.freed(self.ticket, len);
        }
        match self.source {
            Source::Empty => {}
            Source::Slab => pool.give_small(class_of(len), Slot { start, home }),
            Source::Region => pool.give_large(self.span),
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("ptr", &self.as_ptr()).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Where a block of no bytes starts.
pub(super) fn dangling(align: usize) -> NonNull<u8> {
    NonNull::without_provenance(NonZeroUsize::new(align).expect("an alignment is not zero"))
}
