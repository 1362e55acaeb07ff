//! Movable blocks: reached through guards, so that compaction may move them while nobody looks.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, TryLockError, Weak};

use super::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use super::{Block, HybridMemoryPool, MemoryError, Result};

/// A block that the pool may move whenever no guard of it is out.
///
/// Its bytes are reached through [`read`](Self::read) and [`write`](Self::write); an address taken from a guard means
/// nothing after the guard. It takes whole pages, so it suits blocks of some size, such as those of a KV cache.
///
/// ```
/// let pool = bitnet_core::memory::HybridMemoryPool::host();
/// let block = pool.alloc_movable(10_000)?;
/// block.write().fill(7);
/// pool.compact(usize::MAX);
/// assert!(block.read().iter().all(|&byte| byte == 7));
/// # Ok::<(), bitnet_core::memory::MemoryError>(())
/// ```
pub struct Movable(Arc<RwLock<Block>>);

/// Bytes of a movable block, to read; the block stays where it is for as long.
pub struct MovableRead<'a>(RwLockReadGuard<'a, Block>);

/// Bytes of a movable block, to write; the block stays where it is for as long.
pub struct MovableWrite<'a>(RwLockWriteGuard<'a, Block>);

impl HybridMemoryPool {
    /// A block of `bytes` bytes that [`compact`](Self::compact) may move, with unspecified contents.
    ///
    /// # Errors
    ///
    /// When the host cannot reach the pool's memory, or as [`alloc`](Self::alloc).
    pub fn alloc_movable(&self, bytes: usize) -> Result<Movable> {
        if !self.host_addressable() {
            return Err(MemoryError::NotAddressable { wanted: bytes });
        }
        let block = Arc::new(RwLock::new(self.alloc_region(bytes)?));
        self.0.movables.add(&block);
        Ok(Movable(block))
    }
}

impl Movable {
    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether no bytes were asked for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, once nobody writes or moves them.
    pub fn read(&self) -> MovableRead<'_> {
        MovableRead(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bytes, once nobody else uses or moves them.
    pub fn write(&self) -> MovableWrite<'_> {
        MovableWrite(self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Movable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Movable").field(&self.0).finish()
    }
}

impl Deref for MovableRead<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes().expect("movable blocks are only made where the host reaches them")
    }
}

impl fmt::Debug for MovableRead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Deref for MovableWrite<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes().expect("movable blocks are only made where the host reaches them")
    }
}

impl DerefMut for MovableWrite<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut().expect("movable blocks are only made where the host reaches them")
    }
}

impl fmt::Debug for MovableWrite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The movable blocks of a pool.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    blocks: Vec<Weak<RwLock<Block>>>,
    /// Length at which those that are gone are next removed.
    sweep: usize,
}

impl Registry {
    fn add(&self, block: &Arc<RwLock<Block>>) {
        let mut listed = self.lock();
        if listed.blocks.len() >= listed.sweep {
            listed.blocks.retain(|block| block.strong_count() > 0);
            listed.sweep = 2 * listed.blocks.len() + 64;
        }
        listed.blocks.push(Arc::downgrade(block));
    }

    /// Those that still exist.
    pub fn all(&self) -> Vec<Arc<RwLock<Block>>> {
        self.lock().blocks.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The block for moving, unless a guard of it is out.
pub(super) fn unguarded(block: &RwLock<Block>) -> Option<RwLockWriteGuard<'_, Block>> {
    match block.try_write() {
        Ok(block) => Some(block),
        Err(TryLockError::Poisoned(block)) => Some(block.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
