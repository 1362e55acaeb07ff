//! The host's memory: pages from the system for regions, the global allocator for what is smaller.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::mem::{ManuallyDrop, size_of};
use std::ops::Range;
use std::ptr::NonNull;

use memmap2::MmapMut;
#[cfg(target_os = "linux")]
use memmap2::UncheckedAdvice;

#[cfg(target_os = "linux")]
use super::arena::{ARENAS, PAGE, Share};
use super::{DEFAULT_ALIGN, MemoryError, RawAlloc, RawMem, Result};

/// Host memory.
///
/// From `MAPPED_MIN` on a piece is mapped, so that the system has it back the moment it is freed; the global allocator would keep some. Such
/// pages are zero by nature and take memory only once they are used. On Linux pieces of some megabytes lie beside each other in arenas.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

/// Smallest piece that is mapped.
const MAPPED_MIN: usize = 1 << 20;

/// Where a piece came from, kept right before its aligned start.
enum Header {
    Heap(NonNull<u8>),
    Mapped(MmapMut),
    #[cfg(target_os = "linux")]
    Shared(Share),
}

/// Layout of a piece with its header and room to align.
fn layout(bytes: usize, align: usize) -> Option<Layout> {
    let room = align.checked_add(size_of::<Header>())?;
    Layout::from_size_align(bytes.checked_add(room)?, align_of::<Header>()).ok()
}

/// Zeroed memory of the layout, and its first byte.
fn obtain(layout: Layout) -> Option<(NonNull<u8>, Header)> {
    if layout.size() >= MAPPED_MIN
        && let Some(mapped) = share(layout.size()).or_else(|| map(layout.size()))
    {
        return Some(mapped);
    }
    // SAFETY: the layout has at least the bytes of the header.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    Some((start, Header::Heap(start)))
}

/// A share of an arena, of what is not too large.
#[cfg(target_os = "linux")]
fn share(bytes: usize) -> Option<(NonNull<u8>, Header)> {
    ARENAS.take(bytes).map(|share| (share.start, Header::Shared(share)))
}

#[cfg(not(target_os = "linux"))]
fn share(_bytes: usize) -> Option<(NonNull<u8>, Header)> {
    None
}

/// A mapping; none on systems that have no such thing.
fn map(bytes: usize) -> Option<(NonNull<u8>, Header)> {
    let mut map = MmapMut::map_anon(bytes).ok()?;
    // Larger pages where the mapping fills them; it works without.
    #[cfg(target_os = "linux")]
    map.advise(memmap2::Advice::HugePage).ok();
    Some((NonNull::new(map.as_mut_ptr())?, Header::Mapped(map)))
}

/// Addresses of the whole pages of a part of what starts at an address; none where there are none.
#[cfg(target_os = "linux")]
fn whole_pages(start: usize, part: Range<usize>) -> Option<Range<usize>> {
    let first = (start + part.start).next_multiple_of(PAGE);
    let end = (start + part.end) / PAGE * PAGE;
    (first < end).then_some(first..end)
}

// SAFETY: every `alloc` returns a part of its own allocation, zeroed and of the layout asked for, valid until `free`.
unsafe impl RawAlloc for Host {
    fn alloc(&self, bytes: usize, align: usize) -> Result<RawMem> {
        let refused = MemoryError::Refused { wanted: bytes };
        let Some((given, origin)) = layout(bytes, align).and_then(obtain) else { return Err(refused) };
        let header = size_of::<Header>();
        let offset = header + (given.as_ptr() as usize + header).wrapping_neg() % align;
        // SAFETY: the offset is below `align` plus the header, which the layout has on top of `bytes`.
        let start = unsafe { given.add(offset) };
        // SAFETY: the header lies between `given` and `start`.
        unsafe { start.cast::<Header>().sub(1).write_unaligned(origin) };
        Ok(RawMem { start, len: bytes, align })
    }

    unsafe fn free(&self, mem: RawMem) {
        // SAFETY: the caller passes what `alloc` returned, which has a header before its start; it is taken out once.
        let origin = unsafe { mem.start.cast::<Header>().sub(1).read_unaligned() };
        match origin {
            Header::Mapped(map) => drop(map),
            #[cfg(target_os = "linux")]
            // SAFETY: it was taken there, and its user is done with it.
            Header::Shared(share) => unsafe { ARENAS.give_back(share) },
            Header::Heap(given) => {
                let layout = layout(mem.len, mem.align).expect("the same layout was valid in `alloc`");
                // SAFETY: `given` came from the system with this layout and is given back once.
                unsafe { dealloc(given.as_ptr(), layout) };
            }
        }
    }

    #[cfg(target_os = "linux")]
    unsafe fn discard(&self, mem: &RawMem, part: Range<usize>) -> usize {
        let Some(pages) = whole_pages(mem.start.addr().get(), part) else { return 0 };
        // SAFETY: the caller passes what `alloc` returned, which has a header before its start; this copy of it is never dropped.
        let origin = ManuallyDrop::new(unsafe { mem.start.cast::<Header>().sub(1).read_unaligned() });
        let given = match &*origin {
            Header::Mapped(map) => {
                let at = pages.start - map.as_ptr().addr();
                // SAFETY: the pages lie behind the header in this mapping, and the caller says that nobody uses them.
                unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, at, pages.len()) }.is_ok()
            }
            // SAFETY: the share is in use, the pages lie inside of it, and the caller says that nobody uses them.
            Header::Shared(share) => unsafe { ARENAS.discard(share, pages.clone()) },
            Header::Heap(_) => false,
        };
        if given { pages.len() } else { 0 }
    }

    fn alignment(&self) -> usize {
        DEFAULT_ALIGN
    }

    fn host_addressable(&self) -> bool {
        true
    }
}
