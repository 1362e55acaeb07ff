//! Numbers for people.

use super::{Benchmark, Throughput};

/// Three digits and the largest prefix that leaves a whole part, such as `1.23 G`.
pub(super) fn prefixed(x: f64) -> String {
    let prefixes = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    let (unit, prefix) = prefixes.into_iter().find(|(unit, _)| x.abs() >= *unit).unwrap_or((1.0, " "));
    format!("{}{prefix}", digits(x / unit))
}

/// A power of ten in as few digits as it takes, such as `10 G`.
pub(super) fn power(x: f64) -> String {
    prefixed(x).replace(".00", "").replace(".0", "")
}

/// A time, such as `1.23 ms`.
pub(super) fn time(nanoseconds: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let (unit, name) = units.into_iter().find(|(unit, _)| nanoseconds >= *unit).unwrap_or((1.0, "ns"));
    format!("{} {name}", digits(nanoseconds / unit))
}

/// A difference, such as `+4.2 %`.
pub(super) fn percent(change: f64) -> String {
    format!("{:+.1} %", 100.0 * change)
}

/// What a benchmark works through in a second.
pub(super) fn rate(benchmark: &Benchmark) -> Option<String> {
    let (amount, unit) = match benchmark.throughput? {
        Throughput { elements: Some(n), bytes: Some(_) } => (n, "op/s"),
        Throughput { elements: Some(n), bytes: None } => (n, "elem/s"),
        Throughput { elements: None, bytes } => (bytes?, "B/s"),
    };
    Some(prefixed(1e9 * amount as f64 / benchmark.median_ns) + unit)
}

fn digits(x: f64) -> String {
    let places = if x.abs() >= 100.0 {
        0
    } else if x.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{x:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!((prefixed(12_345.0).as_str(), prefixed(0.5).as_str()), ("12.3 k", "0.50 "));
        assert_eq!((time(1.5e6).as_str(), time(7.25).as_str()), ("1.50 ms", "7.25 ns"));
        assert_eq!((power(1e10).as_str(), power(1e6).as_str()), ("10 G", "1 M"));
        assert_eq!(percent(-0.1234), "-12.3 %");
    }

    #[test]
    fn operations_and_elements_are_told_apart() {
        let shown = |elements, bytes| {
            let throughput = Some(Throughput { elements, bytes });
            rate(&Benchmark::new("a".into(), "a".into(), throughput, vec![1000.0])).unwrap()
        };
        assert_eq!(shown(Some(2), Some(1)), "2.00 Mop/s");
        assert_eq!(shown(Some(2), None), "2.00 Melem/s");
        assert_eq!(shown(None, Some(1)), "1.00 MB/s");
    }
}
