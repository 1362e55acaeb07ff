//! What is remembered about one allocation, and on whose behalf it was made.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// One allocation.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number that no other allocation of the pool has.
    pub id: u64,
    /// Bytes asked for.
    pub bytes: usize,
    /// Bytes reserved.
    pub capacity: usize,
    /// On whose behalf it was made; empty where nobody said.
    pub owner: &'static str,
    /// Thread that made it, an index into [`Snapshot::threads`](super::Snapshot::threads).
    pub thread: u32,
    /// When it was made, since the pool was.
    pub born: Duration,
    /// Where it was made, at [`Tracking::Debug`](super::Tracking::Debug).
    pub backtrace: Option<Arc<Backtrace>>,
}

/// An allocation that was freed.
#[derive(Clone, Debug)]
pub struct Lifetime {
    /// The allocation.
    pub record: Record,
    /// When it was freed, since the pool was made.
    pub died: Duration,
    /// Thread that freed it, as [`Record::thread`].
    pub freed_by: u32,
}

impl Lifetime {
    /// Time from allocation to release.
    pub fn length(&self) -> Duration {
        self.died.saturating_sub(self.record.born)
    }
}

thread_local! {
    static OWNER: Cell<&'static str> = const { Cell::new("") };
}

/// A scope whose allocations on this thread are recorded under a name, until it is dropped.
///
/// ```
/// use bitnet_core::memory::{HybridMemoryPool, Owner, Tracking};
/// let pool = HybridMemoryPool::host();
/// pool.set_tracking(Tracking::Records);
/// let _scope = Owner::enter("kv cache");
/// let _block = pool.alloc(4096)?;
/// assert_eq!(pool.snapshot().live[0].owner, "kv cache");
/// # Ok::<(), bitnet_core::memory::MemoryError>(())
/// ```
#[derive(Debug)]
#[must_use = "the scope ends when it is dropped"]
pub struct Owner {
    outer: &'static str,
    /// A scope belongs to the thread that entered it.
    here: PhantomData<*const ()>,
}

impl Owner {
    /// Starts a scope inside the present one.
    pub fn enter(name: &'static str) -> Self {
        Self { outer: OWNER.replace(name), here: PhantomData }
    }

    /// The name of the innermost scope of this thread; empty outside of all.
    pub fn current() -> &'static str {
        OWNER.get()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        OWNER.set(self.outer);
    }
}
