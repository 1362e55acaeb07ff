//! Short-lived bursts: many blocks come together, live together and go together, with rest around.

use std::ops::Range;
use std::time::Duration;

use super::Evidence;
use super::lives::{Life, steps};

/// Blocks that make a burst.
const LEAST_BLOCKS: usize = 32;
/// Most time between two births of a burst, as a share of the mean over the trace.
const CLOSE: f64 = 0.1;
/// Least share of the blocks of a burst that live at once, and that are gone when it is over.
const TOGETHER: f64 = 0.5;
const GONE: f64 = 0.9;
/// A burst is over this many times the time of its births after their start.
const AFTERGLOW: u32 = 4;
/// Most of the trace that a burst may last, and all together.
const LONGEST: f64 = 0.05;
const DUTY: f64 = 0.3;

/// What one burst came to.
struct Burst {
    blocks: usize,
    bytes: usize,
    length: Duration,
}

pub(super) fn find(group: &[Life], span: &Range<Duration>) -> Option<Evidence> {
    if group.len() < LEAST_BLOCKS {
        return None;
    }
    let whole = span.end - span.start;
    let close = whole.mul_f64(CLOSE / group.len() as f64);
    let clusters = group.chunk_by(|a, b| b.born - a.born <= close);
    let bursts: Vec<Burst> = clusters.filter_map(|cluster| burst(cluster, whole)).collect();
    let duty: Duration = bursts.iter().map(|burst| burst.length).sum();
    let largest = bursts.iter().max_by_key(|burst| burst.blocks)?;
    (duty <= whole.mul_f64(DUTY)).then_some(Evidence::Burst {
        bursts: bursts.len(),
        blocks: largest.blocks,
        bytes: largest.bytes,
        length: largest.length,
    })
}

fn burst(cluster: &[Life], whole: Duration) -> Option<Burst> {
    if cluster.len() < LEAST_BLOCKS {
        return None;
    }
    let start = cluster[0].born;
    let births = cluster[cluster.len() - 1].born - start;
    let over = start + births * AFTERGLOW;
    let mut deaths: Vec<Duration> =
        cluster.iter().filter_map(|l| l.died.filter(|&died| died <= over)).collect();
    deaths.sort_unstable();
    let (blocks, bytes) = peak(cluster);
    let share = |count: usize| count as f64 / cluster.len() as f64;
    let length = deaths.last().copied()?.max(start + births) - start;
    let short = length <= whole.mul_f64(LONGEST);
    (share(deaths.len()) >= GONE && share(blocks) >= TOGETHER && short).then_some(Burst {
        blocks,
        bytes,
        length,
    })
}

/// The most blocks, and the most bytes, that live at once.
fn peak(cluster: &[Life]) -> (usize, usize) {
    let (mut blocks, mut bytes, mut most) = (0isize, 0isize, (0, 0));
    for (_, change) in steps(cluster) {
        blocks += change.signum();
        bytes += change;
        most = (most.0.max(blocks), most.1.max(bytes));
    }
    (most.0 as usize, most.1 as usize)
}
