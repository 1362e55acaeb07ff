//! The host's memory, through the system allocator.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::mem::size_of;
use std::ptr::NonNull;

use super::{DEFAULT_ALIGN, MemoryError, RawAlloc, RawMem, Result};

/// Host memory from the global allocator.
///
/// Large pieces are asked for without a special alignment and aligned here, because the system then hands out pages that
/// are zero by nature and take memory only once they are used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

/// The address that the system gave, kept right before the aligned start.
type Header = NonNull<u8>;

/// Layout of a piece with its header and room to align.
fn layout(bytes: usize, align: usize) -> Option<Layout> {
    let room = align.checked_add(size_of::<Header>())?;
    Layout::from_size_align(bytes.checked_add(room)?, align_of::<Header>()).ok()
}

// SAFETY: every `alloc` returns a part of its own allocation, zeroed and of the layout asked for, valid until `free`.
unsafe impl RawAlloc for Host {
    fn alloc(&self, bytes: usize, align: usize) -> Result<RawMem> {
        let refused = MemoryError::Refused { wanted: bytes };
        let Some(layout) = layout(bytes, align) else { return Err(refused) };
        // SAFETY: the layout has at least the bytes of the header.
        let given = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(refused)?;
        let header = size_of::<Header>();
        let offset = header + (given.as_ptr() as usize + header).wrapping_neg() % align;
        // SAFETY: the offset is below `align` plus the header, which the layout has on top of `bytes`.
        let start = unsafe { given.add(offset) };
        // SAFETY: the header lies between `given` and `start`.
        unsafe { start.cast::<Header>().sub(1).write_unaligned(given) };
        Ok(RawMem { start, len: bytes, align })
    }

    unsafe fn free(&self, mem: RawMem) {
        // SAFETY: the caller passes what `alloc` returned, which has a header before its start.
        let given = unsafe { mem.start.cast::<Header>().sub(1).read_unaligned() };
        let layout = layout(mem.len, mem.align).expect("the same layout was valid in `alloc`");
        // SAFETY: `given` came from the system with this layout and is given back once.
        unsafe { dealloc(given.as_ptr(), layout) };
    }

    fn alignment(&self) -> usize {
        DEFAULT_ALIGN
    }

    fn host_addressable(&self) -> bool {
        true
    }
}
