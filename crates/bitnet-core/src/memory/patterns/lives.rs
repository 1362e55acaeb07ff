//! The blocks of a trace, by owner.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use crate::memory::{Change, Trace};

/// One block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub born: Duration,
    pub died: Option<Duration>,
    pub bytes: usize,
}

/// All blocks of a trace, each group in order of birth.
#[derive(Debug)]
pub(super) struct Lives {
    pub groups: BTreeMap<(u32, &'static str), Vec<Life>>,
    /// From the first to the last event.
    pub span: Range<Duration>,
    pub clock: Clock,
}

/// Time without long pauses, so that what fell into a night of rest does not seem to have stopped.
#[derive(Debug)]
pub(super) struct Clock {
    /// Moments, and how far each is in seconds of work.
    ticks: Vec<(Duration, f64)>,
}

/// A pause counts as no longer than this share of the trace.
const PAUSE: f64 = 0.02;

impl Clock {
    fn new(trace: &Trace, span: &Range<Duration>) -> Self {
        let most = (span.end - span.start).as_secs_f64() * PAUSE;
        let (mut last, mut work) = (span.start, 0.0);
        let ticks = trace.events().iter().map(|event| {
            work += (event.at - last).as_secs_f64().min(most);
            last = event.at;
            (event.at, work)
        });
        Self { ticks: ticks.collect() }
    }

    /// Work done until `at`, in seconds.
    pub fn work(&self, at: Duration) -> f64 {
        let next = self.ticks.partition_point(|&(tick, _)| tick <= at);
        next.checked_sub(1).map_or(0.0, |index| self.ticks[index].1)
    }

    /// When that much work was done.
    pub fn at(&self, work: f64) -> Duration {
        let next = self.ticks.partition_point(|&(_, done)| done < work).min(self.ticks.len() - 1);
        self.ticks[next].0
    }
}

impl Lives {
    pub fn of(trace: &Trace) -> Self {
        let mut groups = BTreeMap::<_, Vec<Life>>::new();
        let mut places = HashMap::new();
        for event in trace.events() {
            match event.change {
                Change::Alloc { id, bytes } => {
                    let key = (event.device, event.owner);
                    let group = groups.entry(key).or_default();
                    places.insert((event.device, id), (key, group.len()));
                    group.push(Life { born: event.at, died: None, bytes });
                }
                Change::Free { id } => {
                    if let Some((key, place)) = places.remove(&(event.device, id)) {
                        groups.entry(key).and_modify(|group| group[place].died = Some(event.at));
                    }
                }
                Change::Grow { .. } => {}
            }
        }
        let at = |event: Option<&crate::memory::Event>| event.map_or(Duration::ZERO, |event| event.at);
        let span = at(trace.events().first())..at(trace.events().last());
        Self { groups, clock: Clock::new(trace, &span), span }
    }
}

/// Changes of the live bytes, in order of time.
pub(super) fn steps(group: &[Life]) -> Vec<(Duration, isize)> {
    let births = group.iter().map(|life| (life.born, life.bytes as isize));
    let deaths = group.iter().filter_map(|life| Some((life.died?, -(life.bytes as isize))));
    let mut steps: Vec<_> = births.chain(deaths).collect();
    steps.sort_unstable();
    steps
}

/// The value that a share of the sorted values does not exceed.
pub(super) fn quantile<T: Copy + Default>(sorted: &[T], share: f64) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).copied().unwrap_or_default()
}

/// The moment at a share of the span.
pub(super) fn moment(span: &Range<Duration>, share: f64) -> Duration {
    span.start + (span.end - span.start).mul_f64(share)
}
