//! Steady growth: the least that an owner holds rises through the whole trace.

use std::ops::Range;
use std::time::Duration;

use super::Evidence;
use super::lives::{Clock, Life, steps};

/// Windows over which the least is taken, so that what comes and goes does not count; a multiple of 3.
const WINDOWS: usize = 24;
/// Least rise, as a share of what is held at the end.
const RISE: f64 = 0.3;
/// Least share, of what an even rise would bring, that each third must bring. Growth that gains speed is no better.
const EVENNESS: [f64; 3] = [0.15, 0.4, 0.4];
/// Most that may be given back on the way, as a share of the rise.
const DRAWDOWN: f64 = 0.2;
/// Least number of blocks to speak of steadiness.
const LEAST_BLOCKS: usize = 12;

pub(super) fn find(group: &[Life], span: &Range<Duration>, clock: &Clock) -> Option<Evidence> {
    if group.len() < LEAST_BLOCKS {
        return None;
    }
    let floors = floors(group, clock.work(span.end), clock);
    let (first, last) = (floors[0], floors[WINDOWS - 1]);
    let rise = last - first;
    if rise <= RISE * last || drawdown(&floors) > DRAWDOWN * rise {
        return None;
    }
    let even = |third: usize| {
        let (from, to) = (third * (WINDOWS - 1) / 3, (third + 1) * (WINDOWS - 1) / 3);
        floors[to] - floors[from] >= EVENNESS[third] * rise / 3.0
    };
    (0..3).all(even).then(|| Evidence::Growth {
        from: first as usize,
        to: last as usize,
        per_second: rise / (span.end - span.start).as_secs_f64(),
    })
}

/// The least live bytes of every window.
fn floors(group: &[Life], work: f64, clock: &Clock) -> Vec<f64> {
    let mut steps = steps(group).into_iter().peekable();
    let mut live = 0isize;
    let window = |index: usize| {
        let end = clock.at(work * (index + 1) as f64 / WINDOWS as f64);
        let mut least = live;
        while let Some((_, change)) = steps.next_if(|&(at, _)| at <= end) {
            live += change;
            least = least.min(live);
        }
        least as f64
    };
    (0..WINDOWS).map(window).collect()
}

/// The largest fall from a height reached before.
fn drawdown(floors: &[f64]) -> f64 {
    let mut height = 0f64;
    let falls = floors.iter().map(|&floor| {
        height = height.max(floor);
        height - floor
    });
    falls.fold(0.0, f64::max)
}
