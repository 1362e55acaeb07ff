//! Traces of a toy heap: first fit by address over regions that are never given back.

use bitnet_core::memory::Change;

use super::story::Story;

const KIB: usize = 1 << 10;
const REGION: usize = 4 << 20;

/// Free runs, each inside one region: start and length. Regions are numbered far apart, so that they never touch.
struct Heap {
    free: Vec<(usize, usize)>,
    regions: usize,
    held: usize,
}

impl Heap {
    fn new() -> Self {
        Self { free: Vec::new(), regions: 0, held: 0 }
    }

    fn take(&mut self, s: &mut Story, at: f64, bytes: usize) -> (usize, usize) {
        let Some(index) = self.free.iter().position(|&(_, len)| len >= bytes) else {
            let free = self.free.iter().map(|&(_, len)| len).sum();
            let largest_free = self.free.iter().map(|&(_, len)| len).max().unwrap_or(0);
            let got = REGION.max(bytes);
            self.held += got;
            s.grow(at, Change::Grow { wanted: bytes, got, free, largest_free, held: self.held });
            self.free.push((self.regions << 40, got));
            self.regions += 1;
            return self.take(s, at, bytes);
        };
        let (start, len) = self.free[index];
        self.free[index] = (start + bytes, len - bytes);
        self.free.retain(|&(_, len)| len > 0);
        (start, bytes)
    }

    fn put(&mut self, run: (usize, usize)) {
        self.free.push(run);
        self.free.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for &(start, len) in &self.free {
            match merged.last_mut() {
                Some(last) if last.0 + last.1 == start => last.1 += len,
                _ => merged.push((start, len)),
            }
        }
        self.free = merged;
    }
}

/// Fills the heap in the first third, frees what `keep` does not keep, and then works with up to `wide` blocks.
fn phases(s: &mut Story, keep: impl Fn(&mut Story, usize) -> bool, large: (usize, usize), wide: usize) {
    let mut heap = Heap::new();
    let count = s.random.count(300, 600);
    let filled: Vec<_> = (0..count)
        .map(|i| {
            let (at, bytes) = (0.05 + 0.25 * i as f64 / count as f64, s.random.count(8, 64) * 4 * KIB);
            (at, heap.take(s, at, bytes))
        })
        .collect();
    for (i, &(born, run)) in filled.iter().enumerate() {
        if keep(s, i) {
            s.block("pinned", run.1, born, 2.0);
        } else {
            s.block("filler", run.1, born, 0.32);
            heap.put(run);
        }
    }
    turn_over(s, &mut heap, large, wide);
}

/// Blocks of a size between two, of which the oldest is freed once there are `wide`.
fn turn_over(s: &mut Story, heap: &mut Heap, (low, high): (usize, usize), wide: usize) {
    let mut live = std::collections::VecDeque::new();
    let count = wide * 5;
    for i in 0..count {
        let at = 0.34 + 0.65 * i as f64 / count as f64;
        if live.len() == wide {
            let (born, run) = live.pop_front().expect("there are as many as may be");
            heap.put(run);
            s.block("work", run.1, born, at);
        }
        let bytes = s.random.count(low / KIB, high / KIB) * KIB;
        live.push_back((at, heap.take(s, at, bytes)));
    }
    for (born, run) in live {
        s.block("work", run.1, born, 2.0);
    }
}

/// Pinned blocks all over the heap leave only holes that are too short.
pub fn checkerboard(s: &mut Story) {
    let kept = s.random.between(0.35, 0.6);
    let wide = s.random.count(20, 50);
    phases(s, |s, _| s.random.chance(kept), (768 * KIB, 1000 * KIB), wide);
}

/// All is freed, and merges again.
pub fn coalescing(s: &mut Story) {
    let wide = s.random.count(12, 30);
    phases(s, |_, _| false, (768 * KIB, 1000 * KIB), wide);
}

/// Holes everywhere, but what is asked for fits into them.
pub fn small_requests(s: &mut Story) {
    let (kept, wide) = (s.random.between(0.2, 0.45), s.random.count(12, 40));
    phases(s, |s, _| s.random.chance(kept), (8 * KIB, 32 * KIB), wide);
}

/// Every block has the same size, so that every hole fits.
pub fn one_size(s: &mut Story) {
    let mut heap = Heap::new();
    let wide = s.random.count(30, 80);
    turn_over(s, &mut heap, (512 * KIB, 512 * KIB), wide);
}

/// The heap is cut up once, but then what is large fits beside.
pub fn a_bad_moment(s: &mut Story) {
    let mut heap = Heap::new();
    let blocks: Vec<_> = (0..60).map(|i| heap.take(s, 0.1 + 0.001 * f64::from(i), 128 * KIB)).collect();
    for (i, &run) in blocks.iter().enumerate() {
        let odd = i % 2 == 1;
        s.block("filler", run.1, 0.1 + 0.001 * i as f64, if odd { 0.2 } else { 0.5 });
        if odd {
            heap.put(run);
        }
    }
    let run = heap.take(s, 0.3, 600 * KIB);
    s.block("work", run.1, 0.3, 0.9);
}
