//! Blocks in order of their last use.

#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

/// A ring of linked blocks through one end mark, whose index is the capacity: no operation allocates or
/// searches.
#[derive(Debug)]
pub(super) struct Lru {
    links: Vec<Link>,
    end: u32,
    len: usize,
}

impl Lru {
    pub fn new(capacity: u32) -> Self {
        Self {
            links: vec![Link { older: capacity, newer: capacity }; capacity as usize + 1],
            end: capacity,
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a block that is not in the list, as the newest.
    pub fn push(&mut self, block: u32) {
        let newest = self.links[self.end as usize].older;
        self.links[block as usize] = Link { older: newest, newer: self.end };
        self.links[newest as usize].newer = block;
        self.links[self.end as usize].older = block;
        self.len += 1;
    }

    /// Removes a block that is in the list.
    pub fn remove(&mut self, block: u32) {
        let Link { older, newer } = self.links[block as usize];
        self.links[older as usize].newer = newer;
        self.links[newer as usize].older = older;
        self.len -= 1;
    }

    /// The blocks from the oldest to the newest.
    pub fn oldest(&self) -> impl Iterator<Item = u32> {
        let newer = |&block: &u32| Some(self.links[block as usize].newer);
        std::iter::successors(Some(self.links[self.end as usize].newer), newer).take(self.len)
    }

    /// Removes the oldest.
    pub fn pop(&mut self) -> Option<u32> {
        let oldest = self.links[self.end as usize].newer;
        (oldest != self.end).then(|| {
            self.remove(oldest);
            oldest
        })
    }
}
