//! The roofline (Williams, Waterman & Patterson 2009): operations a second over operations a byte, under the measured ceilings.

use super::svg::{LogScale, WIDTH, dot, escape, line, plot, points, square, text};
use crate::report::{Benchmark, Machine, Receipt, Throughput, units};
use std::collections::BTreeSet;

const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = HEIGHT - 50.0;
/// Colours of the style sheet.
const COLORS: usize = 8;

/// A benchmark under the roof.
struct Point<'a> {
    benchmark: &'a Benchmark,
    /// Operations a byte.
    intensity: f64,
    /// Operations a second.
    rate: f64,
    /// Share of what the roof allows at this intensity.
    share: f64,
}

impl<'a> Point<'a> {
    fn of(benchmark: &'a Benchmark, machine: &Machine) -> Option<Self> {
        let Throughput { elements: Some(operations), bytes: Some(bytes) } = benchmark.throughput? else {
            return None;
        };
        let intensity = operations as f64 / bytes as f64;
        let rate = 1e9 * operations as f64 / benchmark.median_ns;
        let counted = operations > 0 && bytes > 0;
        counted.then(|| Self { benchmark, intensity, rate, share: rate / roof(machine, intensity) })
    }

    /// Its share of the roof in words.
    fn place(&self) -> String {
        if self.share > 1.0 { "above".to_owned() } else { format!("{:.0} %", 100.0 * self.share) }
    }

    /// What is drawn in one colour: the word behind the file.
    fn family(&self) -> &'a str {
        let op = self.benchmark.group.split_once('/').map_or(self.benchmark.group.as_str(), |(_, op)| op);
        op.split(' ').next().unwrap_or(op)
    }
}

/// Operations a second that the ceilings allow.
fn roof(machine: &Machine, intensity: f64) -> f64 {
    (1e9 * machine.read_bandwidth_gb_per_s * intensity).min(1e9 * machine.int8_gops_per_s)
}

/// The plot and its best points as a table; nothing where no benchmark says both operations and bytes.
pub(super) fn section(receipt: &Receipt) -> String {
    let machine = &receipt.machine;
    let found: Vec<Point<'_>> = receipt.benchmarks.iter().filter_map(|b| Point::of(b, machine)).collect();
    if found.is_empty() {
        return String::new();
    }
    format!(
        "<section>\n<h2>Roofline</h2>\n<p class=\"note\">Operations a second over operations a byte. The slope is the measured read \
         bandwidth, the flat roof the measured int8 peak. A point above the slope worked from caches, or while the machine was less \
         busy than when its ceilings were measured; f32 work cannot reach the int8 roof.</p>\n\
         <div class=\"card\">\n{}</div>\n<div class=\"card\">\n{}</div>\n</section>\n",
        figure(machine, &found),
        table(&found)
    )
}

fn figure(machine: &Machine, found: &[Point<'_>]) -> String {
    let (x, y) = scales(machine, found);
    let families: Vec<&str> = found.iter().map(Point::family).collect::<BTreeSet<_>>().into_iter().collect();
    let number = |name: &str| families.iter().position(|family| *family == name).unwrap_or(0);
    let marks: String = found.iter().map(|p| mark(p, number(p.family()), x, y)).collect();
    let legend: String = families.iter().enumerate().map(|(i, name)| key(i, name)).collect();
    let height = HEIGHT + 20.0 * families.len().div_ceil(KEYS_A_ROW) as f64;
    let description = format!(
        "{} benchmarks under a read bandwidth of {:.1} GB/s and an int8 peak of {:.0} Gop/s; the table below lists the best of each group.",
        found.len(),
        machine.read_bandwidth_gb_per_s,
        machine.int8_gops_per_s
    );
    let body = axes(x, y) + &marks + &ceiling(machine, x, y) + &legend;
    plot(height, "Roofline", &description, &body)
}

/// Scales that hold all points and the ridge of the roof.
fn scales(machine: &Machine, found: &[Point<'_>]) -> (LogScale, LogScale) {
    let peak = 1e9 * machine.int8_gops_per_s;
    let ridge = machine.int8_gops_per_s / machine.read_bandwidth_gb_per_s;
    let fold = |values: &dyn Fn(&Point<'_>) -> f64, first: f64| {
        found.iter().map(values).fold((first, first), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (left, right) = fold(&|p| p.intensity, ridge);
    let (low, high) = fold(&|p| p.rate, peak);
    let x = LogScale { domain: (left / 2.0, right * 4.0), range: (LEFT, RIGHT) };
    let y = LogScale { domain: (low / 2.0, high * 2.0), range: (BOTTOM, TOP) };
    (x, y)
}

fn axes(x: LogScale, y: LogScale) -> String {
    let vertical = x.ticks(4.0).map(|n| {
        let label = if n < 1.0 { format!("1/{:.0}", 1.0 / n) } else { format!("{n:.0}") };
        line("grid", (x.at(n), TOP), (x.at(n), BOTTOM)) + &text(x.at(n), BOTTOM + 18.0, "soft mid", &label)
    });
    let horizontal = y.ticks(10.0).map(|n| {
        let label = units::power(n);
        line("grid", (LEFT, y.at(n)), (RIGHT, y.at(n))) + &text(LEFT - 8.0, y.at(n) + 4.0, "soft end", &label)
    });
    let titles = text((LEFT + RIGHT) / 2.0, BOTTOM + 38.0, "soft mid", "operations a byte")
        + &text(8.0, TOP - 6.0, "soft", "operations a second");
    vertical.chain(horizontal).collect::<String>() + &titles
}

fn ceiling(machine: &Machine, x: LogScale, y: LogScale) -> String {
    let ridge = machine.int8_gops_per_s / machine.read_bandwidth_gb_per_s;
    // The slope begins where it enters the plot.
    let first = x.domain.0.max(y.domain.0 / (1e9 * machine.read_bandwidth_gb_per_s));
    let corners = [first, ridge, x.domain.1].map(|n| (x.at(n), y.at(roof(machine, n))));
    let bandwidth = format!("{:.1} GB/s", machine.read_bandwidth_gb_per_s);
    let peak = format!("{:.0} Gop/s int8", machine.int8_gops_per_s);
    // Most points lie around the middle of the slope.
    let on_slope = |share: f64| {
        let [(x1, y1), (x2, y2), _] = corners;
        (x1 + share * (x2 - x1), y1 + share * (y2 - y1))
    };
    let (label_x, label_y) = on_slope(0.85);
    format!("<polyline class=\"roof\" points=\"{}\"/>\n", points(corners))
        + &text(label_x - 10.0, label_y - 4.0, "halo end", &bandwidth)
        + &text(RIGHT, corners[2].1 - 8.0, "halo end", &peak)
}

/// The mark of a family: once the colours are used up, squares follow dots.
fn shape(family: usize, at: (f64, f64), hint: &str) -> String {
    let class = format!("point k{}", family % COLORS);
    let draw = if (family / COLORS).is_multiple_of(2) { dot } else { square };
    draw(at, 5.0, &class, hint)
}

fn mark(point: &Point<'_>, family: usize, x: LogScale, y: LogScale) -> String {
    let hint = format!(
        "{}: {}op/s, {:.2} operations a byte, of the roof: {}",
        point.benchmark.id,
        units::prefixed(point.rate),
        point.intensity,
        point.place()
    );
    shape(family, (x.at(point.intensity), y.at(point.rate)), &hint)
}

const KEYS_A_ROW: usize = 4;

fn key(index: usize, name: &str) -> String {
    let x = LEFT + (index % KEYS_A_ROW) as f64 * (RIGHT - LEFT) / KEYS_A_ROW as f64;
    let y = HEIGHT + 8.0 + 20.0 * (index / KEYS_A_ROW) as f64;
    shape(index, (x, y - 4.0), name) + &text(x + 10.0, y, "", name)
}

/// The benchmark of each group that comes closest to the roof.
fn table(found: &[Point<'_>]) -> String {
    let groups: BTreeSet<&str> = found.iter().map(|p| p.benchmark.group.as_str()).collect();
    let best = |group: &str| {
        let of_group = found.iter().filter(|p| p.benchmark.group == group);
        of_group.max_by(|a, b| a.share.total_cmp(&b.share))
    };
    let row = |point: &Point<'_>| {
        format!(
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{:.2}</td><td class=\"n\">{}op/s</td><td class=\"n\">{}</td></tr>\n",
            escape(&point.benchmark.group),
            escape(point.benchmark.name()),
            point.intensity,
            units::prefixed(point.rate),
            point.place()
        )
    };
    let rows: String = groups.into_iter().filter_map(best).map(row).collect();
    format!(
        "<table>\n<thead><tr><th>group</th><th>closest to the roof</th><th class=\"n\">operations a byte</th><th class=\"n\">speed</th>\
         <th class=\"n\">of the roof</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
    )
}
