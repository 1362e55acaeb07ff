//! The host's memory: pages from the system for regions, the global allocator for what is smaller.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::mem::size_of;
use std::ptr::NonNull;

use memmap2::MmapMut;

use super::{DEFAULT_ALIGN, MemoryError, RawAlloc, RawMem, Result};

/// Host memory.
///
/// From `MAPPED_MIN` on a piece is a mapping of its own, so that the system has it back the moment it is freed; the
/// global allocator would keep some. Such pages are zero by nature and take memory only once they are used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

/// Smallest piece that is a mapping of its own.
const MAPPED_MIN: usize = 1 << 20;

/// Where a piece came from, kept right before its aligned start.
enum Header {
    Heap(NonNull<u8>),
    Mapped(MmapMut),
}

/// Bytes of the larger pages that most processors and systems have. A thread reads a third more in them than in small ones, whose addresses
/// it keeps looking up.
const HUGE_PAGE: usize = 2 << 20;

/// Where a piece of so many bytes begins: one with room for a huge page begins with it.
fn placed(bytes: usize, align: usize) -> usize {
    if bytes >= HUGE_PAGE { align.max(HUGE_PAGE) } else { align }
}

/// Layout of a piece with its header and room to align.
fn layout(bytes: usize, align: usize) -> Option<Layout> {
    let room = placed(bytes, align).checked_add(size_of::<Header>())?;
    Layout::from_size_align(bytes.checked_add(room)?, align_of::<Header>()).ok()
}

/// Zeroed memory of the layout, and its first byte.
fn obtain(layout: Layout) -> Option<(NonNull<u8>, Header)> {
    if layout.size() >= MAPPED_MIN
        && let Some(mapped) = map(layout.size())
    {
        return Some(mapped);
    }
    // SAFETY: the layout has at least the bytes of the header.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    Some((start, Header::Heap(start)))
}

/// A mapping; none on systems that have no such thing.
fn map(bytes: usize) -> Option<(NonNull<u8>, Header)> {
    let mut map = MmapMut::map_anon(bytes).ok()?;
    Some((NonNull::new(map.as_mut_ptr())?, Header::Mapped(map)))
}

/// Asks for huge pages where the piece fills them, so that all of it takes no more memory; what is used of it grows in such steps. It works
/// without.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(map: &MmapMut, offset: usize, bytes: usize) {
    if bytes >= HUGE_PAGE {
        map.advise_range(memmap2::Advice::HugePage, offset, bytes / HUGE_PAGE * HUGE_PAGE).ok();
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_map: &MmapMut, _offset: usize, _bytes: usize) {}

// SAFETY: every `alloc` returns a part of its own allocation, zeroed and of the layout asked for, valid until `free`.
unsafe impl RawAlloc for Host {
    fn alloc(&self, bytes: usize, align: usize) -> Result<RawMem> {
        let refused = MemoryError::Refused { wanted: bytes };
        let Some((given, origin)) = layout(bytes, align).and_then(obtain) else { return Err(refused) };
        let header = size_of::<Header>();
        let offset = header + (given.as_ptr() as usize + header).wrapping_neg() % placed(bytes, align);
        if let Header::Mapped(map) = &origin {
            ask_for_huge_pages(map, offset, bytes);
        }
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
            Header::Heap(given) => {
                let layout = layout(mem.len, mem.align).expect("the same layout was valid in `alloc`");
                // SAFETY: `given` came from the system with this layout and is given back once.
                unsafe { dealloc(given.as_ptr(), layout) };
            }
        }
    }

    fn alignment(&self) -> usize {
        DEFAULT_ALIGN
    }

    fn host_addressable(&self) -> bool {
        true
    }
}
