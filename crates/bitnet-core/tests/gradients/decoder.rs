//! The ops of the decoder and of training, each beside its function in f64.

use crate::{
    array::Array,
    operand,
    rows::{ANY, Row, row, total},
    tensor,
};
use bitnet_core::{
    DType, PackedTensor, Result, Tensor,
    ops::{self, Glu},
};
use bitnet_quant::{formats::i2s, ternary};

pub fn rows() -> Vec<Row> {
    let (gates, hidden) = ([(&[3, 37][..], ANY); 2], [(&[3, 5][..], ANY); 2]);
    let targets = [3, -100, 18, 0];
    let relu2 = |gate: f64, up: f64| gate.max(0.0).powi(2) * up;
    let silu = |gate: f64, up: f64| gate / (1.0 + (-gate).exp()) * up;
    vec![
        row("rms_norm", [(&[3, 33], ANY), (&[33], ANY)], |x| ops::rms_norm(&x[0], &x[1], 1e-5), rms_norm),
        row("rope", [(&[3, 2, 6], ANY)], rope, exact_rope),
        row("glu", gates, |x| ops::glu(Glu::Relu2, &x[0], &x[1]), move |x| x[0].zip(&x[1], relu2)),
        row("glu", gates, |x| ops::glu(Glu::Silu, &x[0], &x[1]), move |x| x[0].zip(&x[1], silu)),
        row("add_to", hidden, |x| ops::add_to(x[0].clone(), &x[1]), |x| x[0].zip(&x[1], |x, y| x + y)),
        row(
            "linear",
            [(&[5, 17], ANY), (&[4, 17], ANY)],
            |x| ops::linear(&x[0], &x[1]),
            |x| Array::of(&[5, 4], |i| total(17, |k| x[0].at(&[i[0], k]) * x[1].at(&[i[1], k]))),
        ),
        attention([6, 4, 3], 2, &[6]),
        attention([9, 3, 4], 1, &[1, 2, 2, 0, 4]),
        row(
            "cross_entropy",
            [(&[4, 19], ANY)],
            move |x| ops::cross_entropy(&x[0], &targets),
            move |x| {
                Array::of(&[4], |i| {
                    usize::try_from(targets[i[0]]).map_or(0.0, |target| surprise(&x[0], i[0], target))
                })
            },
        ),
        row(
            "kl_divergence",
            [(&[3, 19], ANY)],
            |x| ops::kl_divergence(&x[0], &tensor(x[0].device(), &teacher()), 0.5),
            |x| {
                let teacher = teacher().map(|t| 0.5 * t);
                let student = x[0].map(|x| 0.5 * x);
                Array::of(&[3], |i| {
                    total(19, |k| {
                        let (of_teacher, of_student) =
                            (surprise(&teacher, i[0], k), surprise(&student, i[0], k));
                        (-of_teacher).exp() * (of_student - of_teacher)
                    })
                })
            },
        ),
        row("bit_linear", [(&[5, 17], ANY), (&[4, 17], ANY)], bit_linear, exact_bit_linear),
        row("fake_cast", [(&[3, 7], ANY)], |x| ops::fake_cast(&x[0], DType::BF16), |x| x[0].clone()),
        row("fake_quantize", [(&[3, 7], ANY)], |x| ops::fake_quantize(&x[0]), |x| x[0].clone()),
        row("fake_ternarize", [(&[3, 8], ANY)], |x| ops::fake_ternarize(&x[0], None), |x| x[0].clone()),
        row("fake_ternarize", [(&[3, 8], ANY)], |x| ops::fake_ternarize(&x[0], Some(4)), |x| x[0].clone()),
    ]
}

/// Logits that are unlike those of the student.
fn teacher() -> Array {
    operand(1, &[3, 19], ANY).map(|t| 1.0 - t * t)
}

fn bit_linear(x: &[Tensor]) -> Result<Tensor> {
    let weights = x[1].to_vec::<f32>()?;
    let mut codes = vec![0; weights.len()];
    let scale = ternary::ternarize(&weights, &mut codes);
    let mut bytes = vec![0; 4 * 32];
    for (codes, bytes) in codes.chunks(17).zip(bytes.chunks_mut(32)) {
        let row: Vec<i8> = codes.iter().copied().chain([0; 111]).collect();
        i2s::pack_codes(&row, bytes).unwrap();
    }
    let (data, scale) = (
        Tensor::from_slice(x[1].device(), [4 * 32], &bytes)?,
        Tensor::from_slice(x[1].device(), [1], &[scale])?,
    );
    let rounded = ops::Rounded {
        values: ops::fake_ternarize(&x[1].detach(), None)?,
        packed: PackedTensor::ternary(4, 17, data, scale)?,
    };
    ops::bit_linear(&x[0], &ops::Codes::quantize(&x[0].detach())?, &x[1], &rounded)
}

/// What has the gradients that pass the rounding: each operand as it is, times the other one rounded.
fn exact_bit_linear(moved: &[Array]) -> Array {
    let (x, w) = (operand(0, &[5, 17], ANY), operand(1, &[4, 17], ANY));
    let mean = w.data.iter().map(|w| w.abs()).sum::<f64>() / w.data.len() as f64;
    let ternary = w.map(|w| (w / mean).round_ties_even().clamp(-1.0, 1.0) * mean);
    let int8 = x.lines(1, |row| {
        let factor = 127.0 / row.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        row.iter().map(|x| (x * factor).round_ties_even() / factor).collect()
    });
    Array::of(&[5, 4], |i| {
        total(17, |k| {
            moved[0].at(&[i[0], k]) * ternary.at(&[i[1], k]) + int8.at(&[i[0], k]) * moved[1].at(&[i[1], k])
        })
    })
}

fn rms_norm(x: &[Array]) -> Array {
    let normed = x[0].lines(1, |row| {
        let square = total(row.len(), |i| row[i].powi(2)) / row.len() as f64;
        row.iter().map(|v| v / (square + f64::from(1e-5f32)).sqrt()).collect()
    });
    normed.zip(&x[1], |x, weight| x * weight)
}

/// Angle of pair `pair` at position `position`.
fn angle(position: usize, pair: usize) -> f32 {
    (position as f32 + 0.5) * 0.7 / (pair as f32 + 1.0)
}

fn rope(x: &[Tensor]) -> Result<Tensor> {
    let table = |of: fn(f32) -> f32| {
        let all: Vec<f32> = (0..9).map(|i| of(angle(i / 3, i % 3))).collect();
        Tensor::from_slice(x[0].device(), [3, 3], &all)
    };
    ops::rope(x[0].clone(), &table(f32::cos)?, &table(f32::sin)?)
}

fn exact_rope(x: &[Array]) -> Array {
    Array::of(&[3, 2, 6], |i| {
        let (pair, angle) = (i[2] % 3, f64::from(angle(i[0], i[2] % 3)));
        let [first, second] = [0, 3].map(|half| x[0].at(&[i[0], i[1], pair + half]));
        let (sin, cos) = angle.sin_cos();
        if i[2] < 3 { first * cos - second * sin } else { second * cos + first * sin }
    })
}

/// `-ln softmax(logits)` of a target.
fn surprise(logits: &Array, row: usize, target: usize) -> f64 {
    let classes = logits.dims[1];
    total(classes, |class| logits.at(&[row, class]).exp()).ln() - logits.at(&[row, target])
}

/// The token that begins the sequence of `token`.
fn first_of_sequence(lens: &[usize], token: usize) -> usize {
    let ends = lens.iter().scan(0, |end, len| {
        *end += len;
        Some(*end)
    });
    ends.take_while(|&end| end <= token).last().unwrap_or(0)
}

/// Causal attention of `[T, H, D]` over `kv_heads` heads, in sequences of `lens` tokens.
fn attention([tokens, heads, dim]: [usize; 3], kv_heads: usize, lens: &'static [usize]) -> Row {
    let (q, kv) = (&[tokens, heads, dim][..], &[tokens, kv_heads, dim][..]);
    let exact = move |x: &[Array]| {
        Array::of(&[tokens, heads, dim], |i| {
            let (token, head, kv) = (i[0], i[1], i[1] / (heads / kv_heads));
            let score = |seen| total(dim, |d| x[0].at(&[token, head, d]) * x[1].at(&[seen, kv, d]));
            let weight = |seen: usize| (score(seen) / (dim as f64).sqrt()).exp();
            let first = first_of_sequence(lens, token);
            let seen = token + 1 - first;
            let mixed = total(seen, |s| weight(first + s) * x[2].at(&[first + s, kv, i[2]]));
            mixed / total(seen, |s| weight(first + s))
        })
    };
    let op = move |x: &[Tensor]| ops::causal_attention(&x[0], &x[1], &x[2], lens);
    row("causal_attention", [(q, ANY), (kv, ANY), (kv, ANY)], op, exact)
}
