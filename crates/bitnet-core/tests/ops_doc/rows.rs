//! The tensor ops, and how each is tried.

use super::creation::creation;
use super::decoder::{decoder, training};
use bitnet_core::{DType, Device, Result, Tensor, ops};

/// The sections of the page.
pub fn sections() -> [(&'static str, Vec<Op>); 9] {
    [
        ("Creation", creation()),
        ("Element by element", elementwise()),
        ("With a number", with_a_number()),
        ("In place", in_place()),
        ("Along dimensions", along_dimensions()),
        ("Products", products()),
        ("Views", views()),
        ("Of the decoder", decoder()),
        ("Of training", training()),
    ]
}

/// What an op does to a tensor of two by two elements.
pub type Run = dyn Fn(&Tensor) -> Result<Tensor>;

/// An op under its name, on a tensor of two by two elements.
pub struct Op {
    pub name: String,
    pub means: &'static str,
    pub run: Box<Run>,
    /// Whether its products are those of the crate gemm, which chooses its instructions itself.
    pub library: bool,
}

impl Op {
    /// Whether it takes elements of this type.
    pub fn takes(&self, dtype: DType) -> bool {
        let device = Device::open("cpu/scalar", Some(1)).unwrap();
        (self.run)(&Tensor::ones(&device, [2, 2], dtype).unwrap()).is_ok()
    }
}

pub fn op(
    name: impl Into<String>,
    means: &'static str,
    run: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Op {
    Op { name: name.into(), means, run: Box::new(run), library: false }
}

fn indices(x: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(x.device(), [2], &[1i64, 0])
}

fn square_of_indices(x: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(x.device(), [2, 2], &[1i64, 0, 0, 1])
}

fn elementwise() -> Vec<Op> {
    let unary = ops::Unary::ALL.map(|kind| op(kind.name(), "of one element", move |x| ops::unary(kind, x)));
    let binary = ops::Binary::ALL.map(|kind| {
        op(kind.name(), "of two elements, broadcast", move |x| ops::binary(kind, x, &x.ones_like()?))
    });
    let compare = ops::Compare::ALL
        .map(|kind| op(kind.name(), "truth of two elements, broadcast", move |x| ops::compare(kind, x, x)));
    let logical = ops::Logical::ALL
        .map(|kind| op(kind.name(), "of two truths, broadcast", move |x| ops::logical(kind, x, x)));
    let others = [
        op("logical_not", "of one truth", Tensor::logical_not),
        op("is_nan", "truth of one element", Tensor::is_nan),
        op("is_finite", "truth of one element", Tensor::is_finite),
        op("where_cond", "a choice by truths, broadcast", |x| x.eq(x)?.where_cond(x, x)),
        op("select", "as `where_cond`, by a function", |x| ops::select(&x.eq(x)?, x, x)),
        op("to_dtype", "another element type", |x| {
            x.to_dtype(if x.dtype() == DType::F16 { DType::F32 } else { DType::F16 })
        }),
        op("copy", "contiguous rows of its own", Tensor::copy),
        op("contiguous", "contiguous rows, a copy only where they are strided", |x| x.t()?.contiguous()),
        op("to_device", "a copy on a device", |x| x.to_device(&Device::open("cpu/scalar", Some(1))?)),
    ];
    unary.into_iter().chain(binary).chain(compare).chain(logical).chain(others).collect()
}

type WithNumber = fn(&Tensor, f64) -> Result<Tensor>;
type Assign = fn(&mut Tensor, &Tensor) -> Result<()>;
type AssignNumber = fn(&mut Tensor, f64) -> Result<()>;

/// With one number for all elements.
fn with_a_number() -> Vec<Op> {
    let numbers: [(&str, WithNumber); 15] = [
        ("add_scalar", Tensor::add_scalar),
        ("sub_scalar", Tensor::sub_scalar),
        ("mul_scalar", Tensor::mul_scalar),
        ("div_scalar", Tensor::div_scalar),
        ("floor_div_scalar", Tensor::floor_div_scalar),
        ("rem_scalar", Tensor::rem_scalar),
        ("pow_scalar", Tensor::pow_scalar),
        ("minimum_scalar", Tensor::minimum_scalar),
        ("maximum_scalar", Tensor::maximum_scalar),
        ("eq_scalar", Tensor::eq_scalar),
        ("ne_scalar", Tensor::ne_scalar),
        ("lt_scalar", Tensor::lt_scalar),
        ("le_scalar", Tensor::le_scalar),
        ("gt_scalar", Tensor::gt_scalar),
        ("ge_scalar", Tensor::ge_scalar),
    ];
    numbers.map(|(name, run)| op(name, "of each element and a number", move |x| run(x, 1.0))).into()
}

fn in_place() -> Vec<Op> {
    let assign: [(&str, Assign); 4] = [
        ("add_assign", Tensor::add_assign),
        ("sub_assign", Tensor::sub_assign),
        ("mul_assign", Tensor::mul_assign),
        ("div_assign", Tensor::div_assign),
    ];
    let assigned = |run: Assign, x: &Tensor| {
        let mut y = x.copy()?;
        run(&mut y, &x.ones_like()?).map(|()| y)
    };
    let with_number: [(&str, AssignNumber); 4] = [
        ("add_scalar_assign", Tensor::add_scalar_assign),
        ("sub_scalar_assign", Tensor::sub_scalar_assign),
        ("mul_scalar_assign", Tensor::mul_scalar_assign),
        ("div_scalar_assign", Tensor::div_scalar_assign),
    ];
    let with_number = with_number.map(|(name, run)| {
        op(name, "with a number", move |x| {
            let mut y = x.copy()?;
            run(&mut y, 1.0).map(|()| y)
        })
    });
    let assign =
        assign.map(|(name, run)| op(name, "with another tensor, broadcast", move |x| assigned(run, x)));
    assign.into_iter().chain(with_number).collect()
}

fn along_dimensions() -> Vec<Op> {
    let reduce = ops::Reduce::ALL
        .map(|kind| op(kind.name(), "over any dimensions", move |x| ops::reduce(kind, x, &1.into(), false)));
    let others = [
        op("mean", "over any dimensions", |x| x.mean(1, false)),
        op("var", "over any dimensions", |x| x.var(1, 0, false)),
        op("std", "over any dimensions", |x| x.std(1, 0, false)),
        op("sum_to", "over what a broadcast repeated", |x| x.sum_to([1, 2])),
        op("logsumexp", "over any dimensions", |x| x.logsumexp(1, false)),
        op("norm", "of order p, over any dimensions", |x| x.norm(2.0, 1, false)),
        op("cumsum", "along a dimension", |x| x.cumsum(0)),
        op("softmax", "along a dimension", |x| x.softmax(0)),
        op("log_softmax", "along a dimension", |x| x.log_softmax(0)),
        op("sort", "along a dimension, and where the elements were", |x| Ok(x.sort(0, false)?.0)),
        op("argsort", "along a dimension", |x| x.argsort(0, false)),
        op("topk", "along a dimension, and where the elements were", |x| Ok(x.topk(1, 0, true)?.0)),
        op("index_select", "entries of a dimension", |x| x.index_select(0, &indices(x)?)),
        op("gather", "elements by index along a dimension", |x| x.gather(0, &square_of_indices(x)?)),
        op("scatter_add", "added by index along a dimension", |x| {
            x.scatter_add(0, &square_of_indices(x)?, x)
        }),
        op("concat", "along a dimension", |x| ops::concat(&[x, x], 0)),
        op("stack", "along a new dimension", |x| ops::stack(&[x, x], 0)),
        op("flip", "along a dimension", |x| x.flip(0)),
        op("tril", "of the last two dimensions", |x| x.tril(0)),
        op("triu", "of the last two dimensions", |x| x.triu(0)),
    ];
    reduce.into_iter().chain(others).collect()
}

/// An op whose products are those of the crate gemm.
pub fn library(op: Op) -> Op {
    Op { library: true, ..op }
}

fn products() -> Vec<Op> {
    vec![
        library(op("matmul", "of matrices and vectors, batched", |x| x.matmul(x))),
        library(op("einsum", "sums of products by letters", |x| ops::einsum("ij,jk->ik", &[x, x]))),
        library(op("dot", "of two vectors", |x| x.at(0, 0)?.dot(&x.at(0, 1)?))),
        op("outer", "of two vectors", |x| x.at(0, 0)?.outer(&x.at(0, 1)?)),
    ]
}

fn views() -> Vec<Op> {
    vec![
        op("reshape", "without a copy", |x| x.reshape([4])),
        op("flatten", "without a copy", |x| x.flatten(0, 1)),
        op("permute", "without a copy", |x| x.permute(&[1, 0])),
        op("transpose", "without a copy", |x| x.transpose(0, 1)),
        op("narrow", "without a copy", |x| x.narrow(0, 0, 1)),
        op("slice", "without a copy", |x| x.slice(0, 0, 2, 2)),
        op("t", "without a copy", Tensor::t),
        op("at", "without a copy", |x| x.at(0, 1)),
        op("squeeze", "without a copy", |x| x.narrow(0, 0, 1)?.squeeze(0)),
        op("unsqueeze", "without a copy", |x| x.unsqueeze(0)),
        op("broadcast_to", "without a copy", |x| x.broadcast_to([3, 2, 2])),
        op("diagonal", "without a copy", |x| x.diagonal(0, 1)),
        op("into_shape", "without a copy", |x| x.clone().into_shape([4])),
        op("to_bytes_view", "without a copy", Tensor::to_bytes_view),
        op("split", "without a copy", |x| Ok(x.split(0, &[1, 1])?.remove(1))),
    ]
}
