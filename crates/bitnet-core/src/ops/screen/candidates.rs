//! Which rows can have one of the largest products of a token.

use super::RowFigures;
use crate::math::{self, LANES};

/// Rows whose largest bounds are found together.
pub const BOUNDED: usize = 64;

/// What is known of a token `x` and its copy `u` in codes.
#[derive(Clone, Copy, Debug)]
pub struct TokenFigures {
    /// `|x|`, rounded up.
    pub length: f32,
    /// `|x - u|`, rounded up.
    pub lost: f32,
    /// What products lose that are too small to be normal.
    pub least: f32,
}

impl TokenFigures {
    /// How far the product of a row can be from that of its copy, which is `guess` after three roundings.
    #[inline(always)]
    fn bound(&self, row: &RowFigures, guess: f32) -> f32 {
        let far = row.lost * self.length + row.length * self.lost;
        // The second term is what the guess and its bounds round.
        far * (1.0 + 1e-6) + guess.abs() * 5e-7 + self.least
    }
}

/// What the products of some rows are at least and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LargestBounds {
    /// Of the row that is at least the largest.
    pub at_least: f32,
    /// Of the row that is at most the largest.
    pub at_most: f32,
    /// Whether all bounds are finite.
    pub finite: bool,
}

/// The largest bounds of every [`BOUNDED`] rows. `guesses, figures: [O]`, `bounds: [O / BOUNDED]`.
#[inline(always)]
pub(crate) fn largest_bounds(
    guesses: &[f32],
    figures: &[RowFigures],
    token: &TokenFigures,
    bounds: &mut [LargestBounds],
) {
    for ((guesses, figures), bounds) in guesses.chunks(BOUNDED).zip(figures.chunks(BOUNDED)).zip(bounds) {
        *bounds = largest(guesses, figures, token);
    }
}

/// Those of up to [`BOUNDED`] rows, in lanes.
#[inline(always)]
fn largest(guesses: &[f32], figures: &[RowFigures], token: &TokenFigures) -> LargestBounds {
    let mut least = [f32::NEG_INFINITY; LANES];
    let (mut most, mut sizes, mut none) = (least, [0f32; LANES], [0f32; LANES]);
    let mut add = |i: usize, guess: f32, row: &RowFigures| {
        let bound = token.bound(row, guess);
        let size = guess.abs() + bound;
        least[i] = math::max(least[i], guess - bound);
        most[i] = math::max(most[i], guess + bound);
        sizes[i] = math::max(sizes[i], size);
        // Not a number where one of them is not finite.
        none[i] += size * 0.0;
    };
    let (whole, last) = guesses.as_chunks::<LANES>();
    let (whole_figures, last_figures) = figures.as_chunks::<LANES>();
    for (guesses, figures) in whole.iter().zip(whole_figures) {
        for i in 0..LANES {
            add(i, guesses[i], &figures[i]);
        }
    }
    for (i, (&guess, row)) in last.iter().zip(last_figures).enumerate() {
        add(i, guess, row);
    }
    let largest = |lanes: &[f32; LANES]| lanes.iter().fold(f32::NEG_INFINITY, |a, &b| math::max(a, b));
    let finite = math::tree_sum(&none) == 0.0 && largest(&sizes) < f32::MAX;
    LargestBounds { at_least: largest(&least), at_most: largest(&most), finite }
}

/// Finds the rows whose products can be among the `wanted` largest, given the bounds of every [`BOUNDED`]. False where the bounds say nothing.
pub(super) fn candidates(
    guesses: &[f32],
    figures: &[RowFigures],
    token: &TokenFigures,
    bounds: &[LargestBounds],
    wanted: usize,
    ids: &mut Vec<u32>,
) -> bool {
    ids.clear();
    if bounds.iter().any(|bounds| !bounds.finite) {
        return false;
    }
    let rows = |block: usize| {
        let end = guesses.len().min((block + 1) * BOUNDED);
        (block * BOUNDED..end).map(|row| (row, guesses[row], token.bound(&figures[row], guesses[row])))
    };
    let (mut largest, mut threshold) = (Vec::with_capacity(2 * wanted), f32::NEG_INFINITY);
    for (block, bounds) in bounds.iter().enumerate() {
        if bounds.at_least <= threshold {
            continue;
        }
        for (_, guess, bound) in rows(block) {
            if guess - bound > threshold {
                largest.push(guess - bound);
                if largest.len() == 2 * wanted {
                    threshold = keep_largest(&mut largest, wanted);
                }
            }
        }
    }
    threshold = keep_largest(&mut largest, wanted);
    for (block, _) in bounds.iter().enumerate().filter(|(_, bounds)| bounds.at_most >= threshold) {
        ids.extend(
            rows(block).filter(|(_, guess, bound)| guess + bound >= threshold).map(|(row, ..)| row as u32),
        );
    }
    true
}

/// Drops all but the `n` largest and returns the least of them.
fn keep_largest(values: &mut Vec<f32>, n: usize) -> f32 {
    let least = *values.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a)).1;
    values.truncate(n);
    least
}
