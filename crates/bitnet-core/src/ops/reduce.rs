//! Sums, products, extremes and truths over dimensions.
//!
//! A float reduction goes by blocks of [`BLOCK`] elements, each in sixteen lanes and a tree; the results of the blocks are reduced
//! in the same way. The order depends on the number of elements alone, whatever their strides and however many threads there are.

use crate::{Axes, Bool, DType, Error, Result, Shape, Tensor, autograd::record, lanes::Lanes, math::LANES};

/// Elements that one pass reduces.
pub const BLOCK: usize = 4096;
/// Columns that are reduced side by side.
pub const COLUMNS: usize = 256;

/// What a reduction makes of many elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// Their sum; of integers and truths as int64.
    Sum,
    /// Their product; of integers and truths as int64.
    Prod,
    /// Sum of the squared distances from the mean, of floats.
    Deviations,
    /// The smallest; NaN where there is one.
    Min,
    /// The largest; NaN where there is one.
    Max,
    /// Index of the first smallest one, or of the first NaN, as int64.
    ArgMin,
    /// Index of the first largest one, or of the first NaN, as int64.
    ArgMax,
    /// Whether one of them is not zero.
    Any,
    /// Whether none of them is zero.
    All,
}

impl Reduce {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Sum,
        Self::Prod,
        Self::Deviations,
        Self::Min,
        Self::Max,
        Self::ArgMin,
        Self::ArgMax,
        Self::Any,
        Self::All,
    ];

    /// Name, as the method of [`Tensor`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Deviations => "deviations",
            Self::Min => "min",
            Self::Max => "max",
            Self::ArgMin => "argmin",
            Self::ArgMax => "argmax",
            Self::Any => "any",
            Self::All => "all",
        }
    }

    /// Type of the result over elements of `dtype`.
    pub const fn result(self, dtype: DType) -> DType {
        match self {
            Self::Sum | Self::Prod if dtype.is_float() => dtype,
            Self::Sum | Self::Prod | Self::ArgMin | Self::ArgMax => DType::I64,
            Self::Min | Self::Max | Self::Deviations => dtype,
            Self::Any | Self::All => DType::Bool,
        }
    }

    /// Whether there is a result over no elements.
    const fn has_identity(self) -> bool {
        matches!(self, Self::Sum | Self::Prod | Self::Deviations | Self::Any | Self::All)
    }
}

/// How two numbers become one, alone and by lanes.
trait Fold {
    /// What changes nothing.
    const START: f32;

    fn numbers(a: f32, b: f32) -> f32;

    fn lanes<L: Lanes>(a: L, b: L) -> L;
}

struct Sum;

impl Fold for Sum {
    const START: f32 = 0.0;

    #[inline(always)]
    fn numbers(a: f32, b: f32) -> f32 {
        a + b
    }

    #[inline(always)]
    fn lanes<L: Lanes>(a: L, b: L) -> L {
        a.add(b)
    }
}

struct Prod;

impl Fold for Prod {
    const START: f32 = 1.0;

    #[inline(always)]
    fn numbers(a: f32, b: f32) -> f32 {
        a * b
    }

    #[inline(always)]
    fn lanes<L: Lanes>(a: L, b: L) -> L {
        a.mul(b)
    }
}

/// The smaller one; NaN once there was one.
struct Min;

impl Fold for Min {
    const START: f32 = f32::INFINITY;

    #[inline(always)]
    fn numbers(a: f32, b: f32) -> f32 {
        if b < a || b.is_nan() { b } else { a }
    }

    #[inline(always)]
    fn lanes<L: Lanes>(a: L, b: L) -> L {
        a.min(b).or_nan(b)
    }
}

/// The larger one; NaN once there was one.
struct Max;

impl Fold for Max {
    const START: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn numbers(a: f32, b: f32) -> f32 {
        if b > a || b.is_nan() { b } else { a }
    }

    #[inline(always)]
    fn lanes<L: Lanes>(a: L, b: L) -> L {
        a.max(b).or_nan(b)
    }
}

/// One number of sixteen, as a fixed tree.
#[inline(always)]
fn tree(lanes: &[f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = *lanes;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
    }
    lanes[0]
}

/// As [`tree`] of many columns side by side.
#[inline(always)]
fn tree_columns<L: Lanes, F: Fold>(lanes: &mut [[f32; COLUMNS]; LANES], y: &mut [f32]) {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            fold_row::<L, F>(&mut low[..y.len()], &high[..y.len()]);
        }
    }
    y.copy_from_slice(&lanes[0][..y.len()]);
}

/// `lanes[i % 16] = f(lanes[i % 16], x[i])`.
#[inline(always)]
fn lanes(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], chunk[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane = f(*lane, x);
    }
    lanes
}

#[inline(always)]
fn fold<F: Fold>(x: &[f32]) -> f32 {
    tree(&lanes(x, F::START, F::numbers), F::numbers)
}

/// Sum, product or extreme of a block, of at most [`BLOCK`] elements.
#[inline(always)]
pub fn block(op: Reduce, x: &[f32]) -> f32 {
    match op {
        Reduce::Sum => fold::<Sum>(x),
        Reduce::Prod => fold::<Prod>(x),
        Reduce::Min => fold::<Min>(x),
        Reduce::Max => fold::<Max>(x),
        _ => unreachable!("indices and truths are not folded"),
    }
}

/// Rows from the one that is folded to the one that is asked for.
const ROWS_AHEAD: usize = 4;

#[inline(always)]
fn fold_columns<L: Lanes, F: Fold>(x: &[f32], stride: usize, y: &mut [f32]) {
    let mut lanes = [[F::START; COLUMNS]; LANES];
    for (i, row) in x.chunks(stride).enumerate() {
        let row = &row[..y.len()];
        for line in row.chunks(LANES) {
            L::prefetch(line.as_ptr().wrapping_add(ROWS_AHEAD * stride).cast());
        }
        fold_row::<L, F>(&mut lanes[i % LANES][..y.len()], row);
    }
    tree_columns::<L, F>(&mut lanes, y);
}

/// Folds every number of a row into its lane.
#[inline(always)]
fn fold_row<L: Lanes, F: Fold>(lanes: &mut [f32], x: &[f32]) {
    let ((lanes, few), (x, last)) = (lanes.as_chunks_mut(), x.as_chunks());
    for (lanes, x) in lanes.iter_mut().zip(x) {
        *lanes = F::lanes(L::load(lanes), L::load(x)).to_array();
    }
    for (lane, &x) in few.iter_mut().zip(last) {
        *lane = F::numbers(*lane, x);
    }
}

/// As [`block`] of at most [`COLUMNS`] columns, whose rows lie `stride` elements apart.
#[inline(always)]
pub(crate) fn block_columns<L: Lanes>(op: Reduce, x: &[f32], stride: usize, y: &mut [f32]) {
    match op {
        Reduce::Sum => fold_columns::<L, Sum>(x, stride, y),
        Reduce::Prod => fold_columns::<L, Prod>(x, stride, y),
        Reduce::Min => fold_columns::<L, Min>(x, stride, y),
        Reduce::Max => fold_columns::<L, Max>(x, stride, y),
        _ => unreachable!("indices and truths are not folded"),
    }
}

/// Sums of squared distances of at most [`BLOCK`] rows from the means of at most [`COLUMNS`] columns, in the order of [`block`]. Rows lie
/// `stride` elements apart.
#[inline(always)]
pub(crate) fn deviations<L: Lanes>(x: &[f32], stride: usize, means: &[f32], y: &mut [f32]) {
    if let ([mean], [y], 1) = (means, &mut *y, stride) {
        *y = tree(&lanes(x, 0.0, |sum, x| sum + (x - mean) * (x - mean)), |a, b| a + b);
        return;
    }
    let mut lanes = [[0.0; COLUMNS]; LANES];
    for (i, row) in x.chunks(stride).enumerate() {
        for ((lane, &x), &mean) in lanes[i % LANES].iter_mut().zip(row).zip(means) {
            *lane += (x - mean) * (x - mean);
        }
    }
    tree_columns::<L, Sum>(&mut lanes, y);
}

/// The elements `x[outer, .., inner]` of `[.., n, width]`.
fn line<T: Copy>(x: &[T], n: usize, width: usize, item: usize) -> impl Iterator<Item = T> + Clone + '_ {
    let (outer, inner) = (item / width, item % width);
    (0..n).map(move |i| x[(outer * n + i) * width + inner])
}

/// Sum or product of integers: `x: [outer, n, width]`, `y: [outer, width]`.
pub(crate) fn integers<T: Copy + Into<i64>>(op: Reduce, x: &[T], n: usize, width: usize, y: &mut [i64]) {
    for (item, y) in y.iter_mut().enumerate() {
        let line = line(x, n, width, item).map(Into::into);
        *y = match op {
            Reduce::Prod => line.fold(1, i64::wrapping_mul),
            _ => line.fold(0, i64::wrapping_add),
        };
    }
}

/// Extremes of integers: `x: [outer, n, width]`, `y: [outer, width]`, n > 0.
pub(crate) fn extremes<T: Copy + Ord + Default>(op: Reduce, x: &[T], n: usize, width: usize, y: &mut [T]) {
    for (item, y) in y.iter_mut().enumerate() {
        let line = line(x, n, width, item);
        let found = if op == Reduce::Min { line.min() } else { line.max() };
        *y = found.unwrap_or_default();
    }
}

/// Indices of extremes: `x: [outer, n, width]`, `y: [outer, width]`, n > 0.
#[expect(clippy::eq_op, reason = "only NaN differs from itself")]
pub(crate) fn indices<T: Copy + PartialOrd>(op: Reduce, x: &[T], n: usize, width: usize, y: &mut [i64]) {
    for (item, y) in y.iter_mut().enumerate() {
        let mut best: Option<(usize, T)> = None;
        for (i, x) in line(x, n, width, item).enumerate() {
            let better = |b: T| if op == Reduce::ArgMin { x < b } else { x > b };
            if best.is_none_or(|(_, b)| b == b && (better(b) || x != x)) {
                best = Some((i, x));
            }
        }
        *y = best.map_or(0, |(i, _)| i as i64);
    }
}

/// Whether elements are not zero: `x: [outer, n, width]`, `y: [outer, width]`.
pub(crate) fn truths<T: Copy + Default + PartialEq>(
    op: Reduce,
    x: &[T],
    n: usize,
    width: usize,
    y: &mut [Bool],
) {
    for (item, y) in y.iter_mut().enumerate() {
        let mut line = line(x, n, width, item);
        let zero = T::default();
        *y = Bool::from(if op == Reduce::Any { line.any(|x| x != zero) } else { line.all(|x| x != zero) });
    }
}

/// `op` over the dimensions `axes`, which become 1 with `keepdim` and go otherwise.
///
/// # Errors
/// Where a dimension does not exist, an extreme of nothing is asked for, or the device fails.
pub fn reduce(op: Reduce, x: &Tensor, axes: &Axes, keepdim: bool) -> Result<Tensor> {
    let name = op.name();
    if op == Reduce::Deviations && !x.dtype().is_float() {
        return Err(Error::DType { op: name, expected: DType::F32, got: x.dtype() });
    }
    let axes = axes.resolve(name, x.shape().rank())?;
    let kept = axes.iter().fold(x.shape(), |shape, &axis| shape.with(axis, 1));
    let n: usize = axes.iter().map(|&axis| x.dims()[axis]).product();
    if n == 0 && !op.has_identity() {
        let reason = format!("there is no {name} of no elements; the shape is {}", x.shape());
        return Err(Error::Argument { op: name, reason });
    }
    let y = folded(op, &x.detach(), &axes, n)?.into_shape(kept)?;
    let result = y.detach();
    let y = if op.result(x.dtype()).is_float() {
        record(y, [x], || {
            let x = x.detach();
            move |g: &Tensor| Ok([Some(vjp(op, g, &x, &result)?)])
        })
    } else {
        y
    };
    if keepdim { Ok(y) } else { y.reshape(without(kept, &axes)) }
}

/// A shape without some of its dimensions.
fn without(shape: Shape, axes: &[usize]) -> Shape {
    axes.iter().rev().fold(shape, |shape, &axis| shape.without(axis))
}

/// The reduction itself, of whatever shape.
fn folded(op: Reduce, x: &Tensor, axes: &[usize], n: usize) -> Result<Tensor> {
    let dims = x.dims();
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let (x, outer, width) = match (axes.first(), axes.last()) {
        (Some(&first), Some(&last)) if last - first + 1 == axes.len() => {
            (x.contiguous()?, product(&dims[..first]), product(&dims[last + 1..]))
        }
        _ => {
            let others: Vec<usize> = (0..dims.len()).filter(|i| !axes.contains(i)).collect();
            let outer = others.iter().map(|&i| dims[i]).product();
            (x.permute(&[&others[..], axes].concat())?.contiguous()?, outer, 1)
        }
    };
    run(op, &x.reshape([outer, n, width])?)
}

/// `x: [outer, n, width]` to `[outer, width]`; halves and brain floats by way of f32.
fn run(op: Reduce, x: &Tensor) -> Result<Tensor> {
    let name = op.name();
    let (dtype, result) = (x.dtype(), op.result(x.dtype()));
    let wide = dtype.is_float() && dtype != DType::F32;
    let x = if wide { x.to_dtype(DType::F32)? } else { x.clone() };
    let [outer, _, width] = x.dims()[..] else { unreachable!("three dimensions") };
    let mut y = Tensor::empty(x.device(), [outer, width], op.result(x.dtype()))?;
    x.device().backend().reduce(op, x.view(), y.view_mut(name)?)?;
    y.to_dtype(result)
}

/// Gradient by `x` of its reduction `y`, which keeps its dimensions, as `g` does.
fn vjp(op: Reduce, g: &Tensor, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let spread = g.broadcast_to(x.shape())?;
    match op {
        Reduce::Sum => spread.contiguous(),
        Reduce::Prod => spread.mul(&others_product(x, y)?),
        Reduce::Deviations => {
            let count = x.shape().len() / y.shape().len().max(1);
            let means = x.sum_to(y.shape())?.div_scalar(count as f64)?;
            spread.mul(&x.sub(&means)?)?.mul_scalar(2.0)
        }
        _ => {
            let ours = x.eq(&y.broadcast_to(x.shape())?)?.to_dtype(g.dtype())?;
            let count = ours.sum_to(y.shape())?;
            spread.mul(&ours)?.div(&count)
        }
    }
}

/// For each element the product of the others of its line.
fn others_product(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let zero = x.eq_scalar(0.0)?;
    let ones = x.ones_like()?;
    let axes: Vec<isize> =
        (0..x.shape().rank()).filter(|&i| y.dims()[i] != x.dims()[i]).map(|i| i as isize).collect();
    let product = zero.where_cond(&ones, x)?.prod(axes.as_slice(), true)?;
    let zeros = zero.to_dtype(x.dtype())?.sum(axes.as_slice(), true)?;
    let none = zeros.eq_scalar(0.0)?.where_cond(&product, &product.zeros_like()?)?;
    let one = zeros.eq_scalar(1.0)?.where_cond(&product, &product.zeros_like()?)?;
    zero.where_cond(&one, &none.div(x)?)
}
