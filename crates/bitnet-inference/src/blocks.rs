//! The blocks of the KV cache: who holds them, and which full ones can be found again by their tokens.

mod lru;

use std::collections::HashMap;

use bitnet_model::batch::BLOCK_LEN;

use lru::Lru;

/// Names what a full block and everything before it hold. Never used twice, so that a chain through an
/// evicted block cannot be taken for a chain through its successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Prefix(u64);

impl Prefix {
    /// The prefix before the first block.
    pub const EMPTY: Self = Self(0);
}

/// What a cached block is found by. Hashing runs along the chain through `before`; equality compares real
/// tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    before: Prefix,
    tokens: [u32; BLOCK_LEN],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    block: u32,
    prefix: Prefix,
}

/// Every block is in exactly one state: free; held (`holders > 0`), cached or not; or cached and idle, in
/// `idle`.
#[derive(Debug)]
pub(crate) struct Blocks {
    holders: Vec<u32>,
    free: Vec<u32>,
    idle: Lru,
    cached: HashMap<Key, Entry>,
    /// The key of a cached block.
    keys: Vec<Option<Key>>,
    last_prefix: u64,
    /// Which blocks were handed out since they were last cooled: the memory behind them is in use, held or not.
    warm: Vec<bool>,
}

impl Blocks {
    pub fn new(capacity: u32) -> Self {
        let n = capacity as usize;
        Self {
            holders: vec![0; n],
            free: (0..capacity).rev().collect(),
            idle: Lru::new(capacity),
            // Twice the entries that there can be: removals then never make the table grow.
            cached: HashMap::with_capacity(2 * n),
            keys: vec![None; n],
            last_prefix: Prefix::EMPTY.0,
            warm: vec![false; n],
        }
    }

    pub fn capacity(&self) -> usize {
        self.holders.len()
    }

    /// Blocks that [`allocate`](Self::allocate) can give.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Blocks that hold a prefix which no sequence uses now.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Blocks that [`allocate`](Self::allocate) can give and whose memory is in use already.
    pub fn warm(&self) -> usize {
        self.warm.iter().filter(|warm| **warm).count() - (self.capacity() - self.available())
    }

    /// Blocks whose memory is in use for nothing that must stay, in ascending order: free ones, and all but `keep` of those with
    /// unused prefixes, which go in the order of their last use.
    pub fn surplus(&self, keep: usize) -> Vec<u32> {
        let free = self.free.iter().copied().filter(|&block| self.warm[block as usize]);
        let mut surplus: Vec<u32> =
            free.chain(self.idle.oldest().take(self.idle().saturating_sub(keep))).collect();
        surplus.sort_unstable();
        surplus
    }

    /// Drops all but `keep` unused prefixes and notes that the memory of the [`surplus`](Self::surplus) is gone; returns how many it dropped.
    pub fn cool(&mut self, keep: usize) -> usize {
        let before = self.idle();
        while self.idle() > keep
            && let Some(block) = self.evict()
        {
            self.free.push(block);
        }
        self.free.iter().for_each(|&block| self.warm[block as usize] = false);
        // The lowest are handed out first again: what is in use lies together.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        before - self.idle()
    }

    /// A block for one holder: a free one, else the one whose prefix was unused for longest.
    pub fn allocate(&mut self) -> Option<u32> {
        let block = self.free.pop().or_else(|| self.evict())?;
        Some(self.hand_out(block))
    }

    /// A block for one holder that takes nothing from the prefix cache.
    pub fn allocate_free(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        Some(self.hand_out(block))
    }

    /// Adds a holder to the block with `tokens` after `before`, if there is one.
    pub fn find(&mut self, before: Prefix, tokens: &[u32; BLOCK_LEN]) -> Option<(u32, Prefix)> {
        let &Entry { block, prefix } = self.cached.get(&Key { before, tokens: *tokens })?;
        self.hold(block);
        Some((block, prefix))
    }

    /// Makes a full block findable. Where another block already holds the same, the holder gets that one in
    /// exchange.
    pub fn share(&mut self, block: u32, before: Prefix, tokens: &[u32; BLOCK_LEN]) -> (u32, Prefix) {
        if let Some((same, prefix)) = self.find(before, tokens) {
            self.release(block);
            return (same, prefix);
        }
        self.last_prefix += 1;
        let (key, prefix) = (Key { before, tokens: *tokens }, Prefix(self.last_prefix));
        self.cached.insert(key, Entry { block, prefix });
        self.keys[block as usize] = Some(key);
        (block, prefix)
    }

    /// Takes a holder away. The blocks of a sequence are released from its end, so that the end is evicted
    /// first.
    pub fn release(&mut self, block: u32) {
        let holders = &mut self.holders[block as usize];
        *holders -= 1;
        if *holders == 0 {
            match self.keys[block as usize] {
                Some(_) => self.idle.push(block),
                None => self.free.push(block),
            }
        }
    }

    /// Takes a holder away from a block whose contents are not to be trusted: nobody finds it again.
    pub fn discard(&mut self, block: u32) {
        self.forget(block);
        self.release(block);
    }

    fn hand_out(&mut self, block: u32) -> u32 {
        self.holders[block as usize] = 1;
        self.warm[block as usize] = true;
        block
    }

    fn hold(&mut self, block: u32) {
        let holders = &mut self.holders[block as usize];
        if *holders == 0 {
            self.idle.remove(block);
        }
        *holders += 1;
    }

    fn evict(&mut self) -> Option<u32> {
        let block = self.idle.pop()?;
        self.forget(block);
        Some(block)
    }

    fn forget(&mut self, block: u32) {
        if let Some(key) = self.keys[block as usize].take() {
            self.cached.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u32; BLOCK_LEN] = [1; BLOCK_LEN];
    const B: [u32; BLOCK_LEN] = [2; BLOCK_LEN];

    #[test]
    fn a_block_is_found_only_after_the_same_prefix() {
        let mut blocks = Blocks::new(4);
        let (first, second) = (blocks.allocate().unwrap(), blocks.allocate().unwrap());
        let (_, after_a) = blocks.share(first, Prefix::EMPTY, &A);
        blocks.share(second, after_a, &B);
        assert_eq!(blocks.find(Prefix::EMPTY, &B), None);
        assert_eq!(blocks.find(after_a, &B).map(|found| found.0), Some(second));
    }

    #[test]
    fn a_chain_through_an_evicted_block_is_not_found() {
        let mut blocks = Blocks::new(2);
        let (first, second) = (blocks.allocate().unwrap(), blocks.allocate().unwrap());
        let (_, after_a) = blocks.share(first, Prefix::EMPTY, &A);
        blocks.share(second, after_a, &B);
        blocks.release(first);
        let reused = blocks.allocate().unwrap();
        let (_, again) = blocks.share(reused, Prefix::EMPTY, &A);
        assert_eq!(reused, first);
        assert_eq!(blocks.find(again, &B), None);
    }

    #[test]
    fn equal_blocks_become_one() {
        let mut blocks = Blocks::new(2);
        let (first, second) = (blocks.allocate().unwrap(), blocks.allocate().unwrap());
        blocks.share(first, Prefix::EMPTY, &A);
        assert_eq!(blocks.share(second, Prefix::EMPTY, &A).0, first);
        assert_eq!(blocks.available(), 1);
        blocks.release(first);
        blocks.release(first);
        assert_eq!((blocks.available(), blocks.idle()), (2, 1));
    }

    #[test]
    fn the_longest_unused_block_is_evicted_first() {
        let mut blocks = Blocks::new(2);
        let (first, second) = (blocks.allocate().unwrap(), blocks.allocate().unwrap());
        blocks.share(first, Prefix::EMPTY, &A);
        blocks.share(second, Prefix::EMPTY, &B);
        blocks.release(second);
        blocks.release(first);
        blocks.find(Prefix::EMPTY, &B).unwrap();
        blocks.release(second);
        assert_eq!(blocks.allocate(), Some(first));
        assert_eq!(blocks.allocate(), Some(second));
        assert_eq!(blocks.allocate(), None);
    }

    #[test]
    fn what_is_cooled_is_the_surplus_and_the_oldest_prefixes_go_first() {
        let mut blocks = Blocks::new(6);
        let [first, second, unshared] = [(); 3].map(|()| blocks.allocate().unwrap());
        let (_, after_a) = blocks.share(first, Prefix::EMPTY, &A);
        blocks.share(second, after_a, &B);
        [unshared, second, first].into_iter().for_each(|block| blocks.release(block));
        assert_eq!((blocks.warm(), blocks.surplus(2), blocks.surplus(1)), (3, vec![2], vec![1, 2]));
        assert_eq!((blocks.cool(1), blocks.warm(), blocks.surplus(1)), (1, 1, vec![]));
        assert_eq!(blocks.find(Prefix::EMPTY, &A).map(|found| found.0), Some(first));
        assert_eq!((blocks.find(after_a, &B), blocks.allocate()), (None, Some(second)));
        assert_eq!((blocks.warm(), blocks.available()), (0, 4));
    }

    #[test]
    fn a_discarded_block_is_not_found_again() {
        let mut blocks = Blocks::new(1);
        let block = blocks.allocate().unwrap();
        blocks.share(block, Prefix::EMPTY, &A);
        blocks.discard(block);
        assert_eq!(blocks.find(Prefix::EMPTY, &A), None);
        assert_eq!((blocks.available(), blocks.idle()), (1, 0));
    }
}
