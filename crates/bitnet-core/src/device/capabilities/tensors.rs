//! How the ops of tensors are tried; one op stands for all of its kind.

use super::{Op, Operand, Operands};
use crate::{
    DType, Device, Result, Tensor,
    device::Task,
    ops::{self, Binary, Compare, Logical, Unary},
};

const TRAINING: &[Task] = &[Task::Training];

/// An op that is tried with every type of elements.
const fn op(name: &'static str, tasks: &'static [Task], run: fn(&Device, Operand) -> Result<()>) -> Op {
    Op { name, tasks, operands: Operands::Types, run }
}

pub(super) const OPS: [Op; 16] = [
    op("copy", TRAINING, |device, operand| zeros(device, operand)?.copy().map(drop)),
    op("cast", TRAINING, |device, operand| zeros(device, operand)?.to_dtype(other(operand)).map(drop)),
    op("unary", TRAINING, |device, operand| ops::unary(Unary::Neg, &zeros(device, operand)?).map(drop)),
    op("binary", TRAINING, |device, operand| {
        ops::binary(Binary::Mul, &zeros(device, operand)?, &zeros(device, operand)?).map(drop)
    }),
    op("binary_assign", TRAINING, |device, operand| {
        ops::binary_assign(Binary::Mul, &mut zeros(device, operand)?, &zeros(device, operand)?)
    }),
    op("compare", &[], |device, operand| {
        ops::compare(Compare::Eq, &zeros(device, operand)?, &zeros(device, operand)?).map(drop)
    }),
    op("logical", &[], |device, operand| {
        ops::logical(Logical::And, &zeros(device, operand)?, &zeros(device, operand)?).map(drop)
    }),
    op("select", &[], |device, operand| {
        let condition = Tensor::zeros(device, SHAPE, DType::Bool)?;
        ops::select(&condition, &zeros(device, operand)?, &zeros(device, operand)?).map(drop)
    }),
    op("reduce", TRAINING, |device, operand| zeros(device, operand)?.sum(1, false).map(drop)),
    op("cumsum", &[], |device, operand| zeros(device, operand)?.cumsum(1).map(drop)),
    op("softmax", TRAINING, |device, operand| zeros(device, operand)?.softmax(1).map(drop)),
    op("sort", &[], |device, operand| zeros(device, operand)?.sort(1, false).map(drop)),
    op("index_select", &[], |device, operand| {
        zeros(device, operand)?.index_select(1, &Tensor::zeros(device, [1], DType::I64)?).map(drop)
    }),
    op("gather", &[], |device, operand| {
        zeros(device, operand)?.gather(1, &Tensor::zeros(device, SHAPE, DType::I64)?).map(drop)
    }),
    op("scatter_add", TRAINING, |device, operand| {
        let ids = Tensor::zeros(device, SHAPE, DType::I64)?;
        zeros(device, operand)?.scatter_add(1, &ids, &zeros(device, operand)?).map(drop)
    }),
    op("matmul", TRAINING, |device, operand| {
        zeros(device, operand)?.matmul(&zeros(device, operand)?).map(drop)
    }),
];

const SHAPE: [usize; 2] = [4, 4];

fn zeros(device: &Device, operand: Operand) -> Result<Tensor> {
    Tensor::zeros(device, SHAPE, operand.elements())
}

/// A type that is not that of the operand.
fn other(operand: Operand) -> DType {
    if operand.elements() == DType::F32 { DType::F16 } else { DType::F32 }
}
