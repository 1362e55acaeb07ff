//! Charts of a run.

use super::{series::Series, state::State};
use bitnet_training::progress::Codes;
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Style},
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Bar, BarChart, BarGroup, Block, Chart, Dataset, GraphType, Paragraph},
};

/// Of what is learnt from.
pub(super) const TRAINING: Style = Style::new().fg(Color::Cyan);
/// Of what is held out.
const HELD_OUT: Style = Style::new().fg(Color::Yellow);
const RATE: Style = Style::new().fg(Color::Green);
const GRADIENT: Style = Style::new().fg(Color::Magenta);
/// Points of a braille chart in a column.
const DOTS: usize = 2;
/// Widest bar of a layer.
const BAR: u16 = 6;
/// Height of a bar that is full, in the whole numbers that bars are drawn from.
const FULL: f64 = 10_000.0;
/// Numbers that are closer together, as a share of them, are one number with the noise of rounding.
const NOISE: f64 = 1e-9;

/// Points to draw.
type Points = Vec<(f64, f64)>;

/// Losses of training, and over them those on what is held out.
pub(super) fn losses(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let mut title = vec![Span::styled("training loss", TRAINING)];
    if let Some(nats) = state.held_out.last() {
        title.push(Span::styled(format!(" • held out {nats:.4}"), HELD_OUT));
    }
    let (training, held_out) = (points(&state.loss, area), points(&state.held_out, area));
    let sets = vec![line(&training, TRAINING), dots(&held_out, HELD_OUT)];
    chart(title.into(), sets, &[&training, &held_out], |loss| format!("{loss:.2}"), frame, area);
}

/// The learning rate.
pub(super) fn rate(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let rates = points(&state.lr, area);
    let title = Line::styled("learning rate", RATE);
    chart(title, vec![line(&rates, RATE)], &[&rates], |rate| format!("{rate:.1e}"), frame, area);
}

/// The norm of the gradient.
pub(super) fn gradient(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let norms = points(&state.gradient_norm, area);
    let title = Line::styled("gradient norm", GRADIENT);
    chart(title, vec![line(&norms, GRADIENT)], &[&norms], |norm| format!("{norm:.2}"), frame, area);
}

fn points(series: &Series, area: Rect) -> Points {
    series.thinned(usize::from(area.width) * DOTS)
}

fn line(points: &[(f64, f64)], style: Style) -> Dataset<'_> {
    Dataset::default().data(points).marker(Marker::Braille).graph_type(GraphType::Line).style(style)
}

fn dots(points: &[(f64, f64)], style: Style) -> Dataset<'_> {
    Dataset::default().data(points).marker(Marker::Dot).graph_type(GraphType::Scatter).style(style)
}

fn chart(
    title: Line<'_>,
    sets: Vec<Dataset<'_>>,
    points: &[&Points],
    text: fn(f64) -> String,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let block = Block::bordered().title(title);
    let all = || points.iter().copied().flatten();
    let (Some(x), Some(y)) = (bounds(all().map(|point| point.0)), bounds(all().map(|point| point.1))) else {
        frame.render_widget(Paragraph::new("no step yet").block(block), area);
        return;
    };
    let ends = x.map(|x| format!("{x:.0}"));
    let heights = [y[0], f64::midpoint(y[0], y[1]), y[1]].map(text);
    let chart = Chart::new(sets)
        .block(block)
        .x_axis(Axis::default().bounds(x).labels(ends))
        .y_axis(Axis::default().bounds(y).labels(heights));
    frame.render_widget(chart, area);
}

/// Least and greatest, apart from each other.
fn bounds(values: impl Iterator<Item = f64> + Clone) -> Option<[f64; 2]> {
    let least = values.clone().reduce(f64::min)?;
    let greatest = values.reduce(f64::max)?;
    let apart = match greatest {
        _ if greatest - least > NOISE * greatest.abs() => 0.0,
        0.0 => 1.0,
        _ => 0.5 * greatest.abs(),
    };
    Some([least - apart, greatest + apart])
}

/// Shares of codes that are not zero.
pub(super) fn density(state: &State, frame: &mut Frame<'_>, area: Rect) {
    bars("density", state, |codes| codes.density, Some(1.0), frame, area);
}

/// Shares of codes that change in a step.
pub(super) fn flips(state: &State, frame: &mut Frame<'_>, area: Rect) {
    bars("flip rate", state, |codes| codes.flips, None, frame, area);
}

/// A bar a layer, up to `full` or to the largest.
fn bars(
    what: &str,
    state: &State,
    of: fn(&Codes) -> f64,
    full: Option<f64>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let Some(mean) = state.mean(of) else { return };
    let values: Vec<f64> = state.layers.iter().map(of).collect();
    let block = Block::bordered().title(format!("{what} {mean:.4} by layer"));
    let width = block.inner(area).width;
    let full = full.unwrap_or_else(|| values.iter().copied().fold(f64::MIN_POSITIVE, f64::max));
    let together = values.len().div_ceil(usize::from(width).max(1)).max(1);
    let groups: Vec<&[f64]> = values.chunks(together).collect();
    let each = width / groups.len().max(1) as u16;
    let (bar, gap) = if each > 1 { ((each - 1).min(BAR), 1) } else { (1, 0) };
    let height = |group: &[f64]| (group.iter().sum::<f64>() / group.len() as f64 / full * FULL) as u64;
    let bar_of = |(i, group): (usize, &&[f64])| {
        let label = (i * together).to_string();
        let drawn = Bar::new(height(group)).text_value("");
        if label.len() <= usize::from(bar) { drawn.label(label) } else { drawn }
    };
    let drawn: Vec<Bar<'_>> = groups.iter().enumerate().map(bar_of).collect();
    let chart = BarChart::default()
        .data(BarGroup::new(drawn))
        .max(FULL as u64)
        .bar_width(bar)
        .bar_gap(gap)
        .bar_style(TRAINING);
    frame.render_widget(chart.block(block), area);
}
