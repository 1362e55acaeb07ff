//! Device imbalance: one device holds much more, or much less, than the others for most of the time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::Evidence;
use super::lives::{Lives, moment, steps};

/// Part of the trace that is left out as warm-up, and the number of parts that the rest is looked at in.
const WARM_UP: f64 = 0.2;
const PARTS: usize = 4;
/// How many times as much, or as little, as the others in every part.
const TIMES: f64 = 2.0;
/// Least difference that is worth a word.
const LEAST_BYTES: f64 = (16 << 20) as f64;

/// Mean live bytes of every part.
type Means = [f64; PARTS];

pub(super) fn find(lives: &Lives) -> Option<(u32, Evidence)> {
    let mut all = BTreeMap::<u32, Vec<_>>::new();
    for (&(device, _), group) in &lives.groups {
        all.entry(device).or_default().extend_from_slice(group);
    }
    let means: BTreeMap<u32, Means> = all
        .into_iter()
        .map(|(device, mut group)| {
            group.sort_unstable_by_key(|life| life.born);
            (device, std::array::from_fn(|part| mean(&steps(&group), &bounds(lives, part))))
        })
        .collect();
    means.keys().find_map(|&device| Some((device, outlier(&means, device)?)))
}

fn bounds(lives: &Lives, part: usize) -> Range<Duration> {
    let at = |part: usize| moment(&lives.span, WARM_UP + (1.0 - WARM_UP) * part as f64 / PARTS as f64);
    at(part)..at(part + 1)
}

/// Live bytes, averaged over the time.
fn mean(steps: &[(Duration, isize)], part: &Range<Duration>) -> f64 {
    let (mut live, mut from, mut area) = (0isize, part.start, 0.0);
    for &(at, change) in steps {
        let at = at.clamp(part.start, part.end);
        area += live as f64 * (at - from).as_secs_f64();
        (live, from) = (live + change, at);
    }
    area += live as f64 * (part.end - from).as_secs_f64();
    area / (part.end - part.start).as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The evidence, if the device holds more than every other, or less, by far and in every part.
fn outlier(means: &BTreeMap<u32, Means>, device: u32) -> Option<Evidence> {
    let own = means[&device];
    let others: Vec<&Means> =
        means.iter().filter(|&(&other, _)| other != device).map(|(_, means)| means).collect();
    if others.is_empty() {
        return None;
    }
    let other = |part: usize| others.iter().map(|means| means[part]).sum::<f64>() / others.len() as f64;
    let apart = |a: f64, b: f64| a >= TIMES * b && a - b >= LEAST_BYTES;
    let more = (0..PARTS).all(|part| apart(own[part], other(part)));
    let less = others.len() > 1 && (0..PARTS).all(|part| apart(other(part), own[part]));
    let mean = |of: &dyn Fn(usize) -> f64| ((0..PARTS).map(of).sum::<f64>() / PARTS as f64) as usize;
    (more || less).then(|| Evidence::Imbalance { bytes: mean(&|part| own[part]), others: mean(&other) })
}
