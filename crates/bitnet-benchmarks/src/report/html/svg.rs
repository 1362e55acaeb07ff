//! Pieces of pages and plots.

/// Text that is shown as it is.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Width of every plot.
pub(super) const WIDTH: f64 = 760.0;

/// A plot that says what it shows to those who cannot see it. `title` and `description` are plain text.
pub(super) fn plot(height: f64, title: &str, description: &str, body: &str) -> String {
    let id: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let (title, description) = (escape(title), escape(description));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"t-{id} d-{id}\">\n\
         <title id=\"t-{id}\">{title}</title>\n<desc id=\"d-{id}\">{description}</desc>\n{body}</svg>\n"
    )
}

/// Text at a place, of a class.
pub(super) fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>\n", escape(content))
}

/// A line of a class.
pub(super) fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n")
}

/// A dot of a class, with what shows when it is pointed at.
pub(super) fn dot((x, y): (f64, f64), radius: f64, class: &str, hint: &str) -> String {
    let hint = if hint.is_empty() { String::new() } else { format!("<title>{}</title>", escape(hint)) };
    format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\">{hint}</circle>\n")
}

/// A square as large as a [`dot`].
pub(super) fn square((x, y): (f64, f64), radius: f64, class: &str, hint: &str) -> String {
    let (hint, side) = (escape(hint), 1.8 * radius);
    let (left, top) = (x - side / 2.0, y - side / 2.0);
    format!(
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side:.1}\" height=\"{side:.1}\"><title>{hint}</title></rect>\n"
    )
}

/// Points as the `points` of a polygon or polyline.
pub(super) fn points(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1} ")).collect()
}

/// At most `len` characters, the last an ellipsis where there were more.
pub(super) fn shortened(text: &str, len: usize) -> String {
    if text.chars().count() <= len {
        return text.to_owned();
    }
    text.chars().take(len - 1).chain(['…']).collect()
}

/// Places of numbers between two ends, evenly by their logarithms.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogScale {
    /// Smallest and largest number.
    pub(super) domain: (f64, f64),
    /// Their places.
    pub(super) range: (f64, f64),
}

impl LogScale {
    /// The place of a number.
    pub(super) fn at(&self, x: f64) -> f64 {
        let share = (x / self.domain.0).ln() / (self.domain.1 / self.domain.0).ln();
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// Powers of `base` within the domain.
    pub(super) fn ticks(&self, base: f64) -> impl Iterator<Item = f64> + use<> {
        // A whole power is not always whole after the logarithm.
        let exponent = |x: f64| x.ln() / base.ln();
        let first = (exponent(self.domain.0) - 1e-9).ceil() as i32;
        let last = (exponent(self.domain.1) + 1e-9).floor() as i32;
        (first..=last).map(move |n| base.powi(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_markup_is_shown_as_text() {
        assert_eq!(escape(r#"<b a="1">'&"#), "&lt;b a=&quot;1&quot;&gt;&#39;&amp;");
    }

    #[test]
    fn ticks_are_the_powers_within() {
        let scale = LogScale { domain: (0.5, 1000.0), range: (0.0, 100.0) };
        assert_eq!(scale.ticks(10.0).collect::<Vec<_>>(), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!((scale.at(0.5), scale.at(1000.0)), (0.0, 100.0));
    }

    #[test]
    fn long_names_end_in_an_ellipsis() {
        assert_eq!((shortened("abcd", 4).as_str(), shortened("abcde", 4).as_str()), ("abcd", "abc…"));
    }
}
