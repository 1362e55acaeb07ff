//! Receipts as one page: a roofline, distributions and a history, with inline SVG and nothing to load.

mod distribution;
mod facts;
mod history;
mod roofline;
mod svg;

use super::{Benchmark, Receipt};
use std::collections::BTreeMap;
use svg::escape;

const STYLE: &str = include_str!("style.css");

/// The page. Receipts come oldest first; the last is drawn in full, the others are its past.
///
/// # Panics
/// Where there is no receipt.
pub fn page(receipts: &[Receipt]) -> String {
    let last = receipts.last().expect("the command line asks for a receipt");
    let (title, facts) = (escape(&last.label()), facts::section(receipts));
    let (roofline, groups) = (roofline::section(last), groups(receipts, last));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Benchmarks at {title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>BitNet-Rust benchmarks</h1>\n<p>{title}</p>\n</header>\n\
         <main>\n{facts}{roofline}{groups}</main>\n</body>\n</html>\n"
    )
}

/// Groups by file, each with its distributions and, where there is a past, its history.
fn groups(receipts: &[Receipt], last: &Receipt) -> String {
    let mut files = BTreeMap::<&str, BTreeMap<&str, Vec<&Benchmark>>>::new();
    for benchmark in &last.benchmarks {
        let file = benchmark.group.split_once('/').map_or("other", |(file, _)| file);
        files.entry(file).or_default().entry(&benchmark.group).or_default().push(benchmark);
    }
    let file = |(file, groups): (&str, BTreeMap<&str, Vec<&Benchmark>>)| {
        let cards: String = groups.into_iter().map(|(name, group)| card(receipts, name, &group)).collect();
        format!("<section>\n<h2>{}</h2>\n{cards}</section>\n", escape(file))
    };
    let explanation = "<p class=\"note\">Each row shows the samples of one benchmark as dots, their density as a shape, the quartiles as \
         a box and the median as a line, relative to the median. Points at the border lie beyond it.</p>\n";
    explanation.to_owned() + &files.into_iter().map(file).collect::<String>()
}

fn card(receipts: &[Receipt], name: &str, group: &[&Benchmark]) -> String {
    let history = if receipts.len() > 1 { history::figure(receipts, name, group) } else { String::new() };
    let distribution = distribution::figure(name, group);
    format!("<article>\n<h3>{}</h3>\n{distribution}{history}</article>\n", escape(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::tests::{around, receipt};

    #[test]
    fn text_of_receipts_is_escaped() {
        let page = page(&[receipt(&around(100.0))]);
        assert!(page.contains("A &amp; B &lt;CPU&gt;") && page.contains("&lt;avx2&gt;"));
        assert!(!page.contains("<avx2>") && !page.contains("<CPU>"));
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let page = page(&[receipt(&around(100.0)), receipt(&around(90.0))]);
        for loads in ["http", "src=", "url(", "@import", "<link", "<script"] {
            assert!(!page.contains(loads), "{loads}");
        }
    }

    #[test]
    fn every_plot_has_a_title() {
        let page = page(&[receipt(&around(100.0)), receipt(&around(90.0))]);
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("role=\"img\" aria-labelledby=").count(), 3);
    }

    #[test]
    fn samples_that_are_all_the_same_are_drawn() {
        for samples in [vec![5.0; 3], vec![5.0]] {
            let page = page(&[receipt(&samples), receipt(&samples)]);
            assert!(!page.contains("NaN") && !page.contains("inf"), "{samples:?}");
        }
    }
}
