//! Ops of ternary layers that do several things at once give the bits of one after the other, on every tier and number of threads.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{
    DType, Device, Error, PackedTensor, Tensor,
    ops::{
        self, Codes, Glu, Norm, PagedSpan, Rounded,
        cache::{CacheType, KvLayer, KvShape},
    },
    random::Rng,
};

fn devices() -> impl Iterator<Item = Device> {
    let tiers = Device::names().into_iter().filter(|name| name.starts_with("cpu/"));
    tiers.flat_map(|name| [1, 3].map(|threads| Device::open(&name, Some(threads)).unwrap()))
}

fn rows(device: &Device, rng: &mut Rng, shape: [usize; 2], scale: f32) -> Tensor {
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (rng.next_f32() - 0.5) * scale).collect();
    Tensor::from_slice(device, shape, &values).unwrap()
}

/// A matrix of random codes with one scale, or one a row.
fn matrix(device: &Device, rng: &mut Rng, [rows, cols]: [usize; 2], scales: usize) -> PackedTensor {
    let bytes = rows * cols.next_multiple_of(128) / 4;
    let code = |rng: &mut Rng| (rng.next_f32() * 3.0) as u8;
    let codes: Vec<u8> = (0..bytes).map(|_| (0..4).fold(0, |byte, _| byte << 2 | code(rng).min(2))).collect();
    let data = Tensor::from_slice(device, [bytes], &codes).unwrap();
    let scales: Vec<f32> = (0..scales).map(|_| 0.1 + rng.next_f32()).collect();
    PackedTensor::ternary(rows, cols, data, Tensor::from_slice(device, [scales.len()], &scales).unwrap())
        .unwrap()
}

/// Everything that codes are, NaN scales by their place alone: the sign of a NaN is not defined.
fn bits(codes: &Codes) -> (Vec<i8>, Vec<u32>, Vec<i32>) {
    let scales = codes.scales.to_vec::<f32>().unwrap();
    let scales = scales.into_iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() });
    (codes.codes.to_vec().unwrap(), scales.collect(), codes.sums.to_vec().unwrap())
}

fn float_bits(x: &Tensor) -> Vec<u32> {
    x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn codes_behind_norms_and_gates_are_those_of_one_op_after_the_other() {
    for device in devices() {
        let mut rng = Rng::new(1);
        for (tokens, width) in [(0, 5), (1, 1), (1, 100), (2, 128), (7, 300), (40, 640)] {
            let mut x = rows(&device, &mut rng, [tokens, width], 20.0);
            let up = rows(&device, &mut rng, [tokens, width], 1e3);
            if tokens == 7 {
                let mut values = x.to_vec::<f32>().unwrap();
                (values[3], values[2 * width], values[3 * width + 9]) = (f32::NAN, f32::INFINITY, 3e38);
                values[4 * width..5 * width].fill(0.0);
                x = Tensor::from_slice(&device, [tokens, width], &values).unwrap();
            }
            let weight = rows(&device, &mut rng, [1, width], 2.0).reshape([width]).unwrap();
            let norm = Norm { weight: &weight, eps: 1e-5 };
            let normed = |x: &Tensor| ops::rms_norm(x, &weight, 1e-5).unwrap();
            let plain = |x: &Tensor| bits(&Codes::quantize(x).unwrap());
            let name = format!("{}, {tokens} x {width}", device.name());
            assert_eq!(bits(&Codes::of_norm(&x, norm).unwrap()), plain(&normed(&x)), "{name}");
            for kind in [Glu::Relu2, Glu::Silu] {
                let gated = ops::glu(kind, &x, &up).unwrap();
                let codes = |norm| bits(&Codes::of_glu(kind, &x, &up, norm).unwrap());
                assert_eq!(codes(None), plain(&gated), "{kind:?}, {name}");
                assert_eq!(codes(Some(norm)), plain(&normed(&gated)), "{kind:?} and norm, {name}");
            }
        }
    }
}

#[test]
fn products_together_or_added_are_those_of_one_op_after_the_other() {
    for device in devices() {
        let mut rng = Rng::new(2);
        for (tokens, cols) in [(1, 100), (1, 256), (2, 128), (9, 300), (600, 130)] {
            let x = Codes::quantize(&rows(&device, &mut rng, [tokens, cols], 2.0)).unwrap();
            let mut weights =
                [(1, 1), (33, 33), (640, 1)].map(|(rows, n)| matrix(&device, &mut rng, [rows, cols], n));
            for copy in [false, true] {
                if copy {
                    weights.iter_mut().for_each(|weight| weight.add_triples().unwrap());
                }
                let name = format!("{}, {tokens} tokens, {cols} columns, copy {copy}", device.name());
                let together = ops::bit_matmul_all(&x, [&weights[0], &weights[1], &weights[2]]).unwrap();
                for (weight, got) in weights.iter().zip(&together) {
                    let alone = ops::bit_matmul(&x, weight).unwrap();
                    assert_eq!(float_bits(got), float_bits(&alone), "{name}, {} rows", weight.rows());
                    let y = rows(&device, &mut rng, [tokens, weight.rows()], 2.0);
                    let expected = y.add(&alone).unwrap();
                    let sum = ops::bit_matmul_add(y.clone(), &x, weight).unwrap();
                    assert_eq!(float_bits(&sum), float_bits(&expected), "{name}, {} rows", weight.rows());
                    assert_ne!(float_bits(&y), float_bits(&sum), "what others hold stays");
                    let sum = ops::bit_matmul_add(y, &x, weight).unwrap();
                    assert_eq!(float_bits(&sum), float_bits(&expected), "{name}, in place");
                }
            }
        }
    }
}

#[test]
fn matrices_of_different_widths_are_multiplied_together_where_their_codes_are_as_long() {
    for device in devices() {
        let mut rng = Rng::new(3);
        let x = Codes::quantize(&rows(&device, &mut rng, [1, 100], 2.0)).unwrap();
        let mut weights = [100, 120].map(|cols| matrix(&device, &mut rng, [64, cols], 1));
        for _ in 0..2 {
            let together = ops::bit_matmul_all(&x, [&weights[0], &weights[1]]).unwrap();
            for (weight, got) in weights.iter().zip(&together) {
                let alone = ops::bit_matmul(&x, weight).unwrap();
                assert_eq!(float_bits(got), float_bits(&alone), "{}", device.name());
            }
            weights.iter_mut().for_each(|weight| weight.add_triples().unwrap());
        }
    }
}

#[test]
fn operands_on_two_devices_are_refused() {
    let [here, there] = [(); 2].map(|()| Device::open("cpu/scalar", Some(1)).unwrap());
    let mut rng = Rng::new(5);
    let [x, y] = [&here, &there].map(|device| rows(device, &mut rng, [1, 128], 1.0));
    let [line, other] = [&x, &y].map(|x| x.reshape([128]).unwrap());
    let weight = matrix(&there, &mut rng, [128, 128], 1);
    let [codes, away] = [&x, &y].map(|x| Codes::quantize(x).unwrap());
    let norm = Norm { weight: &other, eps: 1e-5 };
    let rounded = Rounded { values: rows(&here, &mut rng, [128, 128], 1.0), packed: weight.clone() };
    let heads = |x: &Tensor| x.reshape([1, 1, 128]).unwrap();
    let shape = KvShape { heads: 1, head_dim: 128, storage: CacheType::F32 };
    let mut cache = KvLayer::new(&there, 1, shape).unwrap();
    let spans = [PagedSpan { len: 1, start: 0, blocks: &[0] }];
    let cases = [
        ("add_assign", ops::add_to(x.clone(), &y)),
        ("glu", ops::glu(Glu::Silu, &x, &y)),
        ("rms_norm", ops::rms_norm(&x, &other, 1e-5)),
        ("quantize_activation", Codes::of_norm(&x, norm).map(|_| line.clone())),
        ("quantize_activation", Codes::of_glu(Glu::Silu, &x, &y, None).map(|_| line.clone())),
        ("bit_matmul", ops::bit_matmul(&codes, &weight)),
        ("bit_matmul", ops::bit_matmul_all(&codes, [&weight]).map(|[y]| y)),
        ("bit_matmul_add", ops::bit_matmul_add(x.clone(), &away, &weight)),
        ("bit_linear", ops::bit_linear(&y, &away, &rows(&there, &mut rng, [128, 128], 1.0), &rounded)),
        ("causal_attention", ops::causal_attention(&heads(&x), &heads(&y), &heads(&x), &[1])),
        ("kv_store", ops::kv_store(&heads(&x), &heads(&x), &spans, &mut cache).map(|()| line.clone())),
        ("attention", ops::attention(&heads(&x), &spans, &cache)),
    ];
    for (i, (op, result)) in cases.into_iter().enumerate() {
        let refused = matches!(&result, Err(Error::Devices { op: refused, .. }) if *refused == op);
        assert!(refused, "case {i}, {op}: {result:?}");
    }
}

#[test]
fn other_shapes_are_refused() {
    let device = Device::open("cpu/scalar", Some(1)).unwrap();
    let mut rng = Rng::new(4);
    let x = rows(&device, &mut rng, [2, 128], 1.0);
    let (weight, up) = (
        rows(&device, &mut rng, [1, 127], 1.0).reshape([127]).unwrap(),
        rows(&device, &mut rng, [2, 127], 1.0),
    );
    let norm = Norm { weight: &weight, eps: 1e-5 };
    assert!(matches!(Codes::of_norm(&x, norm), Err(Error::Shape { .. })));
    assert!(matches!(Codes::of_glu(Glu::Silu, &x, &up, None), Err(Error::Shape { .. })));
    let codes = Codes::quantize(&x).unwrap();
    let [narrow, wide] = [128, 300].map(|cols| matrix(&device, &mut rng, [4, cols], 1));
    assert!(matches!(ops::bit_matmul_all(&codes, [&narrow, &wide]), Err(Error::Shape { .. })));
    let y = Tensor::zeros(&device, [2, 5], DType::F32).unwrap();
    assert!(matches!(ops::bit_matmul_add(y, &codes, &narrow), Err(Error::Shape { .. })));
    let floats = PackedTensor::from_rows(&x).unwrap();
    assert!(matches!(ops::bit_matmul_all(&codes, [&floats]), Err(Error::Format { .. })));
}
