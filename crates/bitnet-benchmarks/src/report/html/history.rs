//! The medians of a group over several receipts, each row relative to its first.

use super::svg::{LogScale, WIDTH, dot, line, plot, points, shortened, text};
use crate::report::compare::{Row, Verdict, noise};
use crate::report::{Benchmark, Receipt, units};

const ROW: f64 = 34.0;
const TOP: f64 = 22.0;
const LEFT: f64 = 460.0;
const RIGHT: f64 = WIDTH - 24.0;

/// The plot of a group; a row for each benchmark of the last receipt.
pub(super) fn figure(receipts: &[Receipt], name: &str, group: &[&Benchmark]) -> String {
    let rows: String =
        group.iter().enumerate().map(|(i, b)| row(receipts, b, TOP + ROW * (i as f64 + 0.5))).collect();
    let columns = text(280.0, 10.0, "soft end", "first")
        + &text(360.0, 10.0, "soft end", "last")
        + &text(440.0, 10.0, "soft end", "change")
        + &text(LEFT, 10.0, "soft", "each receipt, with its noise");
    let changes: Vec<String> =
        group.iter().filter_map(|b| change(receipts, b)).map(|row| sentence(&row)).collect();
    plot(
        TOP + ROW * group.len() as f64 + 4.0,
        &format!("History of {name}"),
        &changes.join("; "),
        &(columns + &rows),
    )
}

/// The first receipt that has a benchmark against the last.
fn change(receipts: &[Receipt], last: &Benchmark) -> Option<Row> {
    let first = receipts.iter().find_map(|receipt| receipt.benchmark(&last.id))?;
    Some(Row::new(first, last))
}

fn sentence(row: &Row) -> String {
    format!("{}: {}, {}", row.id, units::percent(row.change()), row.verdict.name())
}

fn row(receipts: &[Receipt], last: &Benchmark, y: f64) -> String {
    let Some(row) = change(receipts, last) else { return String::new() };
    let class = match row.verdict {
        Verdict::Same => "soft end",
        Verdict::Faster => "better end",
        Verdict::Slower => "worse end",
    };
    text(0.0, y + 4.0, "", &shortened(last.name(), 30))
        + &text(280.0, y + 4.0, "end", &units::time(row.before_ns))
        + &text(360.0, y + 4.0, "end", &units::time(row.after_ns))
        + &text(440.0, y + 4.0, class, &units::percent(row.change()))
        + &trend(receipts, last, y)
}

/// A line through the medians; the height of a row is a factor of at least 1.1, and always holds all of them.
fn trend(receipts: &[Receipt], last: &Benchmark, y: f64) -> String {
    let past: Vec<(usize, &Benchmark)> = receipts
        .iter()
        .enumerate()
        .filter_map(|(i, receipt)| Some((i, receipt.benchmark(&last.id)?)))
        .collect();
    let medians = past.iter().map(|(_, b)| b.median_ns);
    let (low, high) =
        medians.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), m| (low.min(m), high.max(m)));
    let margin = (1.1 / (high / low)).max(1.02).sqrt();
    let scale =
        LogScale { domain: (low / margin, high * margin), range: (y + ROW / 2.0 - 4.0, y - ROW / 2.0 + 4.0) };
    let step = (RIGHT - LEFT - 12.0) / (receipts.len().max(2) - 1) as f64;
    let place = |i: usize, ns: f64| {
        (LEFT + 6.0 + step * i as f64, scale.at(ns.clamp(scale.domain.0, scale.domain.1)))
    };
    let path = points(past.iter().map(|(i, b)| place(*i, b.median_ns)));
    let marks = past.iter().map(|(i, b)| {
        let (low, high) = (place(*i, b.median_ns - noise(b)), place(*i, b.median_ns + noise(b)));
        let hint = format!("{}: {}", receipts[*i].label(), units::time(b.median_ns));
        line("whisker", low, high) + &dot(place(*i, b.median_ns), 3.5, "mark", &hint)
    });
    format!("<polyline class=\"trend\" points=\"{path}\"/>\n") + &marks.collect::<String>()
}
