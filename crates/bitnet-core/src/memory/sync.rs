//! What threads meet at, from std; under `cfg(loom)` from loom, which runs the threads of `tests/loom.rs` in every order.
//!
//! `Arc` and `Weak` are std's in both: loom has no `Weak` and does not make an `Arc` of a trait.

#[cfg(not(loom))]
pub(super) use std::{
    sync::atomic::{AtomicIsize, AtomicU8, AtomicUsize},
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread_local,
};

#[cfg(loom)]
pub(super) use loom::{
    sync::atomic::{AtomicIsize, AtomicU8, AtomicUsize},
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Loom initialises at the first use, not in a constant.
#[cfg(loom)]
macro_rules! local {
    (static $name:ident: $type:ty = const $init:block;) => {
        loom::thread_local! { static $name: $type = $init; }
    };
}
#[cfg(loom)]
pub(super) use local as thread_local;
