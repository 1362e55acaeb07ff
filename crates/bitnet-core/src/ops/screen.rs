//! The largest products of a matrix without reading all of it: a copy in int8 says within what bounds every product lies, and those that can be
//! among the largest are computed from the matrix itself. What is returned is what the matrix gives, to the bit.
//!
//! Of a row `w` with its rounded copy `v`, and a token `x` with its own `u`: `|fl(w·x) - v·u| <= (|w - v| + γ |w|) |x| + |v| |x - u|` in Euclidean
//! norms, by Cauchy and Schwarz, where `γ` bounds what sixteen-lane sums round (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
//! section 3.1). `v·u` is a sum of integers, hence exact.
//!
//! Rows in Q6_K are smaller than such a copy: of them the codes that are stored are multiplied with those of the token, `v` is `w`, and what
//! is summed in floats for want of one scale a row is within `γ` as well.

mod candidates;
mod partial;
pub mod q6_k;

pub(crate) use candidates::largest_bounds;
pub use candidates::{BOUNDED, LargestBounds, TokenFigures};
pub use partial::PartialScreen;

use crate::{
    DType, Error, PackedTensor, Result, Tensor,
    lanes::{self, Ahead, CODE_BLOCKS, CODE_ROWS, Lanes},
    math::{self, LANES},
    ops::{embedding, matmul_t},
    view::View,
};
use bitnet_quant::Format;
use candidates::candidates;
use q6_k::SplitCodes;
use std::sync::Arc;

/// Rows of codes are padded with zeros to a multiple of this.
pub const CODES: usize = lanes::CODES;
/// Bytes from what is multiplied to what is asked for meanwhile.
const AHEAD: usize = 8192;
/// The largest code of a token, below 2^14.
const TOKEN_MAX: f32 = 16_383.0;

/// What is known of a rounded row `v` of `w`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct RowFigures {
    /// `v` is its codes times this.
    pub scale: f32,
    /// At least `|w - v| + γ |w|`.
    pub lost: f32,
    /// At least `|v|`.
    pub length: f32,
}

/// What a sum of `n` products in sixteen lanes rounds at most, in magnitudes of its terms: twice the bound, so that the sums of squares below
/// and a last product are covered as well.
fn gamma(n: usize) -> f32 {
    (n.div_ceil(LANES) + 8) as f32 * f32::EPSILON
}

/// Rounds `w: [C]` to int8 codes, the padding to zeros.
#[inline(always)]
pub fn reference(w: &[f32], codes: &mut [i8]) -> RowFigures {
    let absmax = w.iter().fold(0f32, |max, w| math::max(max, w.abs()));
    let scale = absmax * (1.0 / 127.0);
    let inverse = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
    let (mut lost, mut all) = ([0f32; LANES], [0f32; LANES]);
    let (codes, padding) = codes.split_at_mut(w.len());
    padding.fill(0);
    for (w, codes) in w.chunks(LANES).zip(codes.chunks_mut(LANES)) {
        for (i, (&w, to)) in w.iter().zip(codes).enumerate() {
            let (value, code) = math::round((w * inverse).clamp(-127.0, 127.0));
            *to = code as i8;
            let rest = w - scale * value;
            lost[i] += rest * rest;
            all[i] += w * w;
        }
    }
    let gamma = gamma(w.len());
    // Squares of numbers below 1e-22 vanish.
    let length = |squares: &[f32; LANES]| {
        math::tree_sum(squares).sqrt() * (1.0 + gamma) + (w.len() as f32).sqrt() * 1e-22
    };
    let (lost, all) = (length(&lost), length(&all));
    RowFigures { scale, lost: lost + gamma * (2.0 * all + lost), length: (all + lost) * (1.0 + gamma) }
}

/// Tokens in codes, arranged for a tier.
#[derive(Clone, Copy, Debug)]
pub struct ArrangedTokens<'a> {
    /// `[T, width]`, whole blocks.
    pub codes: &'a [i16],
    /// What the sums of each token lack for the products with any row, `[T]`.
    pub lacking: &'a [i64],
}

/// The codes of a token, whole blocks, as [`dots`] wants them. Returns what its sums lack.
#[inline(always)]
pub(crate) fn arrange<L: Lanes>(codes: &[i16], to: &mut [i16]) -> i64 {
    L::arrange_codes(codes.as_chunks().0, to.as_chunks_mut().0)
}

/// Puts the codes of a row, whole blocks, to those of the others of its four.
pub fn put_row(codes: &[i8], row: usize, four: &mut [i8]) {
    let blocks = four.as_chunks_mut::<CODES>().0.as_chunks_mut::<CODE_ROWS>().0;
    for (from, to) in codes.as_chunks::<CODES>().0.iter().zip(blocks) {
        to[row] = *from;
    }
}

/// Sums of the products of the codes of some rows, by fours, with those of some tokens: `rows: [R / 4, 4 * width]`, `sums: [R, T]`.
#[inline(always)]
pub(crate) fn dots<L: Lanes>(rows: &[i8], x: ArrangedTokens<'_>, sums: &mut [i64]) {
    let tokens = x.lacking.len();
    let width = x.codes.len() / tokens.max(1);
    if width == 0 {
        return;
    }
    let tiles = tokens.div_ceil(L::CODE_TOKENS);
    let (lines, stride) = if L::follows_streams() { (CODE_ROWS / 2, 128) } else { (CODE_ROWS, 64) };
    for (four, sums) in rows.chunks(CODE_ROWS * width).zip(sums.chunks_mut(CODE_ROWS * tokens)) {
        let from = four.as_ptr().cast::<u8>();
        let next = if tokens <= 2 {
            // With so few the rows are read faster than they are multiplied: one stream.
            Ahead { from: from.wrapping_add(AHEAD), lines, stride }
        } else {
            // The rows that come next, a share of them with every tile.
            Ahead { from: from.wrapping_add(four.len()), lines: CODE_ROWS.div_ceil(tiles), stride: 64 }
        };
        let four = four.as_chunks().0.as_chunks().0;
        for (i, x) in x.codes.chunks(L::CODE_TOKENS * width).enumerate() {
            let (ahead, first) = (next.skip(i * four.len()), i * L::CODE_TOKENS);
            match x.len() / width {
                1 => tile::<L, 1>(four, x, ahead, &mut sums[first..], tokens),
                2 => tile::<L, 2>(four, x, ahead, &mut sums[first..], tokens),
                _ => tile::<L, 3>(four, x, ahead, &mut sums[first..], tokens),
            }
        }
        for sums in sums.chunks_mut(tokens) {
            for (sum, lacking) in sums.iter_mut().zip(x.lacking) {
                *sum += lacking;
            }
        }
    }
}

/// Four rows with `T` tokens, whose sums are followed by those of other tokens: `sums: [4, tokens]`.
#[inline(always)]
fn tile<L: Lanes, const T: usize>(
    rows: &[[[i8; CODES]; CODE_ROWS]],
    x: &[i16],
    ahead: Ahead,
    sums: &mut [i64],
    tokens: usize,
) {
    let mut total = [[0; T]; CODE_ROWS];
    for (i, part) in rows.chunks(CODE_BLOCKS).enumerate() {
        let start = i * CODE_BLOCKS;
        let mut codes: [&[[i16; CODES]]; T] = [&[]; T];
        for (x, codes) in x.chunks(rows.len() * CODES).zip(&mut codes) {
            *codes = &x.as_chunks().0[start..start + part.len()];
        }
        let dots = L::dot_codes(part, codes, ahead.skip(start));
        for (total, dot) in total.as_flattened_mut().iter_mut().zip(dots.as_flattened()) {
            *total += dot;
        }
    }
    for (sums, total) in sums.chunks_mut(tokens).zip(total) {
        sums[..T].copy_from_slice(&total);
    }
}

/// A matrix in int8, for a backend to read. `C'` is `C` padded.
#[derive(Clone, Copy, Debug)]
pub struct ScreenView<'a> {
    /// `[O / 4, 4 * C']` i8: rows by fours, a block of each and then the next.
    pub codes: View<'a>,
    /// `[O]`.
    pub figures: &'a [RowFigures],
}

/// Tokens in int16, for a backend to read.
#[derive(Clone, Copy, Debug)]
pub struct TokenCodes<'a> {
    /// `[T, C']`.
    pub codes: &'a [i16],
    /// What the codes of each token are multiplied by, `[T]`.
    pub scales: &'a [f32],
}

/// A token split into bytes, for a backend to read.
#[derive(Clone, Copy, Debug)]
pub struct SplitTokens<'a> {
    /// `[T, C / 256]`.
    pub codes: &'a [SplitCodes],
    /// What the codes of each token are multiplied by, `[T]`.
    pub scales: &'a [f32],
}

/// The rows that tokens are multiplied with.
#[derive(Clone, Debug)]
enum Rows {
    /// A copy in int8, `[O / 4, 4 * C']`: rows by fours, a block of each and then the next, so that what is read is one stream whose rows share
    /// what is loaded of a token.
    Rounded(Tensor),
    /// Those of the matrix itself, which is in Q6_K.
    Stored,
}

/// What the largest products of a matrix are found with.
#[derive(Clone, Debug)]
pub struct Screen {
    rows: Rows,
    figures: Arc<[RowFigures]>,
    cols: usize,
}

impl Screen {
    /// The screen of a stored matrix `[O, C]`.
    ///
    /// # Errors
    /// Where the matrix is ternary or holds a number that is not finite or too large, the device is not the host, or memory runs out.
    pub fn of(weight: &PackedTensor) -> Result<Self> {
        let mut partial = PartialScreen::of(weight)?;
        partial.advance(weight.rows())?;
        Ok(partial.finish())
    }

    /// Bytes that the screen of a matrix takes beside it, if there can be one.
    pub fn bytes_of(weight: &PackedTensor) -> Option<usize> {
        let codes = match weight.format() {
            Format::F32 | Format::F16 | Format::BF16 => weight.cols().next_multiple_of(CODES),
            Format::Q6K => 0,
            _ => return None,
        };
        Some(weight.rows() * (codes + size_of::<RowFigures>()))
    }

    /// Bytes that are read for a token to find its largest products with `weight`, whose screen this is.
    pub fn bytes_read(&self, weight: &PackedTensor) -> usize {
        let rows = match &self.rows {
            Rows::Rounded(rows) => rows.bytes(),
            Rows::Stored => weight.bytes(),
        };
        rows + size_of_val(&*self.figures)
    }

    /// The largest code of a token.
    fn token_max(&self) -> f32 {
        match self.rows {
            Rows::Rounded(_) => TOKEN_MAX,
            Rows::Stored => q6_k::TOKEN_MAX,
        }
    }

    /// Products of the rounded rows with rounded tokens -> `[T, O]`.
    fn products(&self, weight: &PackedTensor, tokens: &[Token]) -> Result<Tensor> {
        let op = "screen_products";
        let mut y = Tensor::empty(weight.device(), [tokens.len(), self.figures.len()], DType::F32)?;
        let (backend, into) = (weight.device().backend(), y.view_mut(op)?);
        let scales: Vec<f32> = tokens.iter().map(|token| token.scale).collect();
        let codes = tokens.iter().map(|token| &token.codes[..]);
        match &self.rows {
            Rows::Rounded(rows) => {
                let screen = ScreenView { codes: rows.view(), figures: &self.figures };
                let codes: Vec<i16> = codes.flatten().copied().collect();
                backend.screen_products(screen, TokenCodes { codes: &codes, scales: &scales }, into)?;
            }
            Rows::Stored => {
                let codes: Vec<SplitCodes> = codes.flat_map(SplitCodes::split).collect();
                let x = SplitTokens { codes: &codes, scales: &scales };
                backend.screen_products_q6_k(weight.view(), x, into)?;
            }
        }
        Ok(y)
    }
}

/// A token `x` and its copy `u` in codes.
struct Token {
    codes: Vec<i16>,
    scale: f32,
    figures: TokenFigures,
}

impl Token {
    /// A token in codes up to `largest`.
    fn of(x: &[f32], largest: f32) -> Self {
        let absmax = x.iter().fold(0f32, |max, x| max.max(x.abs()));
        let scale = absmax / largest;
        let inverse = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
        let code = |&x: &f32| math::round((x * inverse).clamp(-largest, largest)).1 as i16;
        let mut codes: Vec<i16> = x.iter().map(code).collect();
        let rest = |(&x, &code): (&f32, &i16)| f64::from(x) - f64::from(scale) * f64::from(code);
        let length = |squares: f64| (squares.sqrt() * (1.0 + 1e-6)) as f32;
        let all = length(x.iter().map(|&x| f64::from(x) * f64::from(x)).sum());
        let lost = length(x.iter().zip(&codes).map(rest).map(|rest| rest * rest).sum());
        codes.resize(x.len().next_multiple_of(CODES), 0);
        let figures = TokenFigures { length: all, lost, least: codes.len() as f32 * 1e-44 };
        Self { codes, scale, figures }
    }
}

/// One part in this many of a matrix may be computed twice before it is cheaper to compute all of it once.
const SHARE: usize = 8;

/// Products of `x: [T, C]` with the rows of a matrix `[O, C]` -> `[T, O]`, of which each token wants the `wanted` largest: these, and all that are
/// equal to them, are those of [`matmul_t`](super::matmul_t()) to the bit. Any other may be `f32::MIN`. `wanted: [T]`.
///
/// # Errors
/// Where shapes or devices differ, `screen` is not of this matrix, or the device fails.
pub fn largest_products(
    x: &Tensor,
    weight: &PackedTensor,
    screen: &Screen,
    wanted: &[usize],
) -> Result<Tensor> {
    let op = "largest_products";
    super::expect_shape(op, x, [wanted.len(), weight.cols()])?;
    super::expect_device(op, x.device(), weight.device())?;
    if [screen.figures.len(), screen.cols] != [weight.rows(), weight.cols()] {
        let reason = "the screen is one of another matrix".to_owned();
        return Err(Error::Argument { op, reason });
    }
    let (rows, most) = (weight.rows(), weight.rows() / SHARE);
    if wanted.iter().any(|&wanted| wanted == 0 || wanted > most) {
        return matmul_t(x, weight);
    }
    let codes = |x| Token::of(x, screen.token_max());
    let tokens: Vec<Token> = x.as_slice::<f32>()?.chunks(screen.cols.max(1)).map(codes).collect();
    let mut y = screen.products(weight, &tokens)?;
    let figures: Vec<TokenFigures> = tokens.iter().map(|token| token.figures).collect();
    let blocks = rows.div_ceil(BOUNDED);
    let mut bounds = vec![LargestBounds::default(); tokens.len() * blocks];
    weight.device().backend().screen_bounds(y.view(), &screen.figures, &figures, &mut bounds)?;
    let mut ids = Vec::new();
    for (i, (token, &wanted)) in figures.iter().zip(wanted).enumerate() {
        let x = x.narrow(0, i, 1)?;
        let guesses = &y.as_slice::<f32>()?[i * rows..][..rows];
        let found =
            candidates(guesses, &screen.figures, token, &bounds[i * blocks..][..blocks], wanted, &mut ids);
        let exact = if found && ids.len() <= most {
            matmul_t(&x, &PackedTensor::from_rows(&embedding(weight, &ids)?)?)?
        } else {
            ids.clear();
            matmul_t(&x, weight)?
        };
        let (exact, y) = (exact.as_slice::<f32>()?, y.view_mut(op)?.into_slice::<f32>(op)?);
        let y = &mut y[i * rows..][..rows];
        if exact.len() == rows {
            y.copy_from_slice(exact);
            continue;
        }
        y.fill(f32::MIN);
        for (&id, &product) in ids.iter().zip(exact) {
            y[id as usize] = product;
        }
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, ops::quantize_rows, random::Rng};
    use bitnet_quant::Format;
    use proptest::prelude::*;

    /// A matrix of f16 rows of very different lengths, some of which are alike, and tokens of which some are long.
    fn operands(
        device: &Device,
        rows: usize,
        cols: usize,
        tokens: usize,
        seed: u64,
    ) -> (PackedTensor, Tensor) {
        let mut random = Rng::new(seed);
        let mut normals =
            |n: usize| -> Vec<f32> { (0..n).map(|_| random.next_normals()[0] as f32).collect() };
        let (mut values, mut x) = (normals(rows * cols), normals(tokens * cols));
        for row in 0..rows {
            let size = libm::exp2f((random.next_f64() * 24.0 - 20.0) as f32);
            values[row * cols..][..cols]
                .iter_mut()
                .for_each(|w| *w *= if row % 5 == 0 { size } else { 0.02 });
            if row % 7 == 6 {
                values.copy_within((row - 1) * cols..row * cols, row * cols);
            }
        }
        let halves = values.iter().map(|&w| math::f32_to_f16(w));
        let data: Vec<u8> = halves.flat_map(u16::to_le_bytes).collect();
        let data = Tensor::from_slice(device, [data.len()], &data).unwrap();
        x.iter_mut().step_by(37).for_each(|x| *x *= 50.0);
        let x = Tensor::from_slice(device, [tokens, cols], &x).unwrap();
        (PackedTensor::stored(Format::F16, rows, cols, data).unwrap(), x)
    }

    fn expect_largest(weight: &PackedTensor, x: &Tensor, wanted: &[usize]) {
        let rows = weight.rows();
        let expected = matmul_t(x, weight).unwrap().to_vec::<f32>().unwrap();
        let screen = Screen::of(weight).unwrap();
        let got = largest_products(x, weight, &screen, wanted).unwrap().to_vec::<f32>().unwrap();
        for ((got, expected), &wanted) in got.chunks(rows).zip(expected.chunks(rows)).zip(wanted) {
            let mut order: Vec<usize> = (0..rows).collect();
            order.sort_by(|&a, &b| expected[b].total_cmp(&expected[a]));
            let least = expected[order[wanted.min(rows) - 1]];
            for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
                let same = got.to_bits() == expected.to_bits();
                assert!(same || (*got == f32::MIN && *expected < least), "row {row}: {got}, not {expected}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_largest_products_are_those_of_the_matrix(
            (rows, cols, seed) in (1usize..3000, 1usize..160, any::<u64>()),
            wanted in prop::collection::vec(1usize..60, 1..4),
        ) {
            let device = Device::open("cpu", Some(2)).unwrap();
            let (weight, x) = operands(&device, rows, cols, wanted.len(), seed);
            expect_largest(&weight, &x, &wanted);
        }

        #[test]
        fn the_largest_products_are_those_of_rows_in_q6_k(
            (rows, blocks, seed) in (1usize..1000, 1usize..4, any::<u64>()),
            wanted in prop::collection::vec(1usize..60, 1..4),
        ) {
            let device = Device::open("cpu", Some(2)).unwrap();
            let (weight, x) = operands(&device, rows, 256 * blocks, wanted.len(), seed);
            expect_largest(&quantize_rows(&weight, Format::Q6K).unwrap(), &x, &wanted);
        }
    }

    #[test]
    fn few_rows_are_computed_twice() {
        let device = Device::open("cpu", Some(1)).unwrap();
        let (halves, x) = operands(&device, 20_000, 256, 1, 3);
        let six_bits = quantize_rows(&halves, Format::Q6K).unwrap();
        for weight in [halves, six_bits] {
            let got = largest_products(&x, &weight, &Screen::of(&weight).unwrap(), &[40]).unwrap();
            let computed = got.to_vec::<f32>().unwrap().iter().filter(|y| **y != f32::MIN).count();
            assert!((40..1500).contains(&computed), "{computed}");
        }
    }

    #[test]
    fn what_is_not_finite_is_not_screened() {
        let device = Device::open("cpu", Some(1)).unwrap();
        let weight = |value: u16| {
            let mut data = [0x2e66u16; 64 * 32];
            data[40] = value;
            let data: Vec<u8> = data.iter().flat_map(|half| half.to_le_bytes()).collect();
            let data = Tensor::from_slice(&device, [data.len()], &data).unwrap();
            PackedTensor::stored(Format::F16, 64, 32, data).unwrap()
        };
        for value in [0x7e00, 0x7c00, 0xfc00] {
            assert!(Screen::of(&weight(value)).is_err());
        }
        let six_bits = |scale: u16| {
            let mut data = [0x21u8; 64 * 210];
            data.chunks_mut(210).for_each(|block| block[208..].copy_from_slice(&0x2400u16.to_le_bytes()));
            data[40 * 210 + 208..][..2].copy_from_slice(&scale.to_le_bytes());
            let data = Tensor::from_slice(&device, [data.len()], &data).unwrap();
            PackedTensor::stored(Format::Q6K, 64, 256, data).unwrap()
        };
        for scale in [0x7e00, 0x7c00, 0xfc00] {
            assert!(Screen::of(&six_bits(scale)).is_err());
        }
        let empty = Tensor::zeros(&device, [0], DType::U8).unwrap();
        assert!(Screen::of(&PackedTensor::stored(Format::F16, 3, 0, empty).unwrap()).is_err());
        for weight in [weight(0x3c00), six_bits(0x2400)] {
            let screen = Screen::of(&weight).unwrap();
            for value in [f32::NAN, f32::INFINITY, 3e38] {
                let mut x = vec![0.5f32; weight.cols()];
                x[3] = value;
                let x = Tensor::from_slice(&device, [1, x.len()], &x).unwrap();
                let bits =
                    |y: Tensor| y.to_vec::<f32>().unwrap().iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                let got = largest_products(&x, &weight, &screen, &[1]).unwrap();
                assert_eq!(bits(got), bits(matmul_t(&x, &weight).unwrap()));
            }
        }
    }
}
