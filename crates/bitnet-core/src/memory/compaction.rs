//! Compaction: movable blocks are packed together, so that what is free becomes long runs and whole regions.

use std::collections::BTreeMap;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use super::large::{Fragmentation, Large, Span, distance};
use super::movable::unguarded;
use super::pool::Shared;
use super::sync::RwLock;
use super::{Block, Bytes, HybridMemoryPool};

/// What a compaction did, as counted before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Blocks that were moved.
    pub moved: usize,
    /// Bytes that were copied.
    pub bytes: usize,
    /// Blocks left where they are because a guard of them was out.
    pub busy: usize,
    /// How the memory was cut up before.
    pub before: Fragmentation,
    /// How it is cut up now.
    pub after: Fragmentation,
}

impl fmt::Display for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "moved {} blocks ({}), {} busy, largest free run {} -> {} of {} free",
            self.moved,
            Bytes(self.bytes),
            self.busy,
            Bytes(self.before.largest_free),
            Bytes(self.after.largest_free),
            Bytes(self.after.free),
        )
    }
}

/// Region id to its place: the fullest come first and are filled, the emptiest come last and are emptied.
pub(super) type Places = BTreeMap<usize, usize>;

impl HybridMemoryPool {
    /// Moves movable blocks that no guard holds out of thinly used regions and towards the start of the others, until
    /// there is no better place for any or `bytes` were copied. Nothing is given to the system; [`trim`](Self::trim) does.
    pub fn compact(&self, bytes: usize) -> Compaction {
        let mut report = Compaction { before: self.fragmentation(), ..Compaction::default() };
        let blocks = self.0.movables.all();
        let places = self.0.central().large.places();
        for (_, block) in ordered(&blocks, &places).into_iter().rev() {
            step(&self.0, block, &places, bytes, &mut report, Large::take_before);
        }
        for (_, block) in ordered(&blocks, &places) {
            step(&self.0, block, &places, bytes, &mut report, Large::take_below);
        }
        report.busy = blocks.iter().filter(|block| unguarded(block).is_none()).count();
        drop(blocks);
        report.after = self.fragmentation();
        report
    }
}

impl HybridMemoryPool {
    /// As [`compact`](Self::compact), and gives the system the regions that are in no use any more; those that were in none before stay.
    pub(super) fn compact_away(&self, bytes: usize) -> Compaction {
        // What threads keep comes back to its regions first.
        self.fragmentation();
        let unused = self.0.central().large.unused_ids();
        let mut report = self.compact(bytes);
        self.0.central().large.release_except(&unused);
        report.after = self.fragmentation();
        report
    }
}

/// The blocks that can be moved now, by the place of their region and their address.
fn ordered<'a>(
    blocks: &'a [Arc<RwLock<Block>>],
    places: &Places,
) -> Vec<((usize, usize), &'a RwLock<Block>)> {
    let position = |span: Span| Some((*places.get(&span.home)?, span.start.addr().get()));
    let mut ordered: Vec<_> =
        blocks.iter().filter_map(|block| Some((position(unguarded(block)?.span())?, &**block))).collect();
    ordered.sort_unstable_by_key(|&(position, _)| position);
    ordered
}

/// Moves one block to where `take` finds room, unless that would copy too much.
fn step(
    pool: &Shared,
    block: &RwLock<Block>,
    places: &Places,
    limit: usize,
    report: &mut Compaction,
    take: fn(&mut Large, Span, &Places) -> Option<Span>,
) {
    let Some(mut block) = unguarded(block) else { return };
    let from = block.span();
    if report.bytes + from.len > limit {
        return;
    }
    let Some(to) = take(&mut pool.central().large, from, places) else { return };
    // SAFETY: both spans are of `from.len` bytes at least and owned here: `from` by the block, whose write guard is held,
    // and `to` (or the part of it in front of `from`) by having been taken; `copy` allows them to overlap.
    unsafe { ptr::copy(from.start.as_ptr(), to.start.as_ptr(), from.len) };
    block.move_to(Span { len: from.len, ..to });
    pool.central().large.put(left_over(from, to));
    report.moved += 1;
    report.bytes += from.len;
}

/// What a move from one span to another leaves free: the old one, or its end where the two overlap.
fn left_over(from: Span, to: Span) -> Span {
    let gap = if to.home == from.home { distance(to.start, from.start) } else { usize::MAX };
    match gap < from.len {
        true => Span { start: super::large::offset(from.start, from.len - gap), len: gap, home: from.home },
        false => from,
    }
}
