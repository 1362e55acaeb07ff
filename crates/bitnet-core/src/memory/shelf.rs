//! Large blocks that a thread keeps: steps of a model ask for the same sizes again, and find them here without waiting for other threads. The
//! [depot](super::depot) keeps those that threads have no room for in the same way.

use super::block::Body;
use super::small::Bodies;

/// The largest block that is kept.
pub(super) const SHELF_MAX: usize = 4 << 20;
/// Most bytes, and most blocks, that are kept: as many as a step of training a small model leaves, or so few that loom sees them exchanged.
const SHELF_BYTES: usize = 16 * SHELF_MAX;
const SHELF_BLOCKS: usize = if cfg!(loom) { 2 } else { 512 };

/// Blocks from regions that are not in use. They are not merged with their neighbours before they leave, which they do before the pool
/// asks the system for more.
#[derive(Default)]
pub(super) struct Shelf {
    /// By length, which is found fast because there are few.
    piles: Vec<Pile>,
    bytes: usize,
    blocks: usize,
}

/// Blocks of one length, the oldest first.
struct Pile {
    len: usize,
    blocks: Bodies,
}

impl Shelf {
    /// The newest block of exactly `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Option<Box<Body>> {
        let at = self.find(len).ok()?;
        let body = self.piles[at].blocks.pop()?;
        self.bytes -= len;
        self.blocks -= 1;
        Some(body)
    }

    /// Keeps a block of at most [`SHELF_MAX`] bytes. Returns the older half of every pile where there is no room for it.
    #[inline]
    pub fn put(&mut self, body: Box<Body>) -> Bodies {
        let len = body.span.len;
        let full = self.blocks == SHELF_BLOCKS || self.bytes + len > SHELF_BYTES;
        let shed = if full { self.shed() } else { Bodies::new() };
        let at = self.find(len).unwrap_or_else(|at| {
            self.piles.insert(at, Pile { len, blocks: Bodies::new() });
            at
        });
        self.piles[at].blocks.push(body);
        self.bytes += len;
        self.blocks += 1;
        shed
    }

    #[cold]
    fn shed(&mut self) -> Bodies {
        let mut shed = Bodies::new();
        for Pile { len, blocks } in &mut self.piles {
            let half = blocks.len().div_ceil(2);
            shed.extend(blocks.drain(..half));
            self.bytes -= half * *len;
        }
        self.piles.retain(|pile| !pile.blocks.is_empty());
        self.blocks -= shed.len();
        shed
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Bodies {
        (self.bytes, self.blocks) = (0, 0);
        self.piles.drain(..).flat_map(|pile| pile.blocks).collect()
    }

    fn find(&self, len: usize) -> Result<usize, usize> {
        self.piles.binary_search_by_key(&len, |pile| pile.len)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;

    use super::super::block::Source;
    use super::super::large::Span;
    use super::*;

    /// A block of so many bytes that says where it is and when it came.
    fn block(len: usize, number: usize) -> Box<Body> {
        let start = NonNull::without_provenance(NonZeroUsize::MIN);
        Body::new(Span { start, len, home: number }, Source::Region)
    }

    fn numbers(blocks: &[Box<Body>]) -> Vec<usize> {
        blocks.iter().map(|block| block.span.home).collect()
    }

    #[test]
    fn the_newest_block_of_the_length_is_taken() {
        let mut shelf = Shelf::default();
        for (number, len) in [4096, 8192, 4096].into_iter().enumerate() {
            assert!(shelf.put(block(len, number)).is_empty());
        }
        let mut take = |len| shelf.take(len).map(|block| block.span.home);
        assert_eq!([take(4096), take(12288), take(4096), take(4096)], [Some(2), None, Some(0), None]);
        assert_eq!(numbers(&shelf.drain()), [1]);
    }

    #[test]
    fn a_full_shelf_sheds_the_older_half_of_every_pile() {
        let mut shelf = Shelf::default();
        for number in 0..SHELF_BLOCKS {
            assert!(shelf.put(block([4096, 8192][number % 2], number)).is_empty());
        }
        let shed = shelf.put(block(4096, SHELF_BLOCKS));
        let older = |first| (first..SHELF_BLOCKS / 2).step_by(2);
        assert_eq!(numbers(&shed), older(0).chain(older(1)).collect::<Vec<_>>());
        assert_eq!(shelf.drain().len(), SHELF_BLOCKS / 2 + 1);

        for number in 0..SHELF_BYTES / SHELF_MAX {
            assert!(shelf.put(block(SHELF_MAX, number)).is_empty());
        }
        assert_eq!(numbers(&shelf.put(block(4096, 99))), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((shelf.bytes, shelf.blocks), (SHELF_BYTES / 2 + 4096, 9));
    }
}
