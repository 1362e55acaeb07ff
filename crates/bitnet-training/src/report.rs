//! A run as one page for people, which opens without a network: losses, rates, gradients, codes, and what the model writes.

use crate::{log::Line, progress::Step};
use std::fmt::Write;

const STYLE: &str = include_str!("report.css");
/// Size of a plot, and what its axes take of it.
const SIZE: [f64; 2] = [820.0, 260.0];
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;
/// Points of a line; more are averaged.
const POINTS: usize = 400;
/// Lines with a colour of their own.
const COLOURS: usize = 8;

/// Points of one name.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Texts that are shown, the last ones.
const SAMPLES: usize = 8;

/// A page about a run: its log, and its configuration as TOML.
pub fn page(title: &str, lines: &[Line], config: &str) -> String {
    let steps: Vec<&Step> =
        lines.iter().filter_map(|line| if let Line::Step(step) = line { Some(step) } else { None }).collect();
    let of = |name: &str, f: &dyn Fn(&Step) -> f64| Series {
        name: name.into(),
        points: steps.iter().map(|step| (step.step as f64, f(step))).collect(),
    };
    let evaluations = Series {
        name: "held out".into(),
        points: lines
            .iter()
            .filter_map(|line| match line {
                Line::Evaluation { step, evaluation } => Some((*step as f64, evaluation.nats)),
                _ => None,
            })
            .collect(),
    };
    let mut body = String::new();
    let mut plot = |heading: &str, series: Vec<Series>| {
        let drawn: Vec<Series> = series.into_iter().filter(|s| !s.points.is_empty()).collect();
        if !drawn.is_empty() {
            let _ = write!(body, "<h2>{heading}</h2>\n{}", chart(heading, &drawn));
        }
    };
    plot("Loss, nats a token", vec![of("training", &|s| s.loss), evaluations]);
    let added = steps.iter().filter_map(|step| Some((step.step as f64, step.distillation?))).collect();
    plot("What the teacher adds, a token", vec![Series { name: "teacher".into(), points: added }]);
    plot("Learning rate", vec![of("learning rate", &|s| s.lr)]);
    plot("Weight decay", vec![of("weight decay", &|s| s.weight_decay)]);
    plot("Norm of the gradient", vec![of("norm", &|s| s.gradient_norm)]);
    plot("Codes that flip in a step, %", layers(&steps, |codes| 100.0 * codes.flips));
    plot("Codes that are not zero, %", layers(&steps, |codes| 100.0 * codes.density));
    plot("Tokens a second", vec![of("tokens", &|s| s.tokens as f64 / s.seconds.max(1e-9))]);
    let samples = samples(lines);
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         <h1>{title}</h1>\n{}{body}{samples}<h2>Configuration</h2>\n<pre>{}</pre>\n</html>\n",
        summary(lines),
        escape(config)
    )
}

/// What the model wrote, the last texts first.
fn samples(lines: &[Line]) -> String {
    let written = lines.iter().rev().filter_map(|line| match line {
        Line::Sample { step, text } => Some((step, text)),
        _ => None,
    });
    let shown: String = written
        .take(SAMPLES)
        .map(|(step, text)| format!("<p>After {step} steps</p>\n<pre>{}</pre>\n", escape(text)))
        .collect();
    if shown.is_empty() { shown } else { format!("<h2>What it writes</h2>\n{shown}") }
}

/// The last evaluation and the best one.
fn summary(lines: &[Line]) -> String {
    let mut found = lines.iter().filter_map(|line| match line {
        Line::Evaluation { step, evaluation } => Some((*step, evaluation)),
        _ => None,
    });
    let best = found.clone().min_by(|a, b| a.1.nats.total_cmp(&b.1.nats));
    let (Some((last, at_last)), Some((best, at_best))) = (found.next_back(), best) else {
        return String::new();
    };
    format!(
        "<p>After {last} steps {:.4} nats a token, {:.4} bits a byte; best {:.4} nats after {best}.</p>\n",
        at_last.nats, at_last.bits_per_byte, at_best.nats
    )
}

/// A line for each layer.
fn layers(steps: &[&Step], f: impl Fn(&crate::progress::Codes) -> f64) -> Vec<Series> {
    let count = steps.iter().map(|step| step.layers.len()).max().unwrap_or(0);
    let layer = |i: usize| Series {
        name: format!("layer {i}"),
        points: steps.iter().filter_map(|s| Some((s.step as f64, f(s.layers.get(i)?)))).collect(),
    };
    (0..count).map(layer).collect()
}

/// Neighbours averaged, so that there are not more points than can be seen.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS).max(1);
    let mean = |values: &mut dyn Iterator<Item = f64>, n: usize| values.sum::<f64>() / n as f64;
    let average = |chunk: &[(f64, f64)]| {
        (mean(&mut chunk.iter().map(|p| p.0), chunk.len()), mean(&mut chunk.iter().map(|p| p.1), chunk.len()))
    };
    points.chunks(each).map(average).filter(|(_, y)| y.is_finite()).collect()
}

fn chart(title: &str, series: &[Series]) -> String {
    let lines: Vec<Vec<(f64, f64)>> = series.iter().map(|s| thinned(&s.points)).collect();
    let all = || lines.iter().flatten();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let ends = all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        if ends.0 < ends.1 { ends } else { (ends.0 - 0.5, ends.0 + 0.5) }
    };
    let ((left, right), (low, high)) = (range(|p| p.0), range(|p| p.1));
    let x = |v: f64| LEFT + (v - left) / (right - left) * (SIZE[0] - LEFT - 4.0);
    let y = |v: f64| TOP + (high - v) / (high - low) * (SIZE[1] - TOP - BOTTOM);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {:.0} {:.0}\" role=\"img\"><title>{title}: {low:.4} to {high:.4}</title>\n",
        SIZE[0], SIZE[1]
    );
    for i in 0..=4 {
        let v = low + (high - low) * f64::from(i) / 4.0;
        let at = y(v);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            SIZE[0],
            LEFT - 6.0,
            at + 4.0,
            short(v)
        );
        let v = left + (right - left) * f64::from(i) / 4.0;
        let anchor = if i == 4 { "end" } else { "mid" };
        let bottom = SIZE[1] - 6.0;
        let _ = writeln!(svg, "<text class=\"{anchor}\" x=\"{:.1}\" y=\"{bottom}\">{v:.0}</text>", x(v));
    }
    for (i, line) in lines.iter().enumerate() {
        let points: Vec<String> = line.iter().map(|&(a, b)| format!("{:.1} {:.1}", x(a), y(b))).collect();
        let _ = writeln!(svg, "<path class=\"c{}\" d=\"M{}\"/>", i % COLOURS, points.join("L"));
    }
    svg += "</svg>\n";
    if series.len() > 1 {
        let key = |(i, s): (usize, &Series)| {
            let colour = i % COLOURS;
            let name = escape(&s.name);
            format!(
                "<svg class=\"key\" viewBox=\"0 0 8 8\"><rect class=\"c{colour}\" width=\"8\" height=\"8\"/></svg> {name} "
            )
        };
        let _ = writeln!(svg, "<p>{}</p>", series.iter().enumerate().map(key).collect::<String>());
    }
    svg
}

/// A number in a few digits.
fn short(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if a < 1e-3 => format!("{v:.1e}"),
        a if a < 10.0 => format!("{v:.3}"),
        a if a < 1e5 => format!("{v:.0}"),
        _ => format!("{v:.1e}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evaluate::Evaluation, progress::Codes};

    fn lines() -> Vec<Line> {
        let step = |step: u64| {
            Line::Step(Step {
                step,
                loss: 4.0 / step as f64,
                distillation: (step > 5).then_some(0.25),
                lr: 1e-3,
                weight_decay: 0.1,
                gradient_norm: if step == 3 { f64::NAN } else { 1.0 },
                tokens: 64,
                seconds: 0.1,
                layers: vec![Codes { density: 0.7, flips: 0.01 }; 2],
            })
        };
        let evaluation = Evaluation { nats: 1.25, bits_per_byte: 1.8, tokens: 10 };
        let samples = (0..10).map(|i| Line::Sample { step: i, text: format!("<b> & so {i}") });
        let evaluation = Line::Evaluation { step: 1999, evaluation };
        (1..2000).map(step).chain([evaluation]).chain(samples).collect()
    }

    #[test]
    fn a_page_draws_every_kind_of_line_and_needs_no_network() {
        let page = page("run <1>", &lines(), "lr = 1");
        for text in [
            "Loss",
            "What the teacher adds",
            "flip",
            "layer 1",
            "1.2500 nats",
            "&lt;b&gt; &amp; so 9",
            "After 2 steps",
            "run &lt;1&gt;",
            "lr = 1",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("so 1<"), "only the last texts are shown");
        assert!(!page.contains("NaN") && !page.contains("inf") && !page.contains("http"));
    }

    #[test]
    fn many_steps_are_averaged() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 2.0)).collect();
        let thinned = thinned(&points);
        assert!(thinned.len() <= POINTS && thinned.iter().all(|p| p.1 == 2.0));
    }

    #[test]
    fn a_run_without_steps_has_a_page() {
        assert!(page("empty", &[], "").contains("Configuration"));
    }
}
