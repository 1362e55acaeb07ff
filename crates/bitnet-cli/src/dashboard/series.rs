//! Numbers over the steps of a run, in bounded memory.

/// Points that are kept; an even number, so that pairs can become one.
const LIMIT: usize = 1024;

/// Numbers over steps. When there are too many, each two neighbours become their mean.
#[derive(Clone, Debug)]
pub(super) struct Series {
    points: Vec<(f64, f64)>,
    /// Numbers that a point is the mean of.
    each: u32,
    /// Numbers in the last point.
    filled: u32,
    last: Option<f64>,
}

impl Default for Series {
    fn default() -> Self {
        Self { points: Vec::new(), each: 1, filled: 1, last: None }
    }
}

impl Series {
    /// Appends the number of a step; one that is not finite has no place in a chart.
    pub(super) fn push(&mut self, step: u64, y: f64) {
        self.last = Some(y);
        if !y.is_finite() {
            return;
        }
        let point = (step as f64, y);
        match self.points.last_mut() {
            Some(open) if self.filled < self.each => {
                self.filled += 1;
                let share = f64::from(self.filled).recip();
                *open = (open.0 + (point.0 - open.0) * share, open.1 + (point.1 - open.1) * share);
            }
            _ => self.begin(point),
        }
    }

    fn begin(&mut self, point: (f64, f64)) {
        if self.points.len() == LIMIT {
            self.points = self.points.chunks(2).map(mean).collect();
            self.each *= 2;
        }
        self.points.push(point);
        self.filled = 1;
    }

    /// The number that came last, finite or not.
    pub(super) fn last(&self) -> Option<f64> {
        self.last
    }

    /// At most `count` points, means of neighbours.
    pub(super) fn thinned(&self, count: usize) -> Vec<(f64, f64)> {
        let together = self.points.len().div_ceil(count.max(1)).max(1);
        self.points.chunks(together).map(mean).collect()
    }
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let share = (points.len() as f64).recip();
    points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 * share, sum.1 + point.1 * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_mean_and_its_ends_in_bounded_memory() {
        let mut series = Series::default();
        (1..=100_000).for_each(|step| series.push(step, step as f64));
        assert!(series.points.len() <= LIMIT);
        assert!(series.points.iter().all(|(x, y)| (x - y).abs() < 1e-6));
        let thinned = series.thinned(50);
        assert!(thinned.len() <= 50 && thinned.is_sorted_by(|a, b| a.0 < b.0));
        assert!(thinned[0].0 < 2_500.0 && thinned.last().unwrap().0 > 97_000.0);
    }

    #[test]
    fn what_is_not_finite_is_last_but_not_a_point() {
        let mut series = Series::default();
        series.push(1, f64::NAN);
        series.push(2, f64::INFINITY);
        assert!(series.thinned(10).is_empty() && series.last() == Some(f64::INFINITY));
    }
}
