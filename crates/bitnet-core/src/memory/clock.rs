//! What time it is, at a third of what the system asks for telling it.
//!
//! On x86-64 under Linux, where the kernel itself trusts the counter of the processor, a moment is a reading of that counter. How long
//! a tick is gets measured once, when a moment is first compared with another; elsewhere a tick is a nanosecond of the system's clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time between two readings of both clocks that says well enough how long a tick is.
const CALIBRATION: Duration = Duration::from_millis(1);

/// A reading. Threads that read one right after the other may get them in the other order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// Reads the time of the process, and tells it since it was made itself.
#[derive(Debug)]
pub(super) struct Clock {
    source: &'static Source,
    start: Moment,
}

/// Where the time of the process comes from.
#[derive(Debug)]
struct Source {
    start: Instant,
    /// The counter at the start, where it can be trusted.
    counter: Option<u64>,
    nanos_per_tick: OnceLock<f64>,
}

impl Clock {
    pub fn new() -> Self {
        static SOURCE: OnceLock<Source> = OnceLock::new();
        let source = SOURCE.get_or_init(Source::new);
        Self { source, start: source.now() }
    }

    #[inline]
    pub fn now(&self) -> Moment {
        self.source.now()
    }

    /// Time from the making of this clock to the moment; the same whenever it is asked for.
    pub fn since_start(&self, moment: Moment) -> Duration {
        let ticks = moment.0.saturating_sub(self.start.0);
        Duration::from_nanos((ticks as f64 * self.source.nanos_per_tick()) as u64)
    }
}

impl Source {
    fn new() -> Self {
        let counter = counter_is_trusted().then(counter);
        Self { start: Instant::now(), counter, nanos_per_tick: OnceLock::new() }
    }

    #[inline]
    fn now(&self) -> Moment {
        match self.counter {
            Some(start) => Moment(counter().saturating_sub(start)),
            None => Moment(self.start.elapsed().as_nanos() as u64),
        }
    }

    fn nanos_per_tick(&self) -> f64 {
        let Some(start) = self.counter else { return 1.0 };
        *self.nanos_per_tick.get_or_init(|| {
            while self.start.elapsed() < CALIBRATION {
                std::hint::spin_loop();
            }
            self.start.elapsed().as_nanos() as f64 / counter().saturating_sub(start).max(1) as f64
        })
    }
}

/// Whether the counter ticks evenly and alike on all cores: the kernel watches it and leaves it where it does not.
fn counter_is_trusted() -> bool {
    const CHOICE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    cfg!(all(target_arch = "x86_64", target_os = "linux", not(miri)))
        && std::fs::read_to_string(CHOICE).is_ok_and(|name| name.trim() == "tsc")
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_as_far_apart_as_the_system_says() {
        let clock = Clock::new();
        let (start, first) = (Instant::now(), clock.now());
        while start.elapsed() < Duration::from_millis(5) {}
        let (last, elapsed) = (clock.now(), start.elapsed());
        let told = clock.since_start(last) - clock.since_start(first);
        // The thread may lose its core between two readings, but not for ever.
        assert!(
            told >= Duration::from_micros(4900) && told <= elapsed + Duration::from_micros(100),
            "{told:?} of {elapsed:?}"
        );
    }
}
