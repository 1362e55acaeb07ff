//! A snapshot as a page for people: live bytes over time, who held them, and what stands out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Duration;

use super::patterns::analyse;
use super::{Bytes, Snapshot, Trace};

/// Moments that are drawn. Each shows the most that was live until the next.
const COLUMNS: usize = 720;
/// Owners with a colour of their own; the others share one.
const COLOURS: usize = 7;
/// Size of the plot, and what its axes take of it.
const SIZE: [f64; 2] = [820.0, 300.0];
const LEFT: f64 = 76.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;

const STYLE: &str = include_str!("page.css");

impl Snapshot {
    /// A page that opens without a network: live bytes of recorded blocks over time by owner, and the findings of
    /// [`analyse`].
    pub fn to_html(&self) -> String {
        let history = History::of(self);
        let findings: String =
            analyse(&self.trace(0)).iter().map(|finding| format!("<li>{}</li>\n", escape(finding))).collect();
        let findings = match findings.is_empty() {
            true => "<p>Nothing stands out.</p>".to_owned(),
            false => format!("<ul>\n{findings}</ul>"),
        };
        let gap = match self.forgotten {
            0 => String::new(),
            lost => format!("<p>The history starts late: {lost} older blocks are forgotten.</p>\n"),
        };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Memory</title>\n<style>\n{STYLE}</style>\n\
             <h1>Memory over {:.1?}</h1>\n<p>{}</p>\n{gap}{}{}<h2>Findings</h2>\n{findings}\n</html>\n",
            self.at,
            escape(&self.stats),
            history.plot(),
            history.table(self),
        )
    }
}

/// Live bytes of each series at every column.
struct History {
    start: Duration,
    end: Duration,
    /// Owners with a series of their own, the largest first. A series after theirs is that of all others.
    owners: Vec<&'static str>,
    /// The most bytes of each series at any one time.
    peaks: Vec<usize>,
    columns: Vec<Vec<usize>>,
}

impl History {
    fn of(snapshot: &Snapshot) -> Self {
        let trace = snapshot.trace(0);
        let peaks = peaks(&trace);
        let series = peaks.len().min(COLOURS + 1);
        let owners = peaks.iter().take(COLOURS).map(|&(owner, _)| owner).collect();
        let (start, end) = (snapshot.horizon, snapshot.at);
        let mut history = Self { start, end, owners, peaks: vec![0; series], columns: Vec::new() };
        history.fill(&trace);
        history
    }

    fn fill(&mut self, trace: &Trace) {
        let numbers: HashMap<&str, usize> = self.owners.iter().copied().zip(0..).collect();
        let mut live = vec![0usize; self.peaks.len()];
        for (event, change) in trace.changes() {
            let column = self.column(event.at);
            self.columns.resize(self.columns.len().max(column + 1), live.clone());
            let series = *numbers.get(event.owner).unwrap_or(&self.owners.len());
            live[series] = live[series].wrapping_add_signed(change);
            self.peaks[series] = self.peaks[series].max(live[series]);
            let shown = &mut self.columns[column];
            if live.iter().sum::<usize>() > shown.iter().sum() {
                shown.clone_from(&live);
            }
        }
        self.columns.resize(COLUMNS, live);
    }

    fn column(&self, at: Duration) -> usize {
        let share = at.saturating_sub(self.start).as_secs_f64() / self.span();
        ((share * COLUMNS as f64) as usize).min(COLUMNS - 1)
    }

    /// Seconds that are shown, more than none.
    fn span(&self) -> f64 {
        self.end.saturating_sub(self.start).as_secs_f64().max(1e-9)
    }

    fn name(&self, series: usize) -> &str {
        match self.owners.get(series) {
            Some(&"") => "no owner",
            Some(&owner) => owner,
            None => "others",
        }
    }

    /// The series on top of each other, the largest at the bottom.
    fn plot(&self) -> String {
        let most = self.columns.iter().map(|live| live.iter().sum::<usize>()).max().unwrap_or(0).max(1);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {:.0} {:.0}\" role=\"img\"><title>Live bytes over time, at most {}</title>\n",
            SIZE[0],
            SIZE[1],
            Bytes(most)
        );
        svg += &self.axes(most);
        let mut below = vec![0; self.columns.len()];
        for series in 0..self.peaks.len() {
            let above: Vec<usize> =
                self.columns.iter().zip(&below).map(|(live, below)| below + live[series]).collect();
            svg += &self.area(series, &below, &above, most);
            below = above;
        }
        svg + "</svg>\n"
    }

    fn area(&self, series: usize, below: &[usize], above: &[usize], most: usize) -> String {
        let edge =
            |levels: &[usize]| levels.iter().enumerate().map(|(i, &y)| place(i, y, most)).collect::<Vec<_>>();
        let outline = edge(above).into_iter().chain(edge(below).into_iter().rev());
        let mut points = String::new();
        outline.for_each(|[x, y]| _ = write!(points, "{x:.1},{y:.1} "));
        let (name, peak) = (escape(&self.name(series)), Bytes(self.peaks[series]));
        format!(
            "<polygon class=\"c{series}\" points=\"{points}\"><title>{name}: at most {peak}</title></polygon>\n"
        )
    }

    fn axes(&self, most: usize) -> String {
        let mut axes = String::new();
        for quarter in 0..=4 {
            let level = Bytes(most * quarter / 4);
            let [x, y] = place(0, level.0, most);
            let right = SIZE[0];
            _ = writeln!(axes, "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\"/>");
            _ = writeln!(
                axes,
                "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{level}</text>",
                x - 6.0,
                y + 4.0
            );
            let at = self.start + Duration::from_secs_f64(self.span() * quarter as f64 / 4.0);
            let [x, _] = place((COLUMNS - 1) * quarter / 4, 0, most);
            let anchor = ["start", "mid", "mid", "mid", "end"][quarter];
            _ = writeln!(
                axes,
                "<text class=\"{anchor}\" x=\"{x:.1}\" y=\"{:.1}\">{at:.1?}</text>",
                SIZE[1] - 6.0
            );
        }
        axes
    }

    /// What every series held at most, and what it holds.
    fn table(&self, snapshot: &Snapshot) -> String {
        let totals = snapshot.owners();
        let mut table = "<table>\n<tr><th>owner<th>at most<th>now<th>blocks now</tr>\n".to_owned();
        for series in 0..self.peaks.len() {
            let mine = totals.iter().filter(|(owner, _)| match self.owners.get(series) {
                Some(named) => named == *owner,
                None => !self.owners.contains(owner),
            });
            let (bytes, blocks) =
                mine.fold((0, 0), |(bytes, blocks), (_, t)| (bytes + t.bytes, blocks + t.blocks));
            let (name, peak, now) = (escape(&self.name(series)), Bytes(self.peaks[series]), Bytes(bytes));
            _ = writeln!(
                table,
                "<tr><td><svg class=\"key\" viewBox=\"0 0 1 1\"><rect class=\"c{series}\" width=\"1\" height=\"1\"/></svg> {name}\
                 <td>{peak}<td>{now}<td>{blocks}</tr>"
            );
        }
        table + "</table>\n"
    }
}

/// The most bytes that each owner held at any one time, the largest first.
fn peaks(trace: &Trace) -> Vec<(&'static str, usize)> {
    let mut owners = BTreeMap::<_, [usize; 2]>::new();
    for (event, change) in trace.changes() {
        let [live, peak] = owners.entry(event.owner).or_default();
        *live = live.wrapping_add_signed(change);
        *peak = (*live).max(*peak);
    }
    let mut peaks: Vec<_> = owners.into_iter().map(|(owner, [_, peak])| (owner, peak)).collect();
    peaks.sort_by_key(|&(owner, peak)| (Reverse(peak), owner));
    peaks
}

/// Where a column and a level are.
fn place(column: usize, level: usize, most: usize) -> [f64; 2] {
    let x = LEFT + (SIZE[0] - LEFT) * column as f64 / (COLUMNS - 1) as f64;
    let floor = SIZE[1] - BOTTOM;
    [x, floor - (floor - TOP) * level as f64 / most as f64]
}

/// Text that is shown as it is.
fn escape(text: &impl ToString) -> String {
    text.to_string().replace('&', "&amp;").replace('<', "&lt;")
}
