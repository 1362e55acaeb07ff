//! How the ops of training are tried.

use super::{Op, Operand, Operands};
use crate::{
    DType, Device, Result, Tensor,
    device::Task,
    ops::{self, Adam, Glu},
};

const fn op(name: &'static str, run: fn(&Device, Operand) -> Result<()>) -> Op {
    Op { name, tasks: &[Task::Training], operands: Operands::One(Operand::F32), run }
}

pub(super) const OPS: [Op; 11] = [
    op("rms_norm_backward", |device, _| {
        let weight = zeros(device)?.at(0, 0)?;
        let y = ops::rms_norm(&zeros(device)?.trainable()?, &weight, 1e-5)?;
        y.backward_from(&zeros(device)?).map(drop)
    }),
    op("glu_backward", |device, _| {
        [Glu::Relu2, Glu::Silu].into_iter().try_for_each(|kind| {
            let y = ops::glu(kind, &zeros(device)?.trainable()?, &zeros(device)?)?;
            y.backward_from(&zeros(device)?).map(drop)
        })
    }),
    op("fake_quantize", |device, _| ops::fake_quantize(&zeros(device)?).map(drop)),
    op("fake_ternarize", |device, _| {
        [None, Some(2)]
            .into_iter()
            .try_for_each(|group| ops::fake_ternarize(&zeros(device)?, group).map(drop))
    }),
    op("cross_entropy", |device, _| ops::cross_entropy(&zeros(device)?, &TARGETS).map(drop)),
    op("cross_entropy_backward", |device, _| {
        let y = ops::cross_entropy(&zeros(device)?.trainable()?, &TARGETS)?;
        y.backward_from(&Tensor::zeros(device, [TARGETS.len()], DType::F32)?).map(drop)
    }),
    op("kl_divergence", |device, _| ops::kl_divergence(&zeros(device)?, &zeros(device)?, 1.0).map(drop)),
    op("kl_divergence_backward", |device, _| {
        let y = ops::kl_divergence(&zeros(device)?.trainable()?, &zeros(device)?, 1.0)?;
        y.backward_from(&Tensor::zeros(device, [4], DType::F32)?).map(drop)
    }),
    op("causal_softmax", |device, _| {
        let (x, mut y) = (zeros(device)?, zeros(device)?);
        device.backend().causal_softmax(x.view(), 1.0, y.view_mut("causal_softmax")?)
    }),
    op("softmax_backward", |device, _| {
        let (x, mut y) = (zeros(device)?, zeros(device)?);
        device.backend().softmax_backward(x.view(), x.view(), 1.0, y.view_mut("softmax_backward")?)
    }),
    op("adam", |device, _| {
        let adam = Adam {
            lr: 1e-3,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.1,
            decoupled: true,
            step: 1,
            gradient_scale: 1.0,
        };
        let [mut w, mut m, mut v] = [zeros(device)?, zeros(device)?, zeros(device)?];
        ops::adam(&adam, &mut w, &zeros(device)?, &mut m, &mut v)
    }),
];

const TARGETS: [i64; 4] = [0; 4];

fn zeros(device: &Device) -> Result<Tensor> {
    Tensor::zeros(device, [4, 4], DType::F32)
}
