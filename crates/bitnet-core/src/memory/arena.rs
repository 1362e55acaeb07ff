//! Address space that pieces of memory share, so that the system's larger pages span several of them. A thread reads a third more in such
//! pages than in small ones, whose addresses it keeps looking up, and few matrices of a model fill them by themselves.

use memmap2::{Advice, MmapMut, MmapRaw, UncheckedAdvice};
use std::{
    ops::Range,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Address space of an arena; what of it is in use takes memory, in steps of the larger pages.
const ARENA: usize = 256 << 20;
/// The largest share: what is larger fills pages by itself.
pub(super) const SHARE_MAX: usize = ARENA / 4;
/// Shares begin and end with a page.
pub(super) const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// The arenas of the process.
pub(super) static ARENAS: Arenas = Arenas::new();

/// Arenas, from old to new.
pub(super) struct Arenas(Mutex<Vec<Arena>>);

/// Zeroed memory of an arena.
#[derive(Debug)]
pub(super) struct Share {
    /// The first byte.
    pub(super) start: NonNull<u8>,
    len: usize,
}

struct Arena {
    /// Raw, because others hold parts of it.
    map: MmapRaw,
    /// What is free, by place; no two lie beside each other.
    free: Vec<Range<usize>>,
}

impl Arenas {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arena>> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At least so many bytes; none where they are more than [`SHARE_MAX`] or the system gives none.
    pub(super) fn take(&self, bytes: usize) -> Option<Share> {
        let len = bytes.checked_next_multiple_of(PAGE).filter(|len| (1..=SHARE_MAX).contains(len))?;
        let mut arenas = self.lock();
        if let Some(share) = arenas.iter_mut().find_map(|arena| arena.take(len)) {
            return Some(share);
        }
        let mut arena = Arena::new()?;
        let share = arena.take(len);
        arenas.push(arena);
        share
    }

    /// Gives the memory of a share back to the system, at once.
    ///
    /// # Safety
    /// The share is one that [`Arenas::take`] of these arenas returned, and nobody uses it any more.
    pub(super) unsafe fn give_back(&self, share: Share) {
        let mut arenas = self.lock();
        let found = arenas.iter().enumerate().find_map(|(i, arena)| Some((i, arena.place(&share)?)));
        let (i, place) = found.expect("a share lies in one of the arenas");
        // SAFETY: the share lies there, and nobody uses it.
        unsafe { arenas[i].give_back(place) };
        if arenas[i].is_free() {
            arenas.remove(i);
        }
    }

    /// Gives the memory of some pages of a share back to the system, by their addresses; returns whether it did. They are zero afterwards.
    ///
    /// # Safety
    /// The share is in use, the pages lie inside of it, and nobody uses their bytes meanwhile.
    pub(super) unsafe fn discard(&self, share: &Share, pages: Range<usize>) -> bool {
        let arenas = self.lock();
        let Some(arena) = arenas.iter().find(|arena| arena.place(share).is_some()) else { return false };
        let at = pages.start - arena.map.as_ptr().addr();
        // SAFETY: the pages lie in this arena, and nobody uses them.
        unsafe { arena.map.unchecked_advise_range(UncheckedAdvice::DontNeed, at, pages.len()) }.is_ok()
    }
}

impl Arena {
    fn new() -> Option<Self> {
        let map = MmapRaw::from(MmapMut::map_anon(ARENA).ok()?);
        // It works without.
        map.advise(Advice::HugePage).ok();
        Some(Self { map, free: std::iter::once(0..ARENA).collect() })
    }

    fn is_free(&self) -> bool {
        self.free.first().is_some_and(|range| range.len() == ARENA)
    }

    /// The best fit of what is free, the first of several.
    fn take(&mut self, len: usize) -> Option<Share> {
        let fitting = self.free.iter_mut().filter(|range| range.len() >= len);
        let range = fitting.min_by_key(|range| range.len())?;
        let at = range.start;
        range.start += len;
        self.free.retain(|range| !range.is_empty());
        // SAFETY: the place lies inside the mapping.
        let start = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(at)) };
        Some(Share { start, len })
    }

    /// Where a share lies, if it is one of this arena.
    fn place(&self, share: &Share) -> Option<Range<usize>> {
        let at = share.start.addr().get().checked_sub(self.map.as_ptr().addr())?;
        (at < ARENA).then_some(at..at + share.len)
    }

    /// # Safety
    /// The place is that of a share that nobody uses.
    unsafe fn give_back(&mut self, place: Range<usize>) {
        // SAFETY: nobody uses these bytes, which are zero when they are read again.
        let given =
            unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, place.start, place.len()) };
        if given.is_err() {
            // SAFETY: the place lies inside the mapping, and nobody uses it.
            unsafe { self.map.as_mut_ptr().add(place.start).write_bytes(0, place.len()) };
        }
        let next = self.free.partition_point(|range| range.start < place.start);
        self.free.insert(next, place);
        self.free.dedup_by(|later, before| {
            let touch = before.end == later.start;
            if touch {
                before.end = later.end;
            }
            touch
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(share: &mut Share) -> &mut [u8] {
        // SAFETY: whoever holds a share owns its memory.
        unsafe { std::slice::from_raw_parts_mut(share.start.as_ptr(), share.len) }
    }

    #[test]
    fn what_fits_best_is_taken_and_neighbours_are_merged() {
        let arenas = Arenas::new();
        let mut shares: Vec<Share> = (1..=4).map(|n| arenas.take(n << 20).unwrap()).collect();
        let starts: Vec<_> = shares.iter().map(|share| share.start).collect();
        // SAFETY: every share is one of these arenas and given back once.
        let give_back = |share| unsafe { arenas.give_back(share) };
        let fourth = shares.pop().unwrap();
        give_back(shares.remove(2));
        give_back(shares.remove(0));
        // One MiB fits best where the first was, two where the third was.
        let (one, two) = (arenas.take(1 << 20).unwrap(), arenas.take(2 << 20).unwrap());
        assert_eq!([one.start, two.start], [starts[0], starts[2]]);
        for share in [one, two, fourth, shares.remove(0)] {
            give_back(share);
        }
        assert!(arenas.lock().is_empty());
    }

    #[test]
    fn too_much_is_not_shared() {
        let arenas = Arenas::new();
        assert!(arenas.take(SHARE_MAX + 1).is_none());
        assert!(arenas.take(usize::MAX).is_none());
        assert!(arenas.take(0).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn shares_are_zero_disjoint_and_given_back(
            steps in prop::collection::vec((any::<bool>(), 1usize..40 << 20, any::<prop::sample::Index>()), 1..60),
        ) {
            let arenas = Arenas::new();
            let mut held: Vec<Share> = Vec::new();
            for (i, (take, len, which)) in steps.into_iter().enumerate() {
                if take || held.is_empty() {
                    let mut share = arenas.take(len).unwrap();
                    prop_assert!(share.len >= len);
                    let bytes = bytes(&mut share);
                    prop_assert!(bytes.iter().step_by(1 << 16).all(|&byte| byte == 0));
                    let tag = i as u8 + 1;
                    bytes.iter_mut().step_by(1 << 16).for_each(|byte| *byte = tag);
                    *bytes.last_mut().unwrap() = tag;
                    held.push(share);
                } else {
                    let mut share = held.swap_remove(which.index(held.len()));
                    let bytes = bytes(&mut share);
                    let tag = bytes[0];
                    prop_assert!(tag != 0 && bytes.iter().step_by(1 << 16).chain(bytes.last()).all(|&byte| byte == tag));
                    // SAFETY: it is one of these arenas, and was the only one.
                    unsafe { arenas.give_back(share) };
                }
            }
            for share in held {
                // SAFETY: as above.
                unsafe { arenas.give_back(share) };
            }
            prop_assert!(arenas.lock().is_empty());
        }
    }
}
