//! Tensors: ops over large and small arrays, rows of a decoder layer, products, order and gradients.

use bitnet_benchmarks::{criterion, device, peers, tensor, work};
use bitnet_core::{
    DType, Device, Result, Tensor,
    ops::{self, Binary, Codes, Compare, Glu, Unary},
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const HIDDEN: usize = 2560;
/// Elements of a large tensor: 32 MB of f32, beyond the caches.
const LARGE: [usize; 2] = [2048, 4096];
const SMALL: [usize; 2] = [8, 64];

type Op = fn(&Tensor) -> Result<Tensor>;

/// One op over a large and a small tensor; `operations` and `bytes` of an element.
fn both(c: &mut Criterion, group: &str, (operations, bytes): (usize, usize), ops: &[(&str, Op)]) {
    let device = device();
    let mut group = c.benchmark_group(format!("tensor/{group}"));
    for (size, shape) in [("large", LARGE), ("small", SMALL)] {
        let x = tensor(&device, shape).abs().and_then(|x| x.add_scalar(0.1)).expect("memory");
        let len = x.shape().len();
        group.throughput(work(operations * len, bytes * len));
        for (name, op) in ops {
            group.bench_function(BenchmarkId::new(*name, size), |b| b.iter(|| op(&x).expect("memory")));
        }
    }
}

fn elementwise(c: &mut Criterion) {
    both(
        c,
        "signs and squares",
        (1, 8),
        &[("neg", Tensor::neg), ("relu2", Tensor::relu2), ("sqrt", Tensor::sqrt), ("copy", Tensor::copy)],
    );
    both(
        c,
        "exponentials",
        (20, 8),
        &[("exp", Tensor::exp), ("log", Tensor::log), ("tanh", Tensor::tanh), ("sin", Tensor::sin)],
    );
    both(
        c,
        "activations",
        (25, 8),
        &[("silu", Tensor::silu), ("gelu", Tensor::gelu), ("softplus", Tensor::softplus)],
    );
    both(
        c,
        "arithmetic of two tensors",
        (1, 8),
        &[
            ("add", |x| ops::binary(Binary::Add, x, x)),
            ("div", |x| ops::binary(Binary::Div, x, x)),
            ("maximum", |x| ops::binary(Binary::Max, x, x)),
        ],
    );
    both(
        c,
        "arithmetic with a row",
        (1, 8),
        &[("mul", |x| x.mul(&x.narrow(0, 0, 1)?)), ("sub", |x| x.sub(&x.narrow(1, 0, 1)?))],
    );
    both(
        c,
        "arithmetic with a number",
        (1, 8),
        &[("add", |x| x.add_scalar(0.5)), ("pow", |x| x.pow_scalar(1.5))],
    );
    both(
        c,
        "comparisons",
        (1, 5),
        &[("lt", |x| ops::compare(Compare::Lt, x, x)), ("where", |x| x.ge_scalar(0.5)?.where_cond(x, x))],
    );
    both(
        c,
        "element types",
        (1, 6),
        &[
            ("to float16", |x| x.to_dtype(DType::F16)),
            ("to bfloat16", |x| x.to_dtype(DType::BF16)),
            ("to int8", |x| x.to_dtype(DType::I8)),
        ],
    );
}

fn along_dimensions(c: &mut Criterion) {
    both(
        c,
        "reductions of rows",
        (1, 4),
        &[
            ("sum", |x| x.sum(1, false)),
            ("max", |x| x.max(1, false)),
            ("argmax", |x| x.argmax(1, false)),
            ("var", |x| x.var(1, 0, false)),
        ],
    );
    both(
        c,
        "reductions of columns",
        (1, 4),
        &[("sum", |x| x.sum(0, false)), ("min", |x| x.min(0, false)), ("var", |x| x.var(0, 0, false))],
    );
    both(
        c,
        "reductions of everything",
        (1, 4),
        &[("sum", |x| x.sum((), false)), ("norm", |x| x.norm(2.0, (), false))],
    );
    both(
        c,
        "softmax",
        (25, 8),
        &[
            ("softmax", |x| x.softmax(1)),
            ("log_softmax", |x| x.log_softmax(1)),
            ("logsumexp", |x| x.logsumexp(1, false)),
        ],
    );
    both(c, "running sums", (1, 8), &[("rows", |x| x.cumsum(1)), ("columns", |x| x.cumsum(0))]);
}

fn movement(c: &mut Criterion) {
    both(
        c,
        "views and their copies",
        (0, 8),
        &[
            ("transpose", |x| x.t()),
            ("transpose and copy", |x| x.t()?.copy()),
            ("every second column", |x| x.slice(1, 0, x.dims()[1], 2)?.copy()),
        ],
    );
    both(
        c,
        "joining",
        (0, 8),
        &[("concat", |x| ops::concat(&[x, x], 0)), ("stack", |x| ops::stack(&[x, x], 2))],
    );
    let device = device();
    let x = tensor(&device, [4096, 512]);
    let ids: Vec<i64> = (0..1024).map(|i| i * 37 % 4096).collect();
    let ids = Tensor::from_slice(&device, [1024], &ids).expect("memory");
    let spread = ids.unsqueeze(1).and_then(|ids| ids.broadcast_to([1024, 512])?.copy()).expect("memory");
    let rows = x.narrow(0, 0, 1024).expect("inside");
    let mut group = c.benchmark_group("tensor/indices");
    group.throughput(work(0, 8 * 1024 * 512));
    group.bench_function("index_select", |b| b.iter(|| x.index_select(0, &ids).expect("memory")));
    group.bench_function("gather", |b| b.iter(|| x.gather(0, &spread).expect("memory")));
    group.bench_function("scatter_add", |b| b.iter(|| x.scatter_add(0, &spread, &rows).expect("memory")));
    group.finish();
    let x = tensor(&device, [64, 4096]);
    let mut group = c.benchmark_group("tensor/order");
    group.bench_function("sort", |b| b.iter(|| x.sort(1, false).expect("memory")));
    group.bench_function("topk", |b| b.iter(|| x.topk(40, 1, true).expect("memory")));
}

fn products(c: &mut Criterion) {
    let device = device();
    let mut group = c.benchmark_group("tensor/product of two matrices");
    for n in [64, 512] {
        let (x, w) = (tensor(&device, [n, 1024]), tensor(&device, [768, 1024]));
        group.throughput(work(2 * n * 1024 * 768, 4 * (n * 1024 + 768 * 1024 + n * 768)));
        let w = w.t().expect("two dimensions");
        group.bench_function(BenchmarkId::new("matmul", n), |b| b.iter(|| x.matmul(&w).expect("memory")));
        peers::product(&mut group, n, 768, 1024);
    }
    group.finish();
    let mut group = c.benchmark_group("tensor/batched products");
    let (q, k) = (tensor(&device, [8, 16, 64, 64]), tensor(&device, [8, 16, 64, 64]));
    group.throughput(work(2 * 128 * 64 * 64 * 64, 3 * 4 * 128 * 64 * 64));
    group.bench_function("matmul", |b| b.iter(|| q.matmul(&k).expect("memory")));
    group.bench_function("einsum", |b| {
        b.iter(|| ops::einsum("bhqd,bhkd->bhqk", &[&q, &k]).expect("memory"));
    });
}

/// Small and large ones, whose time is that of the kernel on one thread; ours also allocate the result.
fn square_products(c: &mut Criterion) {
    let device = Device::open("auto", Some(1)).expect("every machine has the scalar tier");
    let mut group = c.benchmark_group("tensor/square product on one thread");
    for n in [16, 32, 48, 64, 128, 256, 512, 1024] {
        let (x, w) = (tensor(&device, [n, n]), tensor(&device, [n, n]));
        group.throughput(work(2 * n * n * n, 3 * 4 * n * n));
        group.bench_function(BenchmarkId::new("matmul", n), |b| b.iter(|| x.matmul(&w).expect("memory")));
        peers::square(&mut group, n);
    }
}

/// A layer of a perceptron and its gradients.
fn layer(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.matmul(w)?.silu()?.square()?.mean((), false)
}

fn gradients(c: &mut Criterion) {
    let device = device();
    let (x, w) = (tensor(&device, [64, 512]), tensor(&device, [512, 512]).trainable().expect("floats"));
    let mut group = c.benchmark_group("tensor/gradients");
    group.bench_function("forward", |b| b.iter(|| layer(&x, &w.detach()).expect("memory")));
    group.bench_function("forward and backward", |b| {
        b.iter(|| layer(&x, &w).and_then(|y| y.backward()).expect("memory"));
    });
}

fn rows(c: &mut Criterion) {
    let device: Device = device();
    let weight = tensor(&device, [HIDDEN]);
    let mut group = c.benchmark_group("tensor/rows of a decoder layer");
    for tokens in [1usize, 64] {
        let x = tensor(&device, [tokens, HIDDEN]);
        group.throughput(work(4 * tokens * HIDDEN, 8 * tokens * HIDDEN));
        group.bench_function(BenchmarkId::new("rms_norm", tokens), |b| {
            b.iter(|| ops::rms_norm(&x, &weight, 1e-5).expect("memory"));
        });
        group.bench_function(BenchmarkId::new("quantize_activation", tokens), |b| {
            b.iter(|| Codes::quantize(&x).expect("memory"));
        });
        for (name, kind) in [("glu relu2", Glu::Relu2), ("glu silu", Glu::Silu)] {
            group.bench_function(BenchmarkId::new(name, tokens), |b| {
                b.iter(|| ops::glu(kind, &x, &x).expect("memory"));
            });
        }
    }
}

fn every_function(c: &mut Criterion) {
    let device = device();
    let x = tensor(&device, [32, 1024]);
    let mut group = c.benchmark_group("tensor/every function of one number");
    group.throughput(work(x.shape().len(), 8 * x.shape().len()));
    for op in Unary::ALL {
        group.bench_function(op.name(), |b| b.iter(|| ops::unary(op, &x).expect("memory")));
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = elementwise, along_dimensions, movement, products, square_products, gradients, rows, every_function
}
criterion_main!(benches);
