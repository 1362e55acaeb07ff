//! The largest products of a matrix without reading all of it: a copy in Q8_0 says within what bounds every product lies, and those that can be
//! among the largest are computed from the matrix itself. What is returned is what the matrix gives, to the bit.
//!
//! For a row `w`, its rounded copy `v` and a token `x`: `|fl(w·x) - fl(v·x)| <= (|w - v| + γ (|w| + |v|)) |x|` in Euclidean norms, by Cauchy and
//! Schwarz, where `γ` bounds what sixteen-lane sums round (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).

use crate::{
    DType, Error, PackedTensor, Result, Tensor,
    math::{self, LANES},
    ops::{embedding, matmul_t},
};
use bitnet_quant::Format;
use std::sync::Arc;

/// Values of a block.
const BLOCK: usize = 32;
/// Bytes of a block: an f16 scale, then the codes.
const BYTES: usize = 34;

/// What a sum of `n` products in sixteen lanes rounds at most, in magnitudes of its terms: twice the bound, so that the sums of squares below
/// and a last product are covered as well.
fn gamma(n: usize) -> f32 {
    (n.div_ceil(LANES) + 8) as f32 * f32::EPSILON
}

/// Rounds `w: [C]` to blocks of Q8_0 and returns what its products can be off by, for each unit of the length of the other operand.
#[inline(always)]
pub fn reference(w: &[f32], y: &mut [u8]) -> f32 {
    let (mut lost, mut all) = ([0f32; LANES], [0f32; LANES]);
    for (w, y) in w.as_chunks::<BLOCK>().0.iter().zip(y.as_chunks_mut::<BYTES>().0) {
        let absmax = w.iter().fold(0f32, |max, w| math::max(max, w.abs()));
        let half = math::f32_to_f16(absmax * (1.0 / 127.0));
        let scale = math::f16_to_f32(half);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let (head, codes) = y.split_at_mut(2);
        head.copy_from_slice(&half.to_le_bytes());
        for (w, codes) in w.as_chunks::<LANES>().0.iter().zip(codes.as_chunks_mut::<LANES>().0) {
            for i in 0..LANES {
                // The scale of tiny weights has few bits, so that a code could be too large.
                let (value, code) = math::round((w[i] * inverse).clamp(-127.0, 127.0));
                codes[i] = code as i8 as u8;
                let rest = w[i] - scale * value;
                lost[i] += rest * rest;
                all[i] += w[i] * w[i];
            }
        }
    }
    let gamma = gamma(w.len());
    // Squares of numbers below 1e-22 vanish.
    let length = |squares: &[f32; LANES]| {
        math::tree_sum(squares).sqrt() * (1.0 + gamma) + (w.len() as f32).sqrt() * 1e-22
    };
    let (lost, all) = (length(&lost), length(&all));
    lost + gamma * (2.0 * all + lost)
}

/// A copy of a matrix to find its largest products with.
#[derive(Clone, Debug)]
pub struct Screen {
    rows: PackedTensor,
    /// Of each row, for each unit of the length of the other operand.
    errors: Arc<[f32]>,
}

impl Screen {
    /// The screen of a stored matrix `[O, C]`.
    ///
    /// # Errors
    /// Where the columns are no whole blocks of 32, the matrix is ternary or holds a number that is not finite, the device is not the host, or
    /// memory runs out.
    pub fn of(weight: &PackedTensor) -> Result<Self> {
        let (op, device) = ("screen", weight.device());
        if weight.scales().is_some() {
            return Err(Error::Format { op, format: weight.format() });
        }
        let bytes = Format::Q8_0.tensor_bytes(weight.rows(), weight.cols())?;
        let mut data = Tensor::empty(device, [bytes], DType::U8)?;
        let mut errors = Tensor::empty(device, [weight.rows()], DType::F32)?;
        device.backend().screen(weight.view(), [data.view_mut(op)?, errors.view_mut(op)?])?;
        let errors: Arc<[f32]> = errors.as_slice::<f32>()?.into();
        if let Some(row) = errors.iter().position(|error| !error.is_finite()) {
            return Err(Error::Argument { op, reason: format!("row {row} is not finite, or too large") });
        }
        Ok(Self { rows: PackedTensor::stored(Format::Q8_0, weight.rows(), weight.cols(), data)?, errors })
    }

    /// Bytes of the copy and its bounds, all of which are read for a token.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + size_of_val(&*self.errors)
    }
}

/// One part in this many of a matrix may be computed twice before it is cheaper to compute all of it once.
const SHARE: usize = 8;

/// Products of `x: [T, C]` with the rows of a matrix `[O, C]` -> `[T, O]`, of which each token wants the `wanted` largest: these, and all that are
/// equal to them, are those of [`matmul_t`](super::matmul_t()) to the bit. Any other may be `f32::MIN`. `wanted: [T]`.
///
/// # Errors
/// Where shapes differ, `screen` is not of this matrix, or the device fails.
pub fn largest_products(
    x: &Tensor,
    weight: &PackedTensor,
    screen: &Screen,
    wanted: &[usize],
) -> Result<Tensor> {
    let op = "largest_products";
    super::expect_shape(op, x, [wanted.len(), weight.cols()])?;
    if [screen.rows.rows(), screen.rows.cols()] != [weight.rows(), weight.cols()] {
        let reason = "the screen is one of another matrix".to_owned();
        return Err(Error::Argument { op, reason });
    }
    let mut y = matmul_t(x, &screen.rows)?;
    let (rows, most) = (weight.rows(), weight.rows() / SHARE);
    let mut ids = Vec::new();
    for (token, &wanted) in wanted.iter().enumerate() {
        let x = x.narrow(0, token, 1)?;
        let guessed = &y.as_slice::<f32>()?[token * rows..][..rows];
        let found = wanted <= most && candidates(guessed, &screen.errors, x.as_slice()?, wanted, &mut ids);
        let exact = if found && ids.len() <= most {
            matmul_t(&x, &PackedTensor::from_rows(&embedding(weight, &ids)?)?)?
        } else {
            ids.clear();
            matmul_t(&x, weight)?
        };
        let (exact, y) = (exact.as_slice::<f32>()?, y.view_mut(op)?.into_slice::<f32>(op)?);
        let y = &mut y[token * rows..][..rows];
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

/// Finds the rows whose products with `x` can be among the `wanted` largest. False where the bounds say nothing.
fn candidates(guessed: &[f32], errors: &[f32], x: &[f32], wanted: usize, ids: &mut Vec<u32>) -> bool {
    ids.clear();
    let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    // Rounded up; the last term is what products lose that are too small to be normal.
    let (length, tiny) = ((squares.sqrt() * (1.0 + 1e-6)) as f32, x.len() as f32 * 1e-44);
    let bound = |guess: f32, error: f32| error * length * (1.0 + 1e-6) + guess.abs() * 2e-7 + tiny;
    let (mut largest, mut finite, mut threshold) = (Vec::with_capacity(2 * wanted), true, f32::NEG_INFINITY);
    for (&guess, &error) in guessed.iter().zip(errors) {
        let bound = bound(guess, error);
        finite &= guess.abs() + bound < f32::MAX;
        let at_least = guess - bound;
        if at_least > threshold {
            largest.push(at_least);
            if largest.len() == 2 * wanted {
                threshold = keep_largest(&mut largest, wanted);
            }
        }
    }
    if !finite || wanted == 0 || largest.len() < wanted {
        return false;
    }
    threshold = keep_largest(&mut largest, wanted);
    for (id, (&guess, &error)) in (0..).zip(guessed.iter().zip(errors)) {
        if guess + bound(guess, error) >= threshold {
            ids.push(id);
        }
    }
    true
}

/// Drops all but the `n` largest and returns the least of them.
fn keep_largest(values: &mut Vec<f32>, n: usize) -> f32 {
    let least = *values.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a)).1;
    values.truncate(n);
    least
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, random::Rng};
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
        let data: Vec<u8> = values.iter().flat_map(|&w| math::f32_to_f16(w).to_le_bytes()).collect();
        let data = Tensor::from_slice(device, [data.len()], &data).unwrap();
        x.iter_mut().step_by(37).for_each(|x| *x *= 50.0);
        let x = Tensor::from_slice(device, [tokens, cols], &x).unwrap();
        (PackedTensor::stored(Format::F16, rows, cols, data).unwrap(), x)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_largest_products_are_those_of_the_matrix(
            (rows, blocks, seed) in (1usize..3000, 1usize..6, any::<u64>()),
            wanted in prop::collection::vec(1usize..60, 1..4),
        ) {
            let device = Device::open("cpu", Some(2)).unwrap();
            let (weight, x) = operands(&device, rows, 32 * blocks, wanted.len(), seed);
            let expected = matmul_t(&x, &weight).unwrap().to_vec::<f32>().unwrap();
            let screen = Screen::of(&weight).unwrap();
            let got = largest_products(&x, &weight, &screen, &wanted).unwrap().to_vec::<f32>().unwrap();
            for ((got, expected), &wanted) in got.chunks(rows).zip(expected.chunks(rows)).zip(&wanted) {
                let mut order: Vec<usize> = (0..rows).collect();
                order.sort_by(|&a, &b| expected[b].total_cmp(&expected[a]));
                let least = expected[order[wanted.min(rows) - 1]];
                for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
                    let same = got.to_bits() == expected.to_bits();
                    prop_assert!(same || (*got == f32::MIN && *expected < least), "row {row}: {got}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn few_rows_are_computed_twice() {
        let device = Device::open("cpu", Some(1)).unwrap();
        let (weight, x) = operands(&device, 20_000, 256, 1, 3);
        let got = largest_products(&x, &weight, &Screen::of(&weight).unwrap(), &[40]).unwrap();
        let computed = got.to_vec::<f32>().unwrap().iter().filter(|y| **y != f32::MIN).count();
        assert!((40..1000).contains(&computed), "{computed}");
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
        let weight = weight(0x3c00);
        let screen = Screen::of(&weight).unwrap();
        for value in [f32::NAN, f32::INFINITY, 3e38] {
            let mut x = [0.5f32; 32];
            x[3] = value;
            let x = Tensor::from_slice(&device, [1, 32], &x).unwrap();
            let bits = |y: Tensor| y.to_vec::<f32>().unwrap().iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            let got = largest_products(&x, &weight, &screen, &[1]).unwrap();
            assert_eq!(bits(got), bits(matmul_t(&x, &weight).unwrap()));
        }
    }
}
