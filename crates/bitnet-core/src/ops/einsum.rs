//! Sums of products by Einstein's notation, as `numpy.einsum` reads it.

use super::{expect_device, matmul};
use crate::{Error, Result, Shape, Tensor};

/// What an expression says: letters of each operand and of the result.
struct Terms {
    operands: Vec<Vec<char>>,
    result: Vec<char>,
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Argument { op: "einsum", reason: reason.into() }
}

/// Stand for the dimensions behind `...`, from the last one.
const HIDDEN: [char; 8] = ['0', '1', '2', '3', '4', '5', '6', '7'];

impl Terms {
    /// # Errors
    /// Where the expression is not one, or does not fit the ranks.
    fn parse(expression: &str, ranks: &[usize]) -> Result<Self> {
        let text: String = expression.chars().filter(|c| !c.is_whitespace()).collect();
        let (inputs, result) = text.split_once("->").map_or((&text[..], None), |(a, b)| (a, Some(b)));
        let inputs: Vec<&str> = inputs.split(',').collect();
        if inputs.len() != ranks.len() {
            return Err(refused(format!("{} terms for {} operands", inputs.len(), ranks.len())));
        }
        let hidden = |(term, &rank): (&&str, &usize)| {
            let letters = term.replace("...", "").chars().count();
            if term.contains("...") { rank.saturating_sub(letters) } else { 0 }
        };
        let most = inputs.iter().zip(ranks).map(hidden).max().unwrap_or(0);
        let operands: Vec<Vec<char>> = inputs
            .iter()
            .zip(ranks)
            .map(|(term, &rank)| letters(term, hidden((term, &rank))))
            .collect::<Result<_>>()?;
        for ((letters, &rank), term) in operands.iter().zip(ranks).zip(&inputs) {
            if letters.len() != rank {
                return Err(refused(format!("term `{term}` for an operand of {rank} dimensions")));
            }
        }
        let result = match result {
            Some(term) => letters(term, most)?,
            None => implied(&operands, most),
        };
        Self { operands, result }.checked()
    }

    fn checked(self) -> Result<Self> {
        for (i, letter) in self.result.iter().enumerate() {
            if self.result[..i].contains(letter) {
                return Err(refused(format!("`{letter}` twice in the result")));
            }
            if !self.operands.iter().any(|term| term.contains(letter)) {
                return Err(refused(format!("`{letter}` of the result is in no operand")));
            }
        }
        Ok(self)
    }
}

/// The letters of a term, `hidden` dimensions in place of `...`.
fn letters(term: &str, hidden: usize) -> Result<Vec<char>> {
    let hidden: String = HIDDEN[..hidden.min(HIDDEN.len())].iter().rev().collect();
    let plain = term.replacen("...", "", 1);
    if let Some(wrong) = plain.chars().find(|c| !c.is_ascii_alphabetic()) {
        return Err(refused(format!("`{wrong}` in term `{term}` is not a letter")));
    }
    Ok(term.replacen("...", &hidden, 1).chars().collect())
}

/// The hidden dimensions, then the letters that come up once, in alphabetic order.
fn implied(operands: &[Vec<char>], hidden: usize) -> Vec<char> {
    let all: Vec<char> = operands.iter().flatten().copied().collect();
    let mut once: Vec<char> = all
        .iter()
        .copied()
        .filter(|c| c.is_ascii_alphabetic() && all.iter().filter(|other| *other == c).count() == 1)
        .collect();
    once.sort_unstable();
    HIDDEN[..hidden.min(HIDDEN.len())].iter().rev().copied().chain(once).collect()
}

/// An operand and the letters of its dimensions, each once.
struct Term {
    x: Tensor,
    letters: Vec<char>,
}

impl Term {
    /// Takes the diagonal of dimensions with one letter.
    fn new(x: &Tensor, letters: &[char]) -> Result<Self> {
        let (mut x, mut letters) = (x.clone(), letters.to_vec());
        while let Some((first, second)) = repeated(&letters) {
            x = x.diagonal(first as isize, second as isize)?;
            letters.remove(second);
        }
        Ok(Self { x, letters })
    }

    /// Sums over every dimension whose letter is not wanted any more.
    fn sum_unless(self, wanted: impl Fn(char) -> bool) -> Result<Self> {
        let axes: Vec<isize> =
            (0..self.letters.len()).filter(|&i| !wanted(self.letters[i])).map(|i| i as isize).collect();
        if axes.is_empty() {
            return Ok(self);
        }
        let x = self.x.sum(&axes[..], false)?;
        Ok(Self { x, letters: self.letters.into_iter().filter(|&c| wanted(c)).collect() })
    }

    /// The operand with its dimensions in this order, extents of 1 where it has none.
    fn arranged(&self, order: &[char]) -> Result<Tensor> {
        let present: Vec<usize> =
            order.iter().filter_map(|c| self.letters.iter().position(|l| l == c)).collect();
        let mut x = self.x.permute(&present)?;
        for (i, c) in order.iter().enumerate() {
            if !self.letters.contains(c) {
                x = x.unsqueeze(i as isize)?;
            }
        }
        Ok(x)
    }
}

fn repeated(letters: &[char]) -> Option<(usize, usize)> {
    letters.iter().enumerate().find_map(|(second, c)| {
        letters[..second].iter().position(|other| other == c).map(|first| (first, second))
    })
}

/// Extent of each letter.
fn extents(terms: &[Term]) -> Result<impl Fn(char) -> usize + use<>> {
    let mut known: Vec<(char, usize)> = Vec::new();
    for term in terms {
        for (&letter, &extent) in term.letters.iter().zip(term.x.dims()) {
            match known.iter_mut().find(|(c, _)| *c == letter) {
                Some((_, other)) if *other == extent || extent == 1 => {}
                Some((_, other)) if *other == 1 => *other = extent,
                Some((_, other)) => {
                    return Err(refused(format!("`{letter}` has the extents {other} and {extent}")));
                }
                None => known.push((letter, extent)),
            }
        }
    }
    Ok(move |letter| known.iter().find(|(c, _)| *c == letter).map_or(1, |(_, extent)| *extent))
}

/// Two operands as one: a batch of matrix products over what both have and nobody wants any more.
fn contract(
    a: &Term,
    b: &Term,
    wanted: impl Fn(char) -> bool,
    extent: impl Fn(char) -> usize,
) -> Result<Term> {
    let pick = |from: &[char], f: &dyn Fn(char) -> bool| from.iter().copied().filter(|&c| f(c)).collect();
    let batch: Vec<char> = pick(&a.letters, &|c| b.letters.contains(&c) && wanted(c));
    let inner: Vec<char> = pick(&a.letters, &|c| b.letters.contains(&c) && !wanted(c));
    let rows: Vec<char> = pick(&a.letters, &|c| !b.letters.contains(&c));
    let cols: Vec<char> = pick(&b.letters, &|c| !a.letters.contains(&c));
    let matrices = |term: &Term, first: &[char], second: &[char]| {
        let order = [&batch[..], first, second].concat();
        let shape: Vec<usize> = order.iter().map(|&c| extent(c)).collect();
        let product = |letters: &[char]| letters.iter().map(|&c| extent(c)).product::<usize>();
        let x = term.arranged(&order)?.broadcast_to(&shape[..])?;
        let folded = [product(&batch), product(first), product(second)];
        x.reshape(folded).or_else(|_| x.contiguous()?.reshape(folded))
    };
    let y = matmul(&matrices(a, &rows, &inner)?, &matrices(b, &inner, &cols)?)?;
    let letters = [batch, rows, cols].concat();
    let shape: Vec<usize> = letters.iter().map(|&c| extent(c)).collect();
    Ok(Term { x: y.reshape(&shape[..])?, letters })
}

/// The sum of products that `expression` names, such as `"bij,bjk->bik"`: letters for the dimensions of each operand, `...` for those
/// that broadcast, and the result's behind `->`. Without an arrow the result has the letters that come up once, in order. Operands are
/// contracted from left to right.
///
/// # Errors
/// Where the expression does not fit the operands, extents or devices differ, types differ or are not floats, or the device fails.
pub fn einsum(expression: &str, operands: &[&Tensor]) -> Result<Tensor> {
    let ranks: Vec<usize> = operands.iter().map(|x| x.shape().rank()).collect();
    let parsed = Terms::parse(expression, &ranks)?;
    let mut terms = Vec::new();
    for (x, letters) in operands.iter().zip(&parsed.operands) {
        expect_device("einsum", operands[0].device(), x.device())?;
        if !x.dtype().is_float() {
            return Err(Error::DType { op: "einsum", expected: crate::DType::F32, got: x.dtype() });
        }
        terms.push(Term::new(x, letters)?);
    }
    let extent = extents(&terms)?;
    let mut rest = terms.into_iter();
    let mut so_far = rest.next().ok_or_else(|| refused("no operands"))?;
    let mut rest: Vec<Term> = rest.collect();
    loop {
        let later = |c: char| parsed.result.contains(&c) || rest.iter().any(|t| t.letters.contains(&c));
        so_far = so_far.sum_unless(later)?;
        if rest.is_empty() {
            break;
        }
        let next = rest.remove(0);
        let wanted = |c: char| parsed.result.contains(&c) || rest.iter().any(|t| t.letters.contains(&c));
        let next = next.sum_unless(|c| wanted(c) || so_far.letters.contains(&c))?;
        so_far = contract(&so_far, &next, wanted, &extent)?;
    }
    let shape: Vec<usize> = parsed.result.iter().map(|&c| extent(c)).collect();
    so_far.arranged(&parsed.result)?.broadcast_to(Shape::new(&shape))?.contiguous()
}
