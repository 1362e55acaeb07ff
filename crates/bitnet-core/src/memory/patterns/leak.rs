//! Leak suspects: blocks that outlive their owner's others by far, and that keep coming.

use std::ops::Range;
use std::time::Duration;

use super::Evidence;
use super::lives::{Clock, Life, quantile};

/// Freed blocks that are needed to know what is usual, and suspects that are needed to be sure.
const LEAST_FREED: usize = 16;
const LEAST_SUSPECTS: usize = 5;
/// Times the usual lifetime from which on a block is suspect.
const OVERDUE: f64 = 4.0;
/// Least share, of what an even flow would bring, that each third of the work must bring.
const EVENNESS: f64 = 0.25;

pub(super) fn find(group: &[Life], span: &Range<Duration>, clock: &Clock) -> Option<Evidence> {
    let mut lifetimes: Vec<Duration> = group.iter().filter_map(|life| Some(life.died? - life.born)).collect();
    if lifetimes.len() < LEAST_FREED {
        return None;
    }
    lifetimes.sort_unstable();
    let work = clock.work(span.end) - overdue(group, clock);
    let suspects: Vec<&Life> =
        group.iter().filter(|life| life.died.is_none() && clock.work(life.born) < work).collect();
    if suspects.len() < LEAST_SUSPECTS || !keep_coming(&suspects, work, clock) {
        return None;
    }
    Some(Evidence::Leak {
        blocks: suspects.len(),
        bytes: suspects.iter().map(|life| life.bytes).sum(),
        oldest: span.end - suspects[0].born,
        usual: quantile(&lifetimes, 0.95),
    })
}

/// Age, in work, from which on a block is suspect: a pause makes nothing overdue.
fn overdue(group: &[Life], clock: &Clock) -> f64 {
    let mut lifetimes: Vec<f64> =
        group.iter().filter_map(|life| Some(clock.work(life.died?) - clock.work(life.born))).collect();
    lifetimes.sort_unstable_by(f64::total_cmp);
    (OVERDUE * quantile(&lifetimes, 0.95)).max(2.0 * quantile(&lifetimes, 0.99))
}

/// Whether every third of the work brings suspects: what is made at the start and kept is no leak, nor is a cache
/// that fills up.
fn keep_coming(suspects: &[&Life], work: f64, clock: &Clock) -> bool {
    let least = (suspects.len() as f64 / 3.0 * EVENNESS).max(1.0);
    (0..3).all(|third| {
        let part = clock.at(work * f64::from(third) / 3.0)..clock.at(work * f64::from(third + 1) / 3.0);
        suspects.iter().filter(|life| part.contains(&life.born)).count() as f64 >= least
    })
}
