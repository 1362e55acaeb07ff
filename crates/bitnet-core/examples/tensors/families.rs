//! The fastest tier over the scalar one, by families of ops.

use bitnet_core::{
    Bool,
    cpu::ceilings::best_rate,
    cpu::kernels::{Kernels, MatmulT},
    cpu::partition::Columns,
    ops::{
        Binary, Compare, Operand, Reduce, Unary,
        attention::{Past, attend_all},
        bit_matmul::{CodeRows, TernaryRows},
        cache::{BLOCK_LEN, CacheType, KvShape},
        reduce::COLUMNS,
    },
};
use std::hint::black_box;

/// A kernel of a tier.
type Of<Kernel> = fn(&Kernels) -> Kernel;

/// Floats to bytes.
type Write = fn(&[f32], &mut [u8]);

/// A family and the ratios of its ops.
type Family = (&'static str, Vec<f64>);

const PASSES: usize = 9;
/// Elements that stay in the first-level cache.
const SMALL: usize = 2048;

fn floats(len: usize) -> Vec<f32> {
    (0..len).map(|i| 0.5 + (i * 37 % 97) as f32 / 64.0).collect()
}

/// Time of the scalar tier over that of the fastest one.
fn speed_up(run: impl Fn(&Kernels)) -> f64 {
    speed_up_mut(run)
}

/// As [`speed_up`], of what keeps its result.
fn speed_up_mut(mut run: impl FnMut(&Kernels)) -> f64 {
    let mut rate = |kernels: &Kernels| {
        best_rate(PASSES, 1.0, || {
            for _ in 0..50 {
                run(black_box(kernels));
            }
        })
    };
    rate(Kernels::best()) / rate(&Kernels::SCALAR)
}

/// A table of every family, and the mean of all.
pub fn print_all() {
    println!("\n{} over scalar on one thread, from the caches", Kernels::best().name);
    let families = [elementwise(), rows(), products(), rounding()].concat();
    for (family, ratios) in &families {
        print(family, ratios);
    }
    print("all families", &families.iter().map(|(_, ratios)| mean(ratios)).collect::<Vec<_>>());
}

fn elementwise() -> Vec<Family> {
    let x = floats(SMALL);
    let row = Operand::Row(&x);
    let unary = |op: Unary| speed_up(|k| (k.unary)(op, row, black_box(&mut [0.0; SMALL])));
    let simple = [Unary::Neg, Unary::Abs, Unary::Square, Unary::Relu, Unary::Relu2, Unary::Clamp(0.6, 1.2)];
    let roots = [Unary::Sqrt, Unary::Rsqrt, Unary::Recip, Unary::Floor, Unary::Round];
    let curves = [
        Unary::Exp,
        Unary::Log,
        Unary::Tanh,
        Unary::Erf,
        Unary::Gelu,
        Unary::Silu,
        Unary::Sigmoid,
        Unary::Softplus,
    ];
    let pairs = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];
    let folds = [Reduce::Sum, Reduce::Prod, Reduce::Min, Reduce::Max];
    let columns = |op| speed_up(|k| (k.reduce_columns)(op, &x, COLUMNS, black_box(&mut [0.0; COLUMNS])));
    vec![
        ("signs and squares", simple.map(unary).into()),
        ("roots and rounding", roots.map(unary).into()),
        ("exponentials and activations", curves.map(unary).into()),
        (
            "arithmetic of two tensors",
            pairs.map(|op| speed_up(|k| (k.binary)(op, row, row, black_box(&mut [0.0; SMALL])))).into(),
        ),
        (
            "comparisons",
            Compare::ALL
                .map(|op| speed_up(|k| (k.compare)(op, row, row, black_box(&mut [Bool::default(); SMALL]))))
                .into(),
        ),
        (
            "reductions of rows",
            folds.map(|op| speed_up(|k| _ = black_box((k.reduce)(op, black_box(&x))))).into(),
        ),
        ("reductions of columns", folds.map(columns).into()),
    ]
}

fn rows() -> Vec<Family> {
    let (x, w) = (floats(SMALL), floats(SMALL));
    let angles = floats(SMALL / 2);
    let y = || [0.0f32; SMALL];
    let (half, mut bytes) = (vec![0x21u8; 2 * SMALL], vec![0u8; 2 * SMALL]);
    let mut write = |f: Of<Write>| speed_up_mut(|k| f(k)(&x, black_box(&mut bytes)));
    let conversions = vec![
        speed_up(|k| (k.read_f16)(&half, black_box(&mut y()))),
        speed_up(|k| (k.read_bf16)(&half, black_box(&mut y()))),
        write(|k| k.write_f16),
        write(|k| k.write_bf16),
    ];
    vec![
        (
            "softmax and its logarithm",
            vec![
                speed_up(|k| (k.softmax)(&x, black_box(&mut y()))),
                speed_up(|k| (k.log_softmax)(&x, black_box(&mut y()))),
            ],
        ),
        (
            "norms and rotations",
            vec![
                speed_up(|k| (k.rms_norm)(&x, &w, 1e-5, black_box(&mut y()))),
                speed_up(|k| (k.rope)(black_box(&mut y()), &angles, &angles)),
            ],
        ),
        (
            "gated units",
            vec![
                speed_up(|k| (k.glu_relu2)(&x, &w, black_box(&mut y()))),
                speed_up(|k| (k.glu_silu)(&x, &w, black_box(&mut y()))),
            ],
        ),
        ("16-bit floats", conversions),
    ]
}

/// Columns and rows of the matrices that are multiplied, which stay in the second-level cache.
const COLS: usize = 1024;
const ROWS: usize = 64;

fn products() -> Vec<Family> {
    let stored: [(Of<MatmulT>, usize); 5] = [
        (|k| k.matmul_t_f32, 4 * 256),
        (|k| k.matmul_t_f16, 2 * 256),
        (|k| k.matmul_t_bf16, 2 * 256),
        (|k| k.matmul_t_q8_0, 272),
        (|k| k.matmul_t_q6_k, 210),
    ];
    let caches = [CacheType::F32, CacheType::F16, CacheType::Q8_0];
    vec![
        ("ternary products", [1, 8].map(ternary).into()),
        ("products with stored rows", stored.map(|(kernel, bytes)| dense(kernel, bytes)).into()),
        ("attention", caches.map(attention).into()),
    ]
}

fn ternary(tokens: usize) -> f64 {
    let bytes = vec![0x46u8; ROWS * COLS / 4];
    let codes: Vec<i8> = (0..tokens * COLS).map(|i| (i * 37) as i8).collect();
    let (scales, sums) = (vec![2.0; tokens], vec![1; tokens]);
    let mut y = vec![0.0; tokens * ROWS];
    speed_up_mut(|k| {
        let weight = TernaryRows { bytes: &bytes, scales: &[0.5] };
        let x = CodeRows { codes: &codes, scales: &scales, sums: &sums };
        (k.bit_matmul)(weight, x, &mut Columns::new(&mut y, ROWS).whole());
    })
}

/// A token by rows of which 256 elements are this many bytes.
fn dense(kernel: Of<MatmulT>, bytes: usize) -> f64 {
    let (weight, x) = (vec![0x21u8; ROWS * COLS / 256 * bytes], floats(COLS));
    let mut y = vec![0.0; ROWS];
    speed_up_mut(|k| kernel(k)(&weight, &x, &mut Columns::new(&mut y, ROWS).whole()))
}

/// A token by four heads over 128 positions.
fn attention(storage: CacheType) -> f64 {
    let shape = KvShape { heads: 1, head_dim: 64, storage };
    let (k, v, q) = (floats(64), floats(64), floats(4 * 64));
    let mut cache = vec![0u8; shape.block_bytes() * 4];
    for position in 0..128 {
        let run = &mut cache[shape.offset(position / BLOCK_LEN, 0)..][..shape.head_bytes()];
        (Kernels::SCALAR.kv_store(storage))(&k, &v, position % BLOCK_LEN, run);
    }
    let past = Past { cache: &cache, shape, blocks: &[0, 1, 2, 3], head: 0, start: 0, end: 128 };
    let (mut parts, mut y) = (vec![], vec![0.0; q.len()]);
    speed_up_mut(|k| attend_all(k.attention(storage), &q, past, &mut parts, &mut y))
}

fn rounding() -> Vec<Family> {
    let x = floats(SMALL);
    let (mut codes, mut bytes, mut y) = (vec![0i8; SMALL], vec![0u8; 2 * SMALL], vec![0f32; SMALL]);
    let (q8_0, q6_k) = (SMALL / 32 * 34, SMALL / 256 * 210);
    vec![
        (
            "quantizing activations",
            vec![
                speed_up_mut(|k| _ = black_box((k.quantize_activation)(&x, &mut codes))),
                speed_up_mut(|k| (k.fake_quantize)(&x, &mut y)),
            ],
        ),
        (
            "rounding weights",
            vec![
                speed_up_mut(|k| _ = black_box((k.quantize_q8_0)(&x, &mut bytes[..q8_0]))),
                speed_up_mut(|k| _ = black_box((k.quantize_q6_k)(&x, &mut bytes[..q6_k]))),
                speed_up_mut(|k| (k.fake_ternarize)(&x, 1.5, &mut y)),
            ],
        ),
    ]
}

fn mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

fn print(family: &str, ratios: &[f64]) {
    let list: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.1}")).collect();
    println!("{family:30} {:5.1}x  ({})", mean(ratios), list.join(" "));
}
