//! Two receipts side by side, under a noise rule.
//!
//! The noise of a benchmark is the standard deviation that its median absolute deviation tells, at least [`LEAST_NOISE`] of the
//! median. A change is flagged only beyond three times the noise of both: `|b - a| > 3 sqrt(noise(a)² + noise(b)²)`.

use super::{Benchmark, Error, Receipt, Result, stats, units};
use std::fmt::Write;

/// Noise that is assumed at least, as a share of the median: clocks and layouts of code are never better.
pub const LEAST_NOISE: f64 = 0.005;
/// A change counts beyond this many times the noise of both.
const TIMES: f64 = 3.0;

/// What became of a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The change is within the noise.
    Same,
    /// It takes less time.
    Faster,
    /// It takes more time.
    Slower,
}

impl Verdict {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Faster => "faster",
            Self::Slower => "slower",
        }
    }
}

/// A benchmark before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub id: String,
    /// Medians in nanoseconds.
    pub before_ns: f64,
    /// Medians in nanoseconds.
    pub after_ns: f64,
    /// What a change has to exceed, as a share of `before_ns`.
    pub limit: f64,
    /// What became of it.
    pub verdict: Verdict,
}

impl Row {
    /// Compares two measurements of one benchmark.
    pub fn new(before: &Benchmark, after: &Benchmark) -> Self {
        let difference = after.median_ns - before.median_ns;
        let limit = TIMES * noise(before).hypot(noise(after));
        let verdict = match difference {
            d if d > limit => Verdict::Slower,
            d if d < -limit => Verdict::Faster,
            _ => Verdict::Same,
        };
        Self {
            id: after.id.clone(),
            before_ns: before.median_ns,
            after_ns: after.median_ns,
            limit: limit / before.median_ns,
            verdict,
        }
    }

    /// By how much the time grew, as a share of what it was.
    pub fn change(&self) -> f64 {
        self.after_ns / self.before_ns - 1.0
    }
}

/// Standard deviation of a benchmark's samples, in nanoseconds.
pub(super) fn noise(benchmark: &Benchmark) -> f64 {
    stats::noise(&benchmark.samples_ns).max(LEAST_NOISE * benchmark.median_ns)
}

/// All benchmarks of two receipts.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Those that both have.
    pub rows: Vec<Row>,
    /// Names of those that only the first has.
    pub vanished: Vec<String>,
    /// What stands in the way of a fair comparison, for people.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Compares receipts.
    ///
    /// # Errors
    /// Where they have no benchmark in common.
    pub fn new(before: &Receipt, after: &Receipt) -> Result<Self> {
        let pairs = after.benchmarks.iter().filter_map(|b| Some((before.benchmark(&b.id)?, b)));
        let rows: Vec<Row> = pairs.map(|(a, b)| Row::new(a, b)).collect();
        if rows.is_empty() {
            let (before, after) = (before.benchmarks.len(), after.benchmarks.len());
            return Err(Error::NothingInCommon { before, after });
        }
        let vanished = before.benchmarks.iter().filter(|b| after.benchmark(&b.id).is_none());
        Ok(Self { rows, vanished: vanished.map(|b| b.id.clone()).collect(), notes: notes(before, after) })
    }

    /// Benchmarks that came to this.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// A Markdown table.
    pub fn table(&self) -> String {
        let mut text = "| benchmark | before | after | change | noise limit | verdict |\n\
             |---|---:|---:|---:|---:|---|\n"
            .to_owned();
        for row in &self.rows {
            let (before, after) = (units::time(row.before_ns), units::time(row.after_ns));
            let (change, limit) = (units::percent(row.change()), 100.0 * row.limit);
            let (id, verdict) = (row.id.replace('|', "\\|"), row.verdict.name());
            writeln!(text, "| {id} | {before} | {after} | {change} | ±{limit:.1} % | {verdict} |")
                .expect("a string takes everything");
        }
        text
    }

    /// The counts in a sentence.
    pub fn summary(&self) -> String {
        let [slower, faster, same] = [Verdict::Slower, Verdict::Faster, Verdict::Same].map(|v| self.count(v));
        format!("{slower} slower, {faster} faster, {same} within three times the noise")
    }
}

fn notes(before: &Receipt, after: &Receipt) -> Vec<String> {
    let (a, b) = (&before.machine, &after.machine);
    let threads = [a, b].map(|machine| machine.threads.to_string());
    let facts =
        [("processor", &a.cpu, &b.cpu), ("tier", &a.tier, &b.tier), ("threads", &threads[0], &threads[1])];
    let differences = facts.into_iter().filter(|(_, a, b)| a != b);
    let mut notes: Vec<String> =
        differences.map(|(name, a, b)| format!("another {name}: {a} before, {b} after")).collect();
    let missing = |from: &Receipt, of: &Receipt| {
        from.benchmarks.iter().filter(|b| of.benchmark(&b.id).is_none()).count()
    };
    for (count, place) in [(missing(before, after), "before"), (missing(after, before), "after")] {
        if count > 0 {
            notes.push(format!("{count} benchmarks are there only {place}"));
        }
    }
    notes
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::{Machine, Reading, Sensors, Throughput, receipt::SCHEMA};

    /// A receipt of one benchmark with these samples.
    pub fn receipt(samples_ns: &[f64]) -> Receipt {
        let throughput = Some(Throughput { elements: Some(640), bytes: Some(7680) });
        let (id, group) = ("backend/add/<avx2>".to_owned(), "backend/add".to_owned());
        Receipt {
            schema: SCHEMA,
            commit: Some("0123456789abcdef".to_owned()),
            date: "2026-01-02T03:04:05Z".to_owned(),
            command: vec!["report".to_owned(), "run".to_owned()],
            machine: Machine {
                cpu: "A & B <CPU>".to_owned(),
                architecture: "x86_64".to_owned(),
                tier: "avx2".to_owned(),
                threads: 2,
                read_bandwidth_gb_per_s: 20.0,
                int8_gops_per_s: 400.0,
            },
            sensors: Sensors {
                cpu_energy: Reading::unavailable("no RAPL"),
                gpu_energy: Reading::unavailable("no GPU"),
                throttling: Reading::unavailable("no sensor"),
            },
            benchmarks: vec![Benchmark::new(id, group, throughput, samples_ns.to_vec())],
        }
    }

    /// Samples around a median, with a noise of two in a hundred.
    pub fn around(median: f64) -> Vec<f64> {
        [0.96, 0.98, 0.99, 1.0, 1.0, 1.01, 1.02, 1.04].map(|factor| factor * median).to_vec()
    }

    fn verdict(before: &[f64], after: &[f64]) -> Verdict {
        Comparison::new(&receipt(before), &receipt(after)).unwrap().rows[0].verdict
    }

    #[test]
    fn a_receipt_is_the_same_as_itself() {
        assert_eq!(verdict(&around(100.0), &around(100.0)), Verdict::Same);
    }

    #[test]
    fn three_times_the_time_is_slower_and_a_third_is_faster() {
        assert_eq!(verdict(&around(100.0), &around(300.0)), Verdict::Slower);
        assert_eq!(verdict(&around(300.0), &around(100.0)), Verdict::Faster);
    }

    #[test]
    fn a_change_within_the_noise_of_both_is_none() {
        assert_eq!(verdict(&around(100.0), &around(105.0)), Verdict::Same);
        // The same change between quiet measurements is one.
        assert_eq!(verdict(&[100.0; 8], &[105.0; 8]), Verdict::Slower);
        assert_eq!(verdict(&[100.0; 8], &[102.0; 8]), Verdict::Same);
    }

    #[test]
    fn another_machine_and_missing_benchmarks_are_noted() {
        let (before, mut after) = (receipt(&[1.0]), receipt(&[1.0]));
        after.machine.threads = 8;
        after.benchmarks.push(Benchmark::new("new".into(), "new".into(), None, vec![1.0]));
        let notes = Comparison::new(&before, &after).unwrap().notes;
        assert_eq!(notes, ["another threads: 2 before, 8 after", "1 benchmarks are there only after"]);
    }

    #[test]
    fn benchmarks_that_vanished_are_named() {
        let (mut before, after) = (receipt(&[1.0]), receipt(&[1.0]));
        before.benchmarks.push(Benchmark::new("old/one".into(), "old".into(), None, vec![1.0]));
        let comparison = Comparison::new(&before, &after).unwrap();
        assert_eq!(comparison.vanished, ["old/one"]);
        assert_eq!(comparison.notes, ["1 benchmarks are there only before"]);
    }

    #[test]
    fn receipts_without_a_common_benchmark_are_no_comparison() {
        let mut other = receipt(&[1.0]);
        other.benchmarks[0].id = "other".into();
        let error = Comparison::new(&receipt(&[1.0]), &other).unwrap_err();
        assert!(matches!(error, Error::NothingInCommon { before: 1, after: 1 }));
    }
}
