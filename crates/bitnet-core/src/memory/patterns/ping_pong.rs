//! Ping-pong: a block is freed and at once allocated again with the same size.

use std::collections::HashMap;

use super::Evidence;
use super::lives::{Life, quantile};

/// Cycles that are worth a word.
const LEAST_CYCLES: usize = 32;
/// Most time without the block, as a share of its lifetime.
const GAP: f64 = 0.5;
/// Least share of the blocks of the size that must take part.
const SHARE: f64 = 0.6;

pub(super) fn find(group: &[Life]) -> Option<Evidence> {
    let mut sizes = HashMap::<usize, Vec<usize>>::new();
    for (index, life) in group.iter().enumerate() {
        sizes.entry(life.bytes).or_default().push(index);
    }
    let found = sizes.into_iter().filter_map(|(bytes, places)| cycles(group, bytes, &places));
    found.max_by_key(|&(cycles, bytes, _)| (cycles, bytes)).map(|(_, _, evidence)| evidence)
}

fn cycles(group: &[Life], bytes: usize, places: &[usize]) -> Option<(usize, usize, Evidence)> {
    let mut gaps = Vec::new();
    let mut lifetimes = Vec::new();
    for pair in places.windows(2) {
        let (this, next) = (&group[pair[0]], &group[pair[1]]);
        let Some(died) = this.died.filter(|&died| died <= next.born) else { continue };
        let (lifetime, gap) = (died - this.born, next.born - died);
        // Where the owner allocated something else in between, the blocks take turns and one cannot stay.
        if gap <= lifetime.mul_f64(GAP) && pair[1] == pair[0] + 1 {
            gaps.push(gap);
            lifetimes.push(lifetime);
        }
    }
    if gaps.len() < LEAST_CYCLES || (gaps.len() as f64) < SHARE * places.len() as f64 {
        return None;
    }
    gaps.sort_unstable();
    lifetimes.sort_unstable();
    let (gap, lifetime) = (quantile(&gaps, 0.5), quantile(&lifetimes, 0.5));
    Some((gaps.len(), bytes, Evidence::PingPong { bytes, cycles: gaps.len(), gap, lifetime }))
}
