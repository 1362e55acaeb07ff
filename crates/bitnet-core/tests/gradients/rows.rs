//! The tensor ops, each beside its function in f64.

use crate::array::Array;
use bitnet_core::{
    DType, Device, Result, Tensor,
    ops::{self, Binary, Reduce, Unary},
};

type Op = dyn Fn(&[Tensor]) -> Result<Tensor>;
type Exact = dyn Fn(&[Array]) -> Array;

/// An op beside its function.
pub struct Row {
    /// As on `docs/ops.md`.
    pub name: &'static str,
    /// Extents and range of each operand.
    pub operands: Vec<(Vec<usize>, [f64; 2])>,
    pub op: Box<Op>,
    pub exact: Box<Exact>,
}

pub fn row<const N: usize>(
    name: &'static str,
    operands: [(&[usize], [f64; 2]); N],
    op: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    exact: impl Fn(&[Array]) -> Array + 'static,
) -> Row {
    let operands = operands.map(|(dims, range)| (dims.to_vec(), range)).into();
    Row { name, operands, op: Box::new(op), exact: Box::new(exact) }
}

pub const ANY: [f64; 2] = [-1.9, 1.9];
const POSITIVE: [f64; 2] = [0.3, 2.1];
/// What a first operand in `ANY` begins with: without it there is a zero.
const FIRST: f64 = 0.453125;

fn unary(kind: Unary, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match kind {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => x.signum(),
        Unary::Square => x * x,
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Recip => 1.0 / x,
        Unary::Exp => x.exp(),
        Unary::ExpM1 => x.exp() - 1.0,
        Unary::Log => x.ln(),
        Unary::Log1P => (1.0 + x).ln(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tanh => x.tanh(),
        Unary::Erf => libm::erf(x),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round(),
        Unary::Trunc => x.trunc(),
        Unary::Relu => x.max(0.0),
        Unary::Relu2 => x.max(0.0).powi(2),
        Unary::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        Unary::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Unary::Silu => x * sigmoid,
        Unary::Sigmoid => sigmoid,
        Unary::Softplus => (1.0 + x.exp()).ln(),
        Unary::LeakyRelu(slope) => x.max(0.0) + f64::from(slope) * x.min(0.0),
        Unary::Clamp(low, high) => x.clamp(f64::from(low), f64::from(high)),
    }
}

fn binary(kind: Binary, a: f64, b: f64) -> f64 {
    match kind {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::FloorDiv => (a / b).floor(),
        Binary::Rem => a - (a / b).floor() * b,
        Binary::Pow => a.powf(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
    }
}

pub fn elementwise() -> Vec<Row> {
    let defined_on = |kind| match kind {
        Unary::Sqrt | Unary::Rsqrt | Unary::Recip | Unary::Log | Unary::Log1P => POSITIVE,
        _ => ANY,
    };
    let unaries = Unary::ALL.map(|kind| {
        let operands = [(&[3, 7][..], defined_on(kind))];
        row(kind.name(), operands, move |x| ops::unary(kind, &x[0]), move |x| x[0].map(|x| unary(kind, x)))
    });
    let binaries = Binary::ALL.map(|kind| {
        let first = if kind == Binary::Pow { POSITIVE } else { ANY };
        let operands = [(&[3, 5][..], first), (&[3, 1][..], POSITIVE)];
        let exact = move |x: &[Array]| x[0].zip(&x[1], |a, b| binary(kind, a, b));
        row(kind.name(), operands, move |x| ops::binary(kind, &x[0], &x[1]), exact)
    });
    let scalars = scalars().map(|(name, kind, op)| {
        let first = if kind == Binary::Pow { POSITIVE } else { ANY };
        let exact = move |x: &[Array]| x[0].map(|x| binary(kind, x, NUMBER));
        row(name, [(&[3, 5][..], first)], move |x| op(&x[0], NUMBER), exact)
    });
    let pair = [(&[4, 5][..], ANY), (&[5], ANY)];
    let others = [
        row("select", pair, |x| ops::select(&x[0].gt(&x[1])?, &x[1], &x[0]), |x| x[0].zip(&x[1], f64::min)),
        row(
            "to_device",
            [(&[3, 4], ANY)],
            |x| x[0].to_device(&Device::open("cpu/scalar", Some(1))?)?.square()?.to_device(x[0].device()),
            |x| x[0].map(|x| x * x),
        ),
        row("where_cond", pair, |x| x[0].gt(&x[1])?.where_cond(&x[1], &x[0]), |x| x[0].zip(&x[1], f64::min)),
        row(
            "sub",
            [(&[3, 4], ANY)],
            |x| x[0].sub(&x[0].mean(0, true)?)?.mul(&x[0]),
            |x| x[0].lines(0, |x| x.iter().map(|v| (v - mean(x)) * v).collect()),
        ),
        row(
            "to_dtype",
            [(&[3, 4], ANY)],
            |x| x[0].to_dtype(DType::F16)?.to_dtype(DType::F32),
            |x| x[0].clone(),
        ),
        row("copy", [(&[3, 4], ANY)], |x| x[0].copy(), |x| x[0].clone()),
    ];
    unaries.into_iter().chain(binaries).chain(scalars).chain(others).collect()
}

/// Beside which no operand in steps of 1/64 lies on an edge.
const NUMBER: f64 = 0.75;

type WithNumber = fn(&Tensor, f64) -> Result<Tensor>;

fn scalars() -> [(&'static str, Binary, WithNumber); 9] {
    [
        ("add_scalar", Binary::Add, Tensor::add_scalar),
        ("sub_scalar", Binary::Sub, Tensor::sub_scalar),
        ("mul_scalar", Binary::Mul, Tensor::mul_scalar),
        ("div_scalar", Binary::Div, Tensor::div_scalar),
        ("floor_div_scalar", Binary::FloorDiv, Tensor::floor_div_scalar),
        ("rem_scalar", Binary::Rem, Tensor::rem_scalar),
        ("pow_scalar", Binary::Pow, Tensor::pow_scalar),
        ("minimum_scalar", Binary::Min, Tensor::minimum_scalar),
        ("maximum_scalar", Binary::Max, Tensor::maximum_scalar),
    ]
}

fn sum(x: &[f64]) -> f64 {
    x.iter().sum()
}

fn mean(x: &[f64]) -> f64 {
    sum(x) / x.len() as f64
}

fn deviations(x: &[f64]) -> f64 {
    x.iter().map(|v| (v - mean(x)).powi(2)).sum()
}

fn norm(x: &[f64], p: f64) -> f64 {
    x.iter().map(|v| v.abs().powf(p)).sum::<f64>().powf(1.0 / p)
}

fn logsumexp(x: &[f64]) -> f64 {
    x.iter().map(|v| v.exp()).sum::<f64>().ln()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    x.iter().map(|v| (v - logsumexp(x)).exp()).collect()
}

fn sorted(x: &[f64]) -> Vec<f64> {
    let mut x = x.to_vec();
    x.sort_by(f64::total_cmp);
    x
}

/// What a reduction with a gradient makes of a line.
fn reduction(kind: Reduce) -> Option<fn(&[f64]) -> f64> {
    match kind {
        Reduce::Sum => Some(sum),
        Reduce::Prod => Some(|x| x.iter().product()),
        Reduce::Deviations => Some(deviations),
        Reduce::Min => Some(|x| sorted(x)[0]),
        Reduce::Max => Some(|x| sorted(x)[x.len() - 1]),
        Reduce::ArgMin | Reduce::ArgMax | Reduce::Any | Reduce::All => None,
    }
}

fn reductions() -> Vec<Row> {
    let x = [(&[4, 6][..], ANY)];
    let with_gradient = |kind: Reduce| reduction(kind).map(|f| (kind, f));
    let kinds = Reduce::ALL.into_iter().filter_map(with_gradient).flat_map(|(kind, f)| {
        let whole = move |x: &[Array]| x[0].shaped(&[24]).fold(0, f);
        [
            row(
                kind.name(),
                x,
                move |x| ops::reduce(kind, &x[0], &0.into(), false),
                move |x| x[0].fold(0, f),
            ),
            row(kind.name(), x, move |x| ops::reduce(kind, &x[0], &().into(), false), whole),
        ]
    });
    let others = [
        row(
            "prod",
            x,
            |x| x[0].sub_scalar(FIRST)?.prod(1, false),
            |x| x[0].fold(1, |x| x.iter().map(|v| v - FIRST).product()),
        ),
        row("mean", x, |x| x[0].mean(1, true), |x| x[0].lines(1, |x| vec![mean(x)])),
        row("var", x, |x| x[0].var(1, 1, false), |x| x[0].fold(1, |x| deviations(x) / 5.0)),
        row("std", x, |x| x[0].std(0, 0, false), |x| x[0].fold(0, |x| (deviations(x) / 4.0).sqrt())),
        row("logsumexp", x, |x| x[0].logsumexp(0, false), |x| x[0].fold(0, logsumexp)),
        row("norm", x, |x| x[0].norm(1.0, 1, false), |x| x[0].fold(1, |x| norm(x, 1.0))),
        row("norm", x, |x| x[0].norm(2.0, 1, false), |x| x[0].fold(1, |x| norm(x, 2.0))),
        row("norm", x, |x| x[0].norm(3.0, 0, false), |x| x[0].fold(0, |x| norm(x, 3.0))),
        row(
            "norm",
            x,
            |x| x[0].norm(f64::INFINITY, 1, false),
            |x| x[0].fold(1, |x| x.iter().fold(0.0, |m, v| m.max(v.abs()))),
        ),
    ];
    kinds.chain(others).collect()
}

/// Indices, as a tensor of these extents.
fn ids(like: &Tensor, dims: &[usize], ids: &[i64]) -> Result<Tensor> {
    Tensor::from_slice(like.device(), dims, ids)
}

const CHOSEN: [i64; 3] = [2, 0, 2];
const PLACES: [i64; 6] = [1, 0, 1, 3, 3, 1];

fn place(index: &[usize]) -> usize {
    PLACES[index[0] * 3 + index[1]] as usize
}

fn by_index() -> Vec<Row> {
    let x = (&[4, 3][..], ANY);
    vec![
        row(
            "index_select",
            [x],
            |x| x[0].index_select(1, &ids(&x[0], &[3], &CHOSEN)?),
            |x| x[0].lines(1, |line| CHOSEN.map(|i| line[i as usize]).to_vec()),
        ),
        row(
            "gather",
            [x],
            |x| x[0].gather(0, &ids(&x[0], &[2, 3], &PLACES)?),
            |x| Array::of(&[2, 3], |i| x[0].at(&[place(i), i[1]])),
        ),
        row(
            "scatter_add",
            [x, (&[2, 3], ANY)],
            |x| x[0].scatter_add(0, &ids(&x[0], &[2, 3], &PLACES)?, &x[1]),
            |x| {
                let added = |i: &[usize], from: usize| {
                    if place(&[from, i[1]]) == i[0] { x[1].at(&[from, i[1]]) } else { 0.0 }
                };
                Array::of(&[4, 3], |i| x[0].at(i) + added(i, 0) + added(i, 1))
            },
        ),
    ]
}

pub fn along_dimensions() -> Vec<Row> {
    let x = [(&[4, 5][..], ANY)];
    let pair = [(&[2, 3][..], ANY), (&[2, 3], ANY)];
    let cumsum = |x: &[f64]| (1..=x.len()).map(|n| sum(&x[..n])).collect();
    let lines = [
        row("cumsum", x, |x| x[0].cumsum(1), move |x| x[0].lines(1, cumsum)),
        row("softmax", x, |x| x[0].softmax(0), |x| x[0].lines(0, softmax)),
        row("softmax", x, |x| x[0].softmax(1), |x| x[0].lines(1, softmax)),
        row(
            "log_softmax",
            x,
            |x| x[0].log_softmax(1),
            |x| x[0].lines(1, |x| x.iter().map(|v| v - logsumexp(x)).collect()),
        ),
        row("sort", x, |x| Ok(x[0].sort(0, false)?.0), |x| x[0].lines(0, sorted)),
        row(
            "topk",
            x,
            |x| Ok(x[0].topk(2, 1, true)?.0),
            |x| x[0].lines(1, |x| sorted(x).into_iter().rev().take(2).collect()),
        ),
        row("flip", x, |x| x[0].flip(1), |x| x[0].lines(1, |x| x.iter().rev().copied().collect())),
        row(
            "tril",
            x,
            |x| x[0].tril(1),
            |x| Array::of(&[4, 5], |i| if i[1] <= i[0] + 1 { x[0].at(i) } else { 0.0 }),
        ),
        row(
            "triu",
            x,
            |x| x[0].triu(1),
            |x| Array::of(&[4, 5], |i| if i[1] > i[0] { x[0].at(i) } else { 0.0 }),
        ),
        row(
            "concat",
            pair,
            |x| ops::concat(&[&x[0], &x[1], &x[0]], 1),
            |x| Array::of(&[2, 9], |i| x[i[1] / 3 % 2].at(&[i[0], i[1] % 3])),
        ),
        row(
            "stack",
            pair,
            |x| ops::stack(&[&x[0], &x[1]], 1),
            |x| Array::of(&[2, 2, 3], |i| x[i[1]].at(&[i[0], i[2]])),
        ),
    ];
    reductions().into_iter().chain(by_index()).chain(lines).collect()
}

/// The sum of `f(0), f(1), ..` of `n` indices.
pub fn total(n: usize, f: impl Fn(usize) -> f64) -> f64 {
    (0..n).map(f).sum()
}

pub fn products() -> Vec<Row> {
    let vectors = [(&[5][..], ANY), (&[5], ANY)];
    vec![
        row(
            "matmul",
            [(&[3, 4], ANY), (&[4, 5], ANY)],
            |x| x[0].matmul(&x[1]),
            |x| Array::of(&[3, 5], |i| total(4, |k| x[0].at(&[i[0], k]) * x[1].at(&[k, i[1]]))),
        ),
        row(
            "matmul",
            [(&[2, 3, 4], ANY), (&[4, 2], ANY)],
            |x| x[0].matmul(&x[1]),
            |x| Array::of(&[2, 3, 2], |i| total(4, |k| x[0].at(&[i[0], i[1], k]) * x[1].at(&[k, i[2]]))),
        ),
        row(
            "matmul",
            [(&[3, 4], ANY), (&[4], ANY)],
            |x| x[0].matmul(&x[1]),
            |x| Array::of(&[3], |i| total(4, |k| x[0].at(&[i[0], k]) * x[1].at(&[k]))),
        ),
        row(
            "matmul",
            [(&[3, 4], ANY)],
            |x| x[0].matmul(&x[0].t()?),
            |x| Array::of(&[3, 3], |i| total(4, |k| x[0].at(&[i[0], k]) * x[0].at(&[i[1], k]))),
        ),
        row(
            "einsum",
            [(&[2, 3, 4], ANY), (&[5, 4], ANY)],
            |x| ops::einsum("bij,kj->ik", &[&x[0], &x[1]]),
            |x| {
                let term = |b, i: &[usize], j| x[0].at(&[b, i[0], j]) * x[1].at(&[i[1], j]);
                Array::of(&[3, 5], |i| total(2, |b| total(4, |j| term(b, i, j))))
            },
        ),
        row("dot", vectors, |x| x[0].dot(&x[1]), |x| x[0].zip(&x[1], |a, b| a * b).fold(0, sum)),
        row(
            "outer",
            [(&[3], ANY), (&[4], ANY)],
            |x| x[0].outer(&x[1]),
            |x| Array::of(&[3, 4], |i| x[0].at(&[i[0]]) * x[1].at(&[i[1]])),
        ),
    ]
}

pub fn views() -> Vec<Row> {
    let x = [(&[3, 4][..], ANY)];
    let transposed = |x: &Array| Array::of(&[4, 3], |i| x.at(&[i[1], i[0]]));
    vec![
        row("reshape", x, |x| x[0].reshape([2, 6]), |x| x[0].shaped(&[2, 6])),
        row("flatten", [(&[2, 3, 2], ANY)], |x| x[0].flatten(1, 2), |x| x[0].shaped(&[2, 6])),
        row(
            "permute",
            [(&[2, 3, 4], ANY)],
            |x| x[0].permute(&[2, 0, 1]),
            |x| Array::of(&[4, 2, 3], |i| x[0].at(&[i[1], i[2], i[0]])),
        ),
        row("into_shape", x, |x| x[0].clone().into_shape([2, 6]), |x| x[0].shaped(&[2, 6])),
        row("transpose", x, |x| x[0].transpose(0, 1), move |x| transposed(&x[0])),
        row("t", x, |x| x[0].t(), move |x| transposed(&x[0])),
        row("contiguous", x, |x| x[0].t()?.contiguous(), move |x| transposed(&x[0])),
        row(
            "sum_to",
            [(&[3, 1, 4], ANY)],
            |x| x[0].sum_to([1, 1]),
            |x| x[0].fold(2, sum).fold(0, sum).shaped(&[1, 1]),
        ),
        row("narrow", x, |x| x[0].narrow(1, 1, 2), |x| x[0].lines(1, |x| x[1..3].to_vec())),
        row("slice", x, |x| x[0].slice(1, 1, 4, 2), |x| x[0].lines(1, |x| vec![x[1], x[3]])),
        row(
            "slice",
            x,
            |x| x[0].t()?.slice(0, 0, 4, 2)?.square(),
            move |x| transposed(&x[0]).lines(0, |x| vec![x[0].powi(2), x[2].powi(2)]),
        ),
        row("at", x, |x| x[0].at(0, -1), |x| x[0].fold(0, |x| x[2])),
        row("squeeze", [(&[3, 1, 2], ANY)], |x| x[0].squeeze(1), |x| x[0].shaped(&[3, 2])),
        row("unsqueeze", x, |x| x[0].unsqueeze(1), |x| x[0].shaped(&[3, 1, 4])),
        row(
            "broadcast_to",
            [(&[3, 1], ANY)],
            |x| x[0].broadcast_to([2, 3, 4]),
            |x| Array::of(&[2, 3, 4], |i| x[0].at(&[i[1], 0])),
        ),
        row(
            "diagonal",
            [(&[3, 3, 2], ANY)],
            |x| x[0].diagonal(0, 1),
            |x| Array::of(&[3, 2], |i| x[0].at(&[i[0], i[0], i[1]])),
        ),
        row("split", x, |x| Ok(x[0].split(1, &[1, 3])?.remove(1)), |x| x[0].lines(1, |x| x[1..].to_vec())),
    ]
}
