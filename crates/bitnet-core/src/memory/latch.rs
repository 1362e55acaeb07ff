//! A lock for what one thread uses nearly always.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::sync::{AtomicBool, UnsafeCell, yield_now};

/// A lock that is taken with one exchange and given back with one store, where a `Mutex` takes two exchanges. Who waits does not sleep,
/// so that it suits what is rarely wanted by two threads at once.
pub(super) struct Latch<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `lock` lets one thread at a time at the value, so that sharing a latch does no more than send the value to and fro.
unsafe impl<T: Send> Sync for Latch<T> {}

/// The value, for the thread that took the latch; its end gives the latch back.
pub(super) struct Latched<'a, T> {
    latch: &'a Latch<T>,
    /// Stays on its thread: others would share a value that may not be shared.
    _value: PhantomData<*mut T>,
}

impl<T> Latch<T> {
    pub fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub fn lock(&self) -> Latched<'_, T> {
        loop {
            match self.try_lock() {
                Some(latched) => return latched,
                None => yield_now(),
            }
        }
    }

    /// The value, unless another thread has it.
    #[inline]
    pub fn try_lock(&self) -> Option<Latched<'_, T>> {
        let taken = self.taken.compare_exchange(false, true, Acquire, Relaxed);
        taken.ok().map(|_| Latched { latch: self, _value: PhantomData })
    }
}

impl<T> Deref for Latched<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: whoever took the latch is alone with the value until it drops this, which the reference does not outlive.
        self.latch.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Latched<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and this is borrowed mutably.
        self.latch.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Latched<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.latch.taken.store(false, Release);
    }
}
