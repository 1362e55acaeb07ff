//! What a device owes the pool.

use std::ops::Range;
use std::ptr::NonNull;

use super::Result;

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
    /// [`MemoryError::Refused`](super::MemoryError::Refused) when there is none.
    fn alloc(&self, bytes: usize, align: usize) -> Result<RawMem>;

    /// Gives memory back.
    ///
    /// # Safety
    ///
    /// `mem` came from `alloc` of the same allocator and nothing uses it any more.
    unsafe fn free(&self, mem: RawMem);

    /// Gives the system back what lies behind the whole pages of a part, which reads as anything initialised afterwards; the addresses stay.
    /// Returns the bytes of these pages, and 0 where it changed nothing.
    ///
    /// # Safety
    ///
    /// `mem` came from `alloc` of the same allocator, `part` lies inside of it, and nothing else uses its bytes meanwhile.
    unsafe fn discard(&self, _mem: &RawMem, _part: Range<usize>) -> usize {
        0
    }

    /// The least alignment of a block, a power of two.
    fn alignment(&self) -> usize;

    /// Whether the host can read and write the memory at its addresses.
    fn host_addressable(&self) -> bool;
}
