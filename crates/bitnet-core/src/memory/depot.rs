//! Blocks on their way from a thread that frees them to one that asks for such: they go from cache to cache as they are, not by way of the
//! slabs and regions that they were cut from.

use super::block::Body;
use super::shelf::Shelf;
use super::small::{Bodies, CLASSES};

/// Most batches of one class that wait, each half of what a thread keeps of it.
const BATCHES: usize = 8;

/// What waits for a thread.
pub(super) struct Depot {
    /// Of every class the batches that threads had no room for.
    batches: [Vec<Bodies>; CLASSES],
    shelf: Shelf,
}

impl Depot {
    pub fn new() -> Self {
        Self { batches: [const { Vec::new() }; CLASSES], shelf: Shelf::default() }
    }

    /// Keeps a batch of the class; gives it back where there is no room.
    pub fn put_small(&mut self, class: usize, batch: Bodies) -> Bodies {
        let batches = &mut self.batches[class];
        if batches.len() == BATCHES {
            return batch;
        }
        batches.push(batch);
        Bodies::new()
    }

    /// A batch of the class: one block for whoever asks, and the others.
    pub fn take_small(&mut self, class: usize) -> Option<(Box<Body>, Bodies)> {
        let mut batch = self.batches[class].pop()?;
        let body = batch.pop()?;
        Some((body, batch))
    }

    /// Keeps a large block; returns those for which there is no more room.
    pub fn put_large(&mut self, body: Box<Body>) -> Bodies {
        self.shelf.put(body)
    }

    /// A large block of exactly `len` bytes.
    pub fn take_large(&mut self, len: usize) -> Option<Box<Body>> {
        self.shelf.take(len)
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Bodies {
        let small = self.batches.iter_mut().flat_map(|batches| batches.drain(..)).flatten();
        small.chain(self.shelf.drain()).collect()
    }
}
