//! Elements as words of one width, as NumPy's formatters choose them (`numpy/_core/arrayprint.py`).

use super::float::Float;
use crate::Bool;
use std::fmt::Display;

/// Digits after the point where nobody asks for another number.
const PRECISION: usize = 8;
/// Non-zero numbers whose sizes differ by more than this factor are written with exponents.
const RATIO: f64 = 1000.0;

pub(super) fn integers<T: Display>(values: &[T]) -> Vec<String> {
    right_aligned(values.iter().map(ToString::to_string).collect())
}

pub(super) fn truths(values: &[Bool], scalar: bool) -> Vec<String> {
    let word = |truth: &Bool| if truth.get() { "True" } else { "False" }.to_owned();
    let width = if scalar { 0 } else { 5 };
    values.iter().map(word).map(|word| format!("{word:>width$}")).collect()
}

/// Floats, the points below each other. A scalar is written in full unless a precision is asked for.
pub(super) fn floats<T: Float>(values: &[T], scalar: bool, precision: Option<usize>) -> Vec<String> {
    match (values, precision) {
        ([value], None) if scalar => vec![in_full(*value)],
        _ if has_exponents(values) => scientific(values, precision.unwrap_or(PRECISION)),
        _ => positional(values, precision.unwrap_or(PRECISION)),
    }
}

fn right_aligned(words: Vec<String>) -> Vec<String> {
    let width = words.iter().map(String::len).max().unwrap_or(0);
    words.into_iter().map(|word| format!("{word:>width$}")).collect()
}

/// A number as Python writes it: all digits that tell it from others.
fn in_full<T: Float>(value: T) -> String {
    let exact: f64 = value.into();
    let (mantissa, exponent) = split(&value.shortest());
    if !exact.is_finite() {
        return not_finite(exact);
    }
    if exact != 0.0 && !(1e-4..T::LARGE).contains(&exact.abs()) {
        return mantissa + &exponent_of(exponent);
    }
    let digits = plain(&mantissa, exponent);
    if digits.contains('.') { digits } else { digits + ".0" }
}

fn has_exponents<T: Float>(values: &[T]) -> bool {
    let size = |x: &T| (*x).into().abs();
    let sizes = || values.iter().copied().filter(|x| size(x).is_finite() && size(x) != 0.0);
    let largest = sizes().max_by(|x, y| size(x).total_cmp(&size(y)));
    let smallest = sizes().min_by(|x, y| size(x).total_cmp(&size(y)));
    largest.zip(smallest).is_some_and(|(largest, smallest)| {
        size(&largest) >= T::LARGE || size(&smallest) < T::small() || largest.ratio(smallest).abs() > RATIO
    })
}

/// Numbers without exponents.
fn positional<T: Float>(values: &[T], precision: usize) -> Vec<String> {
    let text = |value: T| {
        let (mantissa, exponent) = split(&value.shortest());
        let shortest = plain(&mantissa, exponent);
        let exact: f64 = value.into();
        if fraction(&shortest).len() <= precision { shortest } else { format!("{exact:.precision$}") }
    };
    let parts = |&value: &T| {
        let text = text(value);
        let int = text.split('.').next().unwrap_or_default();
        (int.to_owned(), fraction(&text).trim_end_matches('0').to_owned())
    };
    aligned(values, &values.iter().map(parts).collect::<Vec<_>>())
}

/// Numbers with exponents, all with as many digits as the one that needs most.
fn scientific<T: Float>(values: &[T], precision: usize) -> Vec<String> {
    let finite = values.iter().filter(|x| (**x).into().is_finite());
    let digits = finite.map(|&x| digits_needed(x, precision)).max().unwrap_or(0);
    let parts = |&value: &T| {
        let (mantissa, exponent) = rounded(value, digits);
        let int = mantissa.split('.').next().unwrap_or_default();
        (int.to_owned(), format!("{}{}", fraction(&mantissa), exponent_of(exponent)))
    };
    aligned(values, &values.iter().map(parts).collect::<Vec<_>>())
}

/// Digits after the point of the mantissa that a number needs, or `precision` and less where that is not enough.
fn digits_needed<T: Float>(value: T, precision: usize) -> usize {
    let needed = fraction(&split(&value.shortest()).0).len();
    if needed <= precision {
        return needed;
    }
    fraction(&rounded(value, precision).0).trim_end_matches('0').len()
}

/// Mantissa with `digits` digits after the point, and exponent. Digits beyond the shortest are those of the exact value.
fn rounded<T: Float>(value: T, digits: usize) -> (String, i32) {
    let (shortest, exponent) = split(&value.shortest());
    if fraction(&shortest).len() == digits {
        return (shortest, exponent);
    }
    let exact: f64 = value.into();
    split(&format!("{exact:.digits$e}"))
}

/// Joins what stands before and after the points, which come below each other; what is not finite ends where numbers end.
fn aligned<T: Float>(values: &[T], parts: &[(String, String)]) -> Vec<String> {
    let finite =
        || values.iter().zip(parts).filter(|(x, _)| (**x).into().is_finite()).map(|(_, parts)| parts);
    let right = finite().map(|(_, fraction)| fraction.len()).max().unwrap_or(0);
    let left = finite().map(|(int, _)| int.len()).max().unwrap_or(0);
    let odd = values.iter().map(|&x| x.into()).filter(|x| !x.is_finite()).map(|x| not_finite(x).len());
    let left = left.max(odd.max().unwrap_or(0).saturating_sub(right + 1));
    let word = |(&x, (int, fraction)): (&T, &(String, String))| match x.into() {
        x if x.is_finite() => format!("{int:>left$}.{fraction:<right$}"),
        x => format!("{:>1$}", not_finite(x), left + right + 1),
    };
    values.iter().zip(parts).map(word).collect()
}

fn fraction(text: &str) -> &str {
    text.split_once('.').map_or("", |(_, fraction)| fraction)
}

/// Mantissa and exponent of Rust's `1.5e7`.
fn split(text: &str) -> (String, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    (mantissa.to_owned(), exponent.parse().unwrap_or(0))
}

/// `e+07`.
fn exponent_of(exponent: i32) -> String {
    format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A number without exponent; places that the mantissa says nothing of are zeros.
fn plain(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let point = usize::try_from(exponent + 1).unwrap_or(0).max(1);
    let digits = zeros(-exponent) + &digits;
    let padded = format!("{digits:0<point$}");
    let (int, fraction) = padded.split_at(point);
    if fraction.is_empty() { format!("{sign}{int}") } else { format!("{sign}{int}.{fraction}") }
}

fn not_finite(value: f64) -> String {
    if value.is_nan() { "nan".into() } else { value.to_string() }
}
