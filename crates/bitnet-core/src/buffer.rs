//! Bytes of a tensor: a block of a pool, or memory that somebody else owns (a mapped file).
#![expect(unsafe_code, reason = "the one place where bytes are read as elements")]

use crate::{
    Error, Result,
    dtype::Element,
    memory::{Block, HybridMemoryPool},
};
use std::{fmt, ops::Range, sync::Arc};

/// Owner of bytes that a buffer may borrow for as long as it lives, such as a mapped file.
pub type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Bytes on a device. A block returns to its pool when the buffer is dropped.
pub struct Buffer(Storage);

enum Storage {
    Block(Block),
    Shared(Owner),
}

impl Buffer {
    /// Bytes of a pool; what they hold is whatever was there before.
    ///
    /// # Errors
    /// Where the pool cannot get the memory.
    pub fn alloc(pool: &HybridMemoryPool, bytes: usize) -> Result<Self> {
        Ok(Self(Storage::Block(pool.alloc(bytes)?)))
    }

    /// Read-only bytes on the host that `owner` keeps alive.
    pub fn from_owner(owner: Owner) -> Self {
        Self(Storage::Shared(owner))
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Storage::Block(block) => block.len(),
            Storage::Shared(owner) => (**owner).as_ref().len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the bytes can be written in place: shared ones cannot.
    pub fn is_writable(&self) -> bool {
        matches!(self.0, Storage::Block(_))
    }

    /// The bytes, where the host can address them.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Storage::Block(block) => block.bytes(),
            Storage::Shared(owner) => Some((**owner).as_ref()),
        }
    }

    /// The bytes for writing, where the host can address them and nobody else reads them.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match &mut self.0 {
            Storage::Block(block) => block.bytes_mut(),
            Storage::Shared(_) => None,
        }
    }

    /// As [`Block::discard`]; shared bytes stay.
    ///
    /// # Panics
    /// Where the part ends behind the bytes.
    pub fn discard(&mut self, part: Range<usize>) -> usize {
        match &mut self.0 {
            Storage::Block(block) => block.discard(part),
            Storage::Shared(_) => 0,
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_writable() { "block" } else { "shared" };
        write!(f, "Buffer({kind}, {} bytes)", self.len())
    }
}

fn check<T: Element>(bytes: &[u8], range: &Range<usize>) -> Result<()> {
    if range.start > range.end {
        let (start, len, extent) = (range.start, range.len(), range.end);
        return Err(Error::Range { op: "elements", start, len, extent });
    }
    let (size, align) = (size_of::<T>(), align_of::<T>());
    let wanted = range.end.saturating_mul(size);
    let misaligned = bytes.as_ptr() as usize % align;
    if wanted > bytes.len() || misaligned != 0 {
        return Err(Error::Bytes { wanted, align, got: bytes.len(), misaligned });
    }
    Ok(())
}

/// Reads `range`, in elements, of `bytes` as elements.
///
/// # Errors
/// Where the range is reversed, or the bytes are too few or not aligned.
pub fn elements<T: Element>(bytes: &[u8], range: Range<usize>) -> Result<&[T]> {
    check::<T>(bytes, &range)?;
    let start = bytes.as_ptr().cast::<T>();
    // SAFETY: `check` proved that `range` lies inside `bytes`.
    let start = unsafe { start.add(range.start) };
    // SAFETY: aligned and inside `bytes` by `check`, borrowed from it, and every bit pattern is an `Element`.
    Ok(unsafe { std::slice::from_raw_parts(start, range.len()) })
}

/// Reads `range`, in elements, of `bytes` as elements for writing.
///
/// # Errors
/// Where the range is reversed, or the bytes are too few or not aligned.
pub fn elements_mut<T: Element>(bytes: &mut [u8], range: Range<usize>) -> Result<&mut [T]> {
    check::<T>(bytes, &range)?;
    let start = bytes.as_mut_ptr().cast::<T>();
    // SAFETY: `check` proved that `range` lies inside `bytes`.
    let start = unsafe { start.add(range.start) };
    // SAFETY: aligned and inside `bytes` by `check`, borrowed mutably from it, and every bit pattern is an `Element`.
    Ok(unsafe { std::slice::from_raw_parts_mut(start, range.len()) })
}

/// Reads elements as their bytes in the machine's order.
pub fn as_bytes<T: Element>(elements: &[T]) -> &[u8] {
    // SAFETY: an `Element` has no padding and the slice covers `size_of_val` initialised bytes.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast::<u8>(), size_of_val(elements)) }
}

/// Reads elements as their bytes in the machine's order, for writing.
pub fn as_bytes_mut<T: Element>(elements: &mut [T]) -> &mut [u8] {
    let len = size_of_val(elements);
    // SAFETY: an `Element` has no padding, every bit pattern is one, and the slice covers `len` bytes.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast::<u8>(), len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "such a range is what is refused")]
    fn a_reversed_range_is_refused() {
        let mut bytes = [0u8; 4];
        assert!(matches!(elements::<u8>(&bytes, 5..0), Err(Error::Range { start: 5, .. })));
        assert!(matches!(elements_mut::<u8>(&mut bytes, 5..0), Err(Error::Range { start: 5, .. })));
        assert!(elements::<u8>(&bytes, 5..5).is_err());
        assert_eq!(elements::<u8>(&bytes, 4..4).unwrap(), [0u8; 0]);
    }
}
