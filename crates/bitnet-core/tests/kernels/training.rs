//! Kernels of training.

use super::{check_rows, float_bits};
use bitnet_core::ops::Glu;

/// Two results one after the other.
fn pair_bits(len: usize, write: impl FnOnce(&mut [f32], &mut [f32])) -> Vec<u32> {
    let mut second = Vec::new();
    let mut first = float_bits(len, |a| second = float_bits(len, |b| write(a, b)));
    first.append(&mut second);
    first
}

#[test]
fn gradients_are_the_same_on_every_tier() {
    check_rows("rms_norm", |k, x, w| {
        pair_bits(x.len(), |dx, dw| (k.rms_norm_backward)(x, w, 1e-5, w, dx, dw))
    });
    for (name, kind) in [("relu2", Glu::Relu2), ("silu", Glu::Silu)] {
        check_rows(name, |k, x, up| pair_bits(x.len(), |dx, dup| k.glu_backward(kind)(x, up, x, dx, dup)));
    }
    check_rows("softmax", |k, x, dy| float_bits(x.len(), |dx| (k.softmax_backward)(x, dy, 0.3, dx)));
    check_rows("cross entropy", |k, x, _| {
        let mut bits = float_bits(x.len(), |dx| (k.cross_entropy_backward)(x, x.len() as i64 / 2, 0.7, dx));
        bits.push((k.cross_entropy)(x, x.len() as i64 / 2).to_bits());
        bits
    });
    check_rows("divergence", |k, x, teacher| {
        let mut bits = float_bits(x.len(), |dx| (k.kl_divergence_backward)(x, teacher, 0.2, 0.7, dx));
        bits.push((k.kl_divergence)(x, teacher, 0.2).to_bits());
        bits
    });
}

#[test]
fn rounding_for_training_is_the_same_on_every_tier() {
    check_rows("activations", |k, x, _| float_bits(x.len(), |y| (k.fake_quantize)(x, y)));
    check_rows("weights", |k, x, _| {
        let sum = (k.sum_of_magnitudes)(x);
        let mut bits = float_bits(x.len(), |y| (k.fake_ternarize)(x, 1.7, y));
        bits.extend([sum.to_bits() as u32, (sum.to_bits() >> 32) as u32]);
        bits
    });
}

#[test]
fn causal_softmax_is_the_same_on_every_tier() {
    check_rows("causal softmax", |k, x, _| {
        float_bits(x.len(), |y| (k.causal_softmax)(x, x.len().div_ceil(2), 0.3, y))
    });
}
