//! Memory: one pool for the host and for devices.
//!
//! [`HybridMemoryPool`] keeps what is freed and hands it out again. Blocks of up to 64 KiB come from size classes with a
//! cache for every thread, larger ones from the best fitting free run of the regions held, split on allocation and merged with
//! their neighbours on release, once no thread keeps them for the next request of the same size. What one thread has no room
//! for waits for others. [`RawAlloc`] is all that a device owes it. Memory is reached through [`Block`]s, which return on drop, so that a
//! double free, a use after free or a block in the wrong pool cannot be written in safe code.
//!
//! A pool can be looked into: [`Tracking`] says how much it remembers, [`Snapshot`] is what it remembered, and [`patterns`]
//! reads a [`Trace`] for leaks and waste. [`pressure`] tells how scarce memory is and [`cleanup`] gives it back.

#[cfg(target_os = "linux")]
mod arena;
mod block;
mod central;
pub mod cleanup;
mod clock;
mod compaction;
mod depot;
mod error;
mod export;
mod host;
mod large;
mod latch;
mod movable;
mod page;
pub mod patterns;
mod pool;
pub mod pressure;
mod raw;
mod record;
mod shelf;
mod small;
mod snapshot;
mod stats;
mod sync;
mod trace;
mod tracker;
pub mod usage;

pub use block::Block;
pub use compaction::Compaction;
pub use error::{MemoryError, Result};
pub use host::Host;
pub use large::Fragmentation;
pub use movable::{Movable, MovableRead, MovableWrite};
pub use pool::HybridMemoryPool;
pub use raw::{RawAlloc, RawMem};
pub use record::{Lifetime, Owner, Record};
pub use snapshot::{OwnerTotal, SizeCount, Snapshot};
pub use stats::{Bytes, Stats};
pub use trace::{Change, Event, Trace};
pub use tracker::Tracking;

/// Alignment of blocks that ask for none: a cache line, and the widest vector register.
pub const DEFAULT_ALIGN: usize = 64;
/// Largest alignment that a block can ask for: a memory page.
pub const MAX_ALIGN: usize = 4096;
