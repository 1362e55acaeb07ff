//! Fragmentation: the system is asked again and again although enough is free, in runs that are too short.

use std::collections::BTreeMap;

use super::Evidence;
use crate::memory::{Change, Trace};

/// Requests that are needed to be sure.
const LEAST_GROWTHS: usize = 3;
/// Least share of what is held that is free and of no use.
const FREE: f64 = 0.15;
/// Least share of what is held at the end that could have been spared.
const VAIN: f64 = 0.05;

/// What was seen of a device.
#[derive(Default)]
struct Seen {
    growths: usize,
    bytes: usize,
    worst: (usize, usize),
    held: usize,
}

pub(super) fn find(trace: &Trace) -> Vec<(u32, Evidence)> {
    let mut devices = BTreeMap::<u32, Seen>::new();
    for event in trace.events() {
        let Change::Grow { wanted, got, free, largest_free, held } = event.change else { continue };
        let seen = devices.entry(event.device).or_default();
        seen.held = held;
        if free >= wanted && largest_free < wanted && free as f64 >= FREE * held as f64 {
            seen.growths += 1;
            seen.bytes += got;
            seen.worst = seen.worst.max((free, largest_free));
        }
    }
    let cut_up = |seen: &Seen| seen.growths >= LEAST_GROWTHS && seen.bytes as f64 >= VAIN * seen.held as f64;
    let found = devices.into_iter().filter(|(_, seen)| cut_up(seen));
    found
        .map(|(device, seen)| {
            let (free, largest_free) = seen.worst;
            (device, Evidence::Fragmentation { growths: seen.growths, bytes: seen.bytes, free, largest_free })
        })
        .collect()
}
