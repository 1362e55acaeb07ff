//! Where things stand on the terminal. What there is no room for is left out, the least important first.

use super::{charts, state::State};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::Line,
    widgets::{Block, Borders, Gauge, Paragraph, Wrap},
};
use std::time::Duration;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
/// Between two figures of a line.
const BETWEEN: &str = " · ";
/// Rows below the head from which on there are charts of learning rate and gradient.
const TALL: u16 = 16;
/// Columns from which on there are bars of layers.
const WIDE: u16 = 60;

/// Draws a run on a terminal of any size.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let figures = figures(state, area);
    let heads = [u16::from(area.height > 2), 1, figures.len() as u16].map(Constraint::Length);
    let rows = heads.into_iter().chain([Constraint::Fill(1)]);
    let [title, gauge, line, body] = Layout::vertical(rows).areas(area);
    draw_title(state, frame, title);
    draw_gauge(state, frame, gauge);
    frame.render_widget(Paragraph::new(figures), line);
    draw_body(state, frame, body);
}

fn draw_title(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let hint = if state.stopping { "stops after this step" } else { "q stops" };
    let width = if state.stopping || area.width >= 40 { hint.len() as u16 + 1 } else { 0 };
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    frame.render_widget(Line::styled(state.title.as_str(), BOLD), left);
    frame.render_widget(Line::styled(hint, if state.stopping { BOLD } else { DIM }).right_aligned(), right);
}

fn draw_gauge(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let ratio = (state.step as f64 / state.total.max(1) as f64).clamp(0.0, 1.0);
    let place = format!("{}/{}", state.step, state.total);
    let label = if area.width < 30 { place } else { format!("step {place}, {:.0} %", 100.0 * ratio) };
    let gauge = Gauge::default().gauge_style(charts::TRAINING).use_unicode(true).ratio(ratio).label(label);
    frame.render_widget(gauge, area);
}

/// The figures of a run in lines, as many as there is room for.
fn figures(state: &State, area: Rect) -> Vec<Line<'static>> {
    let mean = |of| state.mean(of).filter(|_| area.width < WIDE);
    let known = [
        state.loss.last().map(|loss| format!("loss {loss:.4}")),
        state.rate.map(|rate| format!("{rate:.0} tok/s")),
        Some(format!("elapsed {}", clock(state.elapsed))),
        state.left().map(|left| format!("ETA {}", clock(left))),
        state.lr.last().map(|lr| format!("learning rate {lr:.2e}")),
        state.gradient_norm.last().map(|norm| format!("gradient norm {norm:.3}")),
        mean(|codes| codes.density).map(|density| format!("density {density:.4}")),
        mean(|codes| codes.flips).map(|flips| format!("flip rate {flips:.4}")),
    ];
    let rows = usize::from(area.height.saturating_sub(1).min(area.height.div_ceil(4)));
    let mut lines: Vec<String> = Vec::new();
    for figure in known.into_iter().flatten() {
        let room = |line: &&mut String| {
            line.chars().count() + BETWEEN.chars().count() + figure.len() <= usize::from(area.width)
        };
        match lines.last_mut().filter(room) {
            Some(line) => *line += &format!("{BETWEEN}{figure}"),
            None => lines.push(figure),
        }
    }
    lines.truncate(rows);
    lines.into_iter().map(Line::from).collect()
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn draw_body(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let messages = if area.height < 6 { 0 } else { 1 + (area.height / 4).min(8) };
    let small = if area.height < TALL { 0 } else { area.height / 4 };
    let rows = [Constraint::Fill(1), Constraint::Length(small), Constraint::Length(messages)];
    let [main, below, said] = Layout::vertical(rows).areas(area);
    draw_main(state, frame, main);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(below);
    charts::rate(state, frame, left);
    charts::gradient(state, frame, right);
    draw_messages(state, frame, said);
}

fn draw_main(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let wide = area.width >= WIDE && !state.layers.is_empty();
    let width = if wide { area.width / 3 } else { 0 };
    let [losses, layers] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    charts::losses(state, frame, losses);
    let [above, below] = Layout::vertical([Constraint::Fill(1); 2]).areas(layers);
    charts::density(state, frame, above);
    charts::flips(state, frame, below);
}

/// The newest message stands first, so that a long one cannot push it away.
fn draw_messages(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let newest = state.messages.iter().take(usize::from(area.height));
    let lines: Vec<Line<'_>> = newest.flat_map(|text| text.lines()).map(Line::from).collect();
    let block = Block::new().borders(Borders::TOP).border_style(DIM).title("messages, newest first");
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}
