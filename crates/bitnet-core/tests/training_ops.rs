//! Ops of training against PyTorch in float64 (`testdata/train`), and between tiers and numbers of threads.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{
    DType, Device, Result, Tensor,
    ops::{self, Adam, Glu},
    random::Rng,
};
use safetensors::SafeTensors;
use std::{fs, path::Path};

struct Goldens(Vec<u8>);

impl Goldens {
    fn read(file: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/train").join(file);
        Self(fs::read(path).unwrap())
    }

    fn values(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let found = file.tensor(name).unwrap();
        let (shape, data) = (found.shape().to_vec(), found.data());
        let values = match found.dtype() {
            safetensors::Dtype::F32 => {
                data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
            }
            safetensors::Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            safetensors::Dtype::I64 => {
                data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
            }
            safetensors::Dtype::I8 => data.iter().map(|&b| f64::from(b as i8)).collect(),
            other => panic!("{other:?}"),
        };
        (shape, values)
    }

    fn tensor(&self, device: &Device, name: &str) -> Tensor {
        let (shape, values) = self.values(name);
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        Tensor::from_slice(device, &shape[..], &values).unwrap()
    }

    /// Fails where `got` is further from the float64 result than 2e-6 of its largest element.
    fn expect(&self, name: &str, got: &Tensor) {
        let (_, expected) = self.values(&format!("{name}.f64"));
        let got = got.contiguous().unwrap().to_vec::<f32>().unwrap();
        assert_eq!(got.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        for (got, expected) in got.iter().zip(&expected) {
            assert!((f64::from(*got) - expected).abs() <= 2e-6 * largest, "{name}: {got}, not {expected}");
        }
    }
}

fn devices() -> impl Iterator<Item = Device> {
    let tiers = Device::names().into_iter().filter(|name| name.starts_with("cpu/"));
    tiers.flat_map(|name| [1, 3].map(|threads| Device::open(&name, Some(threads)).unwrap()))
}

#[test]
fn norms_have_the_gradients_of_pytorch() {
    let golden = Goldens::read("ops.safetensors");
    for device in devices() {
        let [x, w] =
            ["rms_norm.x", "rms_norm.w"].map(|name| golden.tensor(&device, name).trainable().unwrap());
        let eps = golden.values("rms_norm.eps").1[0] as f32;
        let y = ops::rms_norm(&x, &w, eps).unwrap();
        let gradients = y.backward_from(&golden.tensor(&device, "rms_norm.dy")).unwrap();
        golden.expect("rms_norm.y", &y);
        golden.expect("rms_norm.dx", gradients.of(&x).unwrap());
        golden.expect("rms_norm.dw", gradients.of(&w).unwrap());
    }
}

#[test]
fn gated_units_have_the_gradients_of_pytorch() {
    let golden = Goldens::read("ops.safetensors");
    for device in devices() {
        for (name, kind) in [("swiglu", Glu::Silu), ("relu2", Glu::Relu2)] {
            let [gate, up] =
                ["gate.gate", "gate.up"].map(|name| golden.tensor(&device, name).trainable().unwrap());
            let y = ops::glu(kind, &gate, &up).unwrap();
            let gradients = y.backward_from(&golden.tensor(&device, "gate.dy")).unwrap();
            golden.expect(&format!("{name}.y"), &y);
            golden.expect(&format!("{name}.dgate"), gradients.of(&gate).unwrap());
            golden.expect(&format!("{name}.dup"), gradients.of(&up).unwrap());
        }
    }
}

/// `[1, H, T, D]` of the goldens to `[T, H, D]` of the ops, and back.
fn tokens_first(x: &Tensor) -> Tensor {
    let &[batch, heads, tokens, dim] = x.shape().dims() else { panic!("{x:?}") };
    x.permute(&[0, 2, 1, 3]).unwrap().contiguous().unwrap().reshape([batch * tokens, heads, dim]).unwrap()
}

fn heads_first(x: &Tensor, batch: usize) -> Tensor {
    let &[tokens, heads, dim] = x.shape().dims() else { panic!("{x:?}") };
    x.reshape([batch, tokens / batch, heads, dim]).unwrap().permute(&[0, 2, 1, 3]).unwrap()
}

#[test]
fn rotations_have_the_gradients_of_pytorch() {
    let golden = Goldens::read("ops.safetensors");
    for device in devices() {
        let x = tokens_first(&golden.tensor(&device, "rope.q")).trainable().unwrap();
        // The two halves of a head turn by the same angles.
        let [cos, sin] = ["rope.cos.f32", "rope.sin.f32"].map(|name| {
            let whole = golden.tensor(&device, name);
            whole.narrow(1, 0, x.shape().last() / 2).unwrap().contiguous().unwrap()
        });
        let before = x.to_vec::<f32>().unwrap();
        let y = ops::rope(x.clone(), &cos, &sin).unwrap();
        let gradients = y.backward_from(&tokens_first(&golden.tensor(&device, "rope.dy"))).unwrap();
        golden.expect("rope.y", &heads_first(&y, 1));
        golden.expect("rope.dq", &heads_first(gradients.of(&x).unwrap(), 1));
        assert_eq!(x.to_vec::<f32>().unwrap(), before, "a trainable operand stays as it is");
    }
}

#[test]
fn attention_has_the_gradients_of_pytorch() {
    let golden = Goldens::read("ops.safetensors");
    for device in devices() {
        let [q, k, v] = ["attention.q", "attention.k", "attention.v"]
            .map(|name| tokens_first(&golden.tensor(&device, name)).trainable().unwrap());
        let y = ops::causal_attention(&q, &k, &v, &[6, 6]).unwrap();
        let gradients = y.backward_from(&tokens_first(&golden.tensor(&device, "attention.dy"))).unwrap();
        golden.expect("attention.y", &heads_first(&y, 2));
        for (name, x) in [("dq", &q), ("dk", &k), ("dv", &v)] {
            golden.expect(&format!("attention.{name}"), &heads_first(gradients.of(x).unwrap(), 2));
        }
    }
}

/// The same of plain ops: every score, those of later tokens taken away.
fn whole_attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let &[tokens, heads, dim] = q.shape().dims() else { unreachable!() };
    let kv_heads = k.shape().dims()[1];
    let of_heads = |x: &Tensor| x.unsqueeze(1)?.permute(&[2, 1, 0, 3]);
    let q = q.reshape([tokens, kv_heads, heads / kv_heads, dim])?.permute(&[1, 2, 0, 3])?;
    let scores = q.matmul(&of_heads(k)?.transpose(-2, -1)?)?.mul_scalar(1.0 / (dim as f64).sqrt())?;
    let later = Tensor::full(q.device(), [tokens, tokens], -1e9, DType::F32)?;
    let later = later.sub(&later.tril(0)?)?;
    let y = scores.add(&later)?.softmax(-1)?.matmul(&of_heads(v)?)?;
    y.permute(&[2, 0, 1, 3])?.reshape([tokens, heads, dim])
}

#[test]
fn long_sequences_attend_as_if_all_weights_were_computed_at_once() {
    let lens = [300usize, 129, 128, 1, 256];
    let tokens: usize = lens.iter().sum();
    let near = |what: &str, got: &Tensor, expected: &Tensor| {
        let [got, expected] = [got, expected].map(|x| x.contiguous().unwrap().to_vec::<f32>().unwrap());
        let largest = expected.iter().fold(0f32, |a, b| a.max(b.abs()));
        assert!(largest > 0.0 && got.len() == expected.len());
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!((got - expected).abs() <= 2e-6 * largest, "{what}, element {i}: {got}, not {expected}");
        }
    };
    for device in devices() {
        let leaf = |heads, seed| {
            random(&device, &[tokens, heads, 8], seed).mul_scalar(0.3).unwrap().trainable().unwrap()
        };
        let (q, k, v, dy) = (leaf(4, 1), leaf(2, 2), leaf(2, 3), random(&device, &[tokens, 4, 8], 4));
        let y = ops::causal_attention(&q, &k, &v, &lens).unwrap();
        let mut first = 0;
        let parts: Vec<Tensor> = lens
            .iter()
            .map(|&len| {
                let part = |x: &Tensor| x.narrow(0, first, len).unwrap();
                let y = whole_attention(&part(&q), &part(&k), &part(&v)).unwrap();
                first += len;
                y
            })
            .collect();
        let expected = ops::concat(&parts.iter().collect::<Vec<_>>(), 0).unwrap();
        near("y", &y, &expected);
        let [got, expected] = [y, expected].map(|y| y.backward_from(&dy).unwrap());
        for (name, x) in [("dq", &q), ("dk", &k), ("dv", &v)] {
            near(name, got.of(x).unwrap(), expected.of(x).unwrap());
        }
    }
}

#[test]
fn cross_entropy_has_the_gradients_of_pytorch() {
    let golden = Goldens::read("ops.safetensors");
    let targets: Vec<i64> = golden.values("cross_entropy.target").1.iter().map(|&x| x as i64).collect();
    let counted = targets.iter().filter(|&&t| t >= 0).count();
    assert!(counted < targets.len(), "a target is ignored");
    for device in devices() {
        for (name, divisor) in [("sum", 1.0), ("mean", counted as f64)] {
            let logits = golden.tensor(&device, "cross_entropy.logits").trainable().unwrap();
            let losses = ops::cross_entropy(&logits, &targets).unwrap();
            let loss = losses.sum((), false).unwrap().div_scalar(divisor).unwrap();
            golden.expect(&format!("cross_entropy.{name}.loss"), &loss);
            golden.expect(
                &format!("cross_entropy.{name}.dlogits"),
                loss.backward().unwrap().of(&logits).unwrap(),
            );
        }
    }
}

#[test]
fn divergence_has_the_gradients_of_pytorch() {
    let golden = Goldens::read("distillation.safetensors");
    for device in devices() {
        let logits = golden.tensor(&device, "kl.logits").trainable().unwrap();
        let y = ops::kl_divergence(&logits, &golden.tensor(&device, "kl.teacher"), 1.0 / 5.0).unwrap();
        let gradients = y.backward_from(&golden.tensor(&device, "kl.dloss")).unwrap();
        golden.expect("kl.losses", &y);
        golden.expect("kl.dlogits", gradients.of(&logits).unwrap());
    }
}

#[test]
fn divergence_refuses_other_shapes_and_scales() {
    let device = Device::open("cpu/scalar", Some(1)).unwrap();
    let zeros = |shape: [usize; 2]| Tensor::zeros(&device, shape, DType::F32).unwrap();
    assert!(ops::kl_divergence(&zeros([2, 3]), &zeros([3, 2]), 1.0).is_err());
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(ops::kl_divergence(&zeros([2, 3]), &zeros([2, 3]), scale).is_err(), "{scale}");
    }
}

#[test]
fn targets_that_are_no_class_are_refused() {
    let device = Device::open("cpu/scalar", Some(1)).unwrap();
    let logits = Tensor::zeros(&device, [2, 3], DType::F32).unwrap();
    for targets in [&[0, 3][..], &[0, -1], &[0]] {
        assert!(ops::cross_entropy(&logits, targets).is_err(), "{targets:?}");
    }
}

#[test]
fn rounding_for_training_is_that_of_pytorch() {
    let golden = Goldens::read("fake_quant.safetensors");
    for device in devices() {
        for name in ["w0", "w1", "x0", "x1"] {
            let kind = &name[..1];
            let x = golden.tensor(&device, &format!("{name}.{kind}")).trainable().unwrap();
            let y = if kind == "w" { ops::fake_ternarize(&x, None) } else { ops::fake_quantize(&x) }.unwrap();
            golden.expect(&format!("{name}.y"), &y);
            let dy = golden.tensor(&device, &format!("{name}.dy"));
            golden.expect(&format!("{name}.grad"), y.backward_from(&dy).unwrap().of(&x).unwrap());
        }
        for corner in ["constant", "one_large", "ties", "tiny", "zeros"] {
            let w = golden.tensor(&device, &format!("corner_w.{corner}.w"));
            let y = ops::fake_ternarize(&w, None).unwrap();
            let expected = golden.tensor(&device, &format!("corner_w.{corner}.y"));
            assert_eq!(y.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap(), "{corner}");
        }
        for corner in ["at_eps", "negative_max", "ties", "tiny", "zeros"] {
            let x = golden.tensor(&device, &format!("corner_x.{corner}.x"));
            let y = ops::fake_quantize(&x).unwrap();
            let expected = golden.tensor(&device, &format!("corner_x.{corner}.y"));
            assert_eq!(y.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap(), "{corner}");
        }
    }
}

#[test]
fn a_bit_linear_layer_has_the_gradients_of_pytorch() {
    let golden = Goldens::read("fake_quant.safetensors");
    for device in devices() {
        let [x, w] =
            ["bitlinear.x", "bitlinear.w"].map(|name| golden.tensor(&device, name).trainable().unwrap());
        let (xq, wq) = (ops::fake_quantize(&x).unwrap(), ops::fake_ternarize(&w, None).unwrap());
        let y = ops::linear(&xq, &wq).unwrap();
        let gradients = y.backward_from(&golden.tensor(&device, "bitlinear.dy")).unwrap();
        golden.expect("bitlinear.y", &y);
        golden.expect("bitlinear.dx", gradients.of(&x).unwrap());
        golden.expect("bitlinear.dw", gradients.of(&w).unwrap());
    }
}

/// Ops of several operands, each of the shape beside it.
type Case = (&'static str, Vec<Vec<usize>>, fn(&[Tensor]) -> Result<Tensor>);

fn cases() -> Vec<Case> {
    vec![
        ("rms_norm", vec![vec![70, 33], vec![33]], |x| ops::rms_norm(&x[0], &x[1], 1e-5)),
        ("silu", vec![vec![3, 37], vec![3, 37]], |x| ops::glu(Glu::Silu, &x[0], &x[1])),
        ("relu2", vec![vec![3, 37], vec![3, 37]], |x| ops::glu(Glu::Relu2, &x[0], &x[1])),
        ("linear", vec![vec![5, 17], vec![9, 17]], |x| ops::linear(&x[0], &x[1])),
        ("cross_entropy", vec![vec![4, 19]], |x| ops::cross_entropy(&x[0], &[3, -100, 18, 0])),
        ("one sequence", vec![vec![6, 4, 8], vec![6, 2, 8], vec![6, 2, 8]], |x| {
            ops::causal_attention(&x[0], &x[1], &x[2], &[6])
        }),
        ("several lengths", vec![vec![9, 6, 4], vec![9, 2, 4], vec![9, 2, 4]], |x| {
            ops::causal_attention(&x[0], &x[1], &x[2], &[1, 2, 2, 0, 4])
        }),
    ]
}

fn random(device: &Device, shape: &[usize], seed: u64) -> Tensor {
    Tensor::normal(device, shape, (0.0, 1.0), &mut Rng::new(seed)).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.contiguous().unwrap().to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Dense products are left to a library, whose bits depend on the instruction set but not on the number of threads.
#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let run = |device: &Device, (_, shapes, op): &Case| -> Vec<Vec<u32>> {
        let leaves: Vec<_> =
            (0..).zip(shapes).map(|(i, shape)| random(device, shape, 10 + i).trainable().unwrap()).collect();
        let y = op(&leaves).unwrap();
        let gradients = y.backward_from(&random(device, y.shape().dims(), 1)).unwrap();
        leaves.iter().map(|leaf| bits(gradients.of(leaf).unwrap())).chain([bits(&y)]).collect()
    };
    let [one, three] = [1, 3].map(|threads| Device::open("cpu", Some(threads)).unwrap());
    let large: Vec<Case> = vec![
        ("linear", vec![vec![700, 96], vec![160, 96]], |x| ops::linear(&x[0], &x[1])),
        ("rms_norm", vec![vec![1000, 96], vec![96]], |x| ops::rms_norm(&x[0], &x[1], 1e-5)),
        ("attention", vec![vec![384, 4, 32], vec![384, 2, 32], vec![384, 2, 32]], |x| {
            ops::causal_attention(&x[0], &x[1], &x[2], &[64; 6])
        }),
        ("long attention", vec![vec![384, 4, 32], vec![384, 2, 32], vec![384, 2, 32]], |x| {
            ops::causal_attention(&x[0], &x[1], &x[2], &[300, 84])
        }),
        ("fake_ternarize", vec![vec![300, 128]], |x| ops::fake_ternarize(&x[0], None)),
    ];
    for case in cases().into_iter().chain(large) {
        assert_eq!(run(&one, &case), run(&three, &case), "{}", case.0);
    }
}

#[test]
fn a_step_of_adam_has_the_same_bits_on_every_tier() {
    let run = |device: &Device| {
        let adam = Adam {
            lr: 1e-3,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.1,
            decoupled: true,
            step: 3,
            gradient_scale: 0.5,
        };
        let n = [40_001];
        let (mut w, g, mut m) = (random(device, &n, 1), random(device, &n, 2), random(device, &n, 3));
        let mut v = random(device, &n, 4).abs().unwrap();
        ops::adam(&adam, &mut w, &g, &mut m, &mut v).unwrap();
        [bits(&w), bits(&m), bits(&v)]
    };
    let expected = run(&Device::open("cpu/scalar", Some(1)).unwrap());
    for device in devices() {
        assert!(run(&device) == expected, "{device:?}");
    }
}
