//! The samples of a group: dots, density, quartiles and median of each benchmark, relative to its median.

use super::svg::{WIDTH, dot, line, plot, points, shortened, text};
use crate::report::{Benchmark, stats, units};

const ROW: f64 = 26.0;
const TOP: f64 = 8.0;
const LEFT: f64 = 400.0;
const RIGHT: f64 = WIDTH - 36.0;
/// Half of the largest height of a density.
const HALF: f64 = 10.0;
/// Points that a density is drawn with.
const STEPS: usize = 48;
/// What the axis shows at least and at most, as a share of the median.
const LEAST: f64 = 0.01;
const MOST: f64 = 0.5;

/// The plot of a group.
pub(super) fn figure(name: &str, group: &[&Benchmark]) -> String {
    let reach = reach(group);
    let bottom = TOP + ROW * group.len() as f64;
    let rows: String =
        group.iter().enumerate().map(|(i, b)| row(b, TOP + ROW * (i as f64 + 0.5), reach)).collect();
    let description = group.iter().map(|b| format!("{}: {}", b.name(), units::time(b.median_ns)));
    let description = description.collect::<Vec<_>>().join("; ");
    plot(bottom + 24.0, &format!("Samples of {name}"), &description, &(axis(reach, bottom) + &rows))
}

/// Samples as differences to the median, in shares of it.
fn relative(benchmark: &Benchmark) -> Vec<f64> {
    let shares = benchmark.samples_ns.iter().map(|x| x / benchmark.median_ns - 1.0);
    stats::sorted(&shares.collect::<Vec<_>>())
}

/// The difference that the axis goes to on both sides: where nine in ten samples of every row lie.
fn reach(group: &[&Benchmark]) -> f64 {
    let far = |benchmark: &&Benchmark| {
        let distances: Vec<f64> = relative(benchmark).iter().map(|x| x.abs()).collect();
        stats::quantile(&stats::sorted(&distances), 0.9)
    };
    group.iter().map(far).fold(LEAST, f64::max).min(MOST)
}

fn place(share: f64, reach: f64) -> f64 {
    let middle = (LEFT + RIGHT) / 2.0;
    middle + (share / reach).clamp(-1.0, 1.0) * (RIGHT - LEFT) / 2.0
}

fn axis(reach: f64, bottom: f64) -> String {
    let ticks = [-1.0, -0.5, 0.0, 0.5, 1.0].map(|part| {
        let (x, label) = (place(part * reach, reach), units::percent(part * reach));
        let label = if part == 0.0 { "median" } else { &label };
        line("grid", (x, TOP), (x, bottom)) + &text(x, bottom + 16.0, "soft mid", label)
    });
    ticks.concat()
}

fn row(benchmark: &Benchmark, y: f64, reach: f64) -> String {
    let shares = relative(benchmark);
    let rate = units::rate(benchmark).unwrap_or_default();
    let mut body = text(0.0, y + 4.0, "", &shortened(benchmark.name(), 30));
    body += &text(280.0, y + 4.0, "end", &units::time(benchmark.median_ns));
    body += &text(LEFT - 14.0, y + 4.0, "soft end", &rate);
    body += &density(&shares, y, reach);
    for (i, share) in shares.iter().enumerate() {
        // Neighbours are kept apart a little, so that equal samples show as several.
        let offset = (i % 3) as f64 * 2.5 - 2.5;
        body += &dot((place(*share, reach), y + offset), 1.8, "dot", "");
    }
    body + &quartiles(&shares, y, reach)
}

fn quartiles(shares: &[f64], y: f64, reach: f64) -> String {
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|q| place(stats::quantile(shares, q), reach));
    let width = (high - low).max(1.0);
    format!("<rect class=\"box\" x=\"{low:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"12\"/>\n", y - 6.0)
        + &line("median", (middle, y - 8.0), (middle, y + 8.0))
}

/// Kernel density with normal kernels, of the width that Silverman's rule gives for the robust deviation.
fn density(shares: &[f64], y: f64, reach: f64) -> String {
    let spread = stats::noise(shares).max(0.02 * reach);
    let width = 0.9 * spread * (shares.len() as f64).powf(-0.2);
    let at = |x: f64| shares.iter().map(|s| (-0.5 * ((x - s) / width).powi(2)).exp()).sum::<f64>();
    let xs: Vec<f64> = (0..=STEPS).map(|i| reach * (2.0 * i as f64 / STEPS as f64 - 1.0)).collect();
    let heights: Vec<f64> = xs.iter().map(|x| at(*x)).collect();
    let tallest = heights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let edge = |sign: f64| {
        let side = xs.iter().zip(&heights);
        side.map(|(x, h)| (place(*x, reach), y + sign * HALF * h / tallest)).collect::<Vec<_>>()
    };
    let (upper, lower) = (edge(-1.0), edge(1.0));
    format!(
        "<polygon class=\"shape\" points=\"{}\"/>\n",
        points(upper.into_iter().chain(lower.into_iter().rev()))
    )
}
