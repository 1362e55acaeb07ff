//! Blocks: memory that returns to its pool on drop.

use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::{fmt, slice};

use super::large::Span;
use super::pool::{Shared, give, give_kept};
use super::small::thread_number;
use super::tracker::Ticket;

/// Where the bytes of a block came from and return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nowhere: there are none.
    Empty,
    /// A slot of a slab of the class.
    Slab(u8),
    /// A run of a region.
    Region,
}

/// Memory from a pool, returned to it on drop.
pub struct Block(ManuallyDrop<Box<Body>>);

/// What there is to know of a block. It stays where it is while the block is in use, in the cache of a thread or in its slab, so that only
/// a pointer is passed on. A line of its own, for its neighbours are other threads'.
#[repr(align(64))]
pub(super) struct Body {
    /// Keeps the pool alive unless this is in a slab. A block takes it along into a cache and back, so that threads do not wait for a
    /// count of the pool's users.
    pool: Option<Arc<Shared>>,
    pub span: Span,
    pub source: Source,
    /// Bytes asked for.
    pub len: usize,
    pub ticket: Ticket,
}

impl Body {
    /// Memory that nobody has asked for yet.
    pub fn new(span: Span, source: Source) -> Box<Self> {
        Box::new(Self { pool: None, span, source, len: 0, ticket: Ticket::NONE })
    }

    /// Makes it keep its pool alive, which one that comes from another thread does already.
    pub fn of(mut self: Box<Self>, pool: &Arc<Shared>) -> Box<Self> {
        self.pool.get_or_insert_with(|| Arc::clone(pool));
        self
    }

    #[inline]
    pub fn pool(&self) -> &Arc<Shared> {
        self.pool.as_ref().expect("what is not in a slab keeps its pool alive")
    }

    /// Takes from it what keeps its pool alive.
    pub fn leave(&mut self) -> Option<Arc<Shared>> {
        self.pool.take()
    }
}

impl Block {
    /// A block of `len` bytes.
    #[inline]
    pub(super) fn new(mut body: Box<Body>, len: usize, ticket: Ticket) -> Self {
        body.len = len;
        body.ticket = ticket;
        Self(ManuallyDrop::new(body))
    }

    pub(super) fn empty(pool: &Arc<Shared>, start: NonNull<u8>) -> Self {
        let body = Body::new(Span { start, len: 0, home: 0 }, Source::Empty);
        Self::new(body.of(pool), 0, Ticket::NONE)
    }

    pub(super) fn span(&self) -> Span {
        self.0.span
    }

    /// Says that the bytes are now elsewhere.
    pub(super) fn move_to(&mut self, span: Span) {
        self.0.span = span;
    }

    /// The first byte: a pointer on the host, an address on a device that has them. Valid for `capacity` bytes, never
    /// null, and shared by nobody else; what is written through it is the business of the block's owner.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.span.start.as_ptr()
    }

    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether no bytes were asked for.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Bytes reserved, `len` or a little more; this is what the pool counts as live.
    pub fn capacity(&self) -> usize {
        self.0.span.len
    }

    /// The bytes, where the host can reach them: zeros, or what an earlier block left there.
    pub fn bytes(&self) -> Option<&[u8]> {
        if !self.0.pool().host_addressable() {
            return None;
        }
        // SAFETY: the block owns `len` addressable bytes from its start, which the allocator handed out initialised.
        Some(unsafe { slice::from_raw_parts(self.as_ptr(), self.len()) })
    }

    /// As [`Block::bytes`], to write.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.0.pool().host_addressable() {
            return None;
        }
        // SAFETY: as in `bytes`, and the block is borrowed mutably.
        Some(unsafe { slice::from_raw_parts_mut(self.as_ptr(), self.len()) })
    }

    /// Gives the system what lies behind the whole pages of a part, whose contents are unspecified afterwards; the block stays as it is and
    /// takes memory again where it is written. Returns the bytes of these pages, 0 where nothing was given and nothing changed.
    ///
    /// # Panics
    ///
    /// Where the part ends behind the block.
    pub fn discard(&mut self, part: Range<usize>) -> usize {
        assert!(part.end <= self.len(), "{part:?} of a block of {} bytes", self.len());
        if self.0.source != Source::Region || part.is_empty() {
            return 0;
        }
        // SAFETY: the block owns its span and is borrowed mutably, so that nobody reads it meanwhile.
        unsafe { self.0.pool().central().large.discard(self.0.span, part) }
    }
}

// SAFETY: a shared block gives its address away but no access to its bytes without further unsafe code.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: a block is dropped once, and nothing looks at its body afterwards.
        let body = unsafe { ManuallyDrop::take(&mut self.0) };
        let rest = if body.ticket == Ticket::NONE { give_kept(body) } else { Some(body) };
        rest.into_iter().for_each(release);
    }
}

/// Gives back what is not a small block for which this thread has room, and tells the tracker.
#[inline(never)]
fn release(body: Box<Body>) {
    if body.ticket != Ticket::NONE {
        body.pool().tracker.freed(body.ticket, body.span.len, || thread_number(body.pool()));
    }
    match body.source {
        Source::Empty => {}
        Source::Slab(_) | Source::Region => give(body),
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("ptr", &self.as_ptr()).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Where a block of no bytes starts.
pub(super) fn dangling(align: usize) -> NonNull<u8> {
    NonNull::without_provenance(NonZeroUsize::new(align).expect("an alignment is not zero"))
}
