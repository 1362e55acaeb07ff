//! The kernels of every tier that this machine has, at sizes of a 2B model, with the threads that `bitnet` would use.

use bitnet_benchmarks::{codes, criterion, device, floats, peers, tensor, work};
use bitnet_core::cpu::{ceilings, kernels::Kernels, threads::Threads, topology::Topology};
use bitnet_core::ops::cache::{CacheType, KvLayer, KvShape};
use bitnet_core::ops::{self, Codes, Glu, PagedSpan};
use bitnet_core::{Device, PackedTensor, Tensor};
use bitnet_quant::{Format, formats::i2s};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// C and F of microsoft/bitnet-b1.58-2B-4T.
const HIDDEN: usize = 2560;
const INTERMEDIATE: usize = 6912;
/// Outputs of the matrices that every tier multiplies with: few, so that the scalar tier comes to an end.
const ROWS: usize = 640;
/// H, K and D.
const HEADS: usize = 20;
const KV_HEADS: usize = 5;
const HEAD_DIM: usize = 128;

/// A device for every tier.
fn tiers() -> impl Iterator<Item = (&'static str, Device)> {
    Kernels::available().map(|tier| {
        let name = format!("cpu/{}", tier.name);
        (tier.name, Device::open(&name, None).expect("the tier is available"))
    })
}

fn ternary(device: &Device, rows: usize, cols: usize) -> PackedTensor {
    let mut bytes = vec![0; rows * cols / 4];
    i2s::pack_codes(&codes(rows * cols), &mut bytes).expect("whole blocks");
    let data = Tensor::from_slice(device, [bytes.len()], &bytes).expect("memory");
    let scale = Tensor::from_slice(device, [1], &[0.02f32]).expect("memory");
    PackedTensor::ternary(rows, cols, data, scale).expect("sizes fit")
}

/// Zeros where nothing can be written in the format: the work is the same.
fn stored(device: &Device, format: Format, rows: usize, cols: usize) -> PackedTensor {
    let mut bytes = vec![0; format.tensor_bytes(rows, cols).expect("whole blocks")];
    let x = floats(cols);
    for row in bytes.chunks_mut(format.tensor_bytes(1, cols).expect("whole blocks")) {
        if format.quantize_row(&x, row).is_err() {
            break;
        }
    }
    let data = Tensor::from_slice(device, [bytes.len()], &bytes).expect("memory");
    PackedTensor::stored(format, rows, cols, data).expect("sizes fit")
}

fn bit_product(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    tokens: usize,
    weight: &PackedTensor,
) {
    let (rows, cols) = (weight.rows(), weight.cols());
    let x = Codes::quantize(&tensor(weight.device(), [tokens, cols])).expect("memory");
    group.throughput(work(2 * tokens * rows * cols, weight.bytes() + tokens * (cols + 4 * rows)));
    group.bench_function(id, |b| b.iter(|| ops::bit_matmul(&x, weight).expect("shapes fit")));
}

fn bit_matmul(c: &mut Criterion) {
    for (name, tokens) in [("backend/bit_matmul decode", 1), ("backend/bit_matmul prefill", 64)] {
        let mut group = c.benchmark_group(name);
        for (tier, device) in tiers() {
            bit_product(
                &mut group,
                BenchmarkId::from_parameter(tier),
                tokens,
                &ternary(&device, ROWS, HIDDEN),
            );
        }
    }
}

/// From the copy that is made for one token.
fn triples(c: &mut Criterion) {
    let mut group = c.benchmark_group("backend/bit_matmul decode of triples");
    for (tier, device) in tiers() {
        let mut weight = ternary(&device, ROWS, HIDDEN);
        weight.add_triples().expect("memory");
        if weight.bytes_for_one() != weight.bytes() {
            bit_product(&mut group, BenchmarkId::from_parameter(tier), 1, &weight);
        }
    }
}

fn bit_matmul_shapes(c: &mut Criterion) {
    let device = device();
    let shapes = [(ROWS, HIDDEN), (HIDDEN, HIDDEN), (INTERMEDIATE, HIDDEN), (HIDDEN, INTERMEDIATE)];
    for (name, tokens) in
        [("backend/bit_matmul decode of shape", 1), ("backend/bit_matmul prefill of shape", 16)]
    {
        let mut group = c.benchmark_group(name);
        for (rows, cols) in shapes {
            let id = BenchmarkId::from_parameter(format!("{rows}x{cols}"));
            bit_product(&mut group, id, tokens, &ternary(&device, rows, cols));
        }
    }
}

fn matmul_t(c: &mut Criterion) {
    for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q6K] {
        let mut group = c.benchmark_group(format!("backend/matmul_t {format}"));
        for tokens in [1, 16] {
            for (tier, device) in tiers() {
                let weight = stored(&device, format, ROWS, HIDDEN);
                let x = tensor(&device, [tokens, HIDDEN]);
                let bytes = weight.bytes() + 4 * tokens * (HIDDEN + ROWS);
                group.throughput(work(2 * tokens * ROWS * HIDDEN, bytes));
                group.bench_function(BenchmarkId::new(tier, tokens), |b| {
                    b.iter(|| ops::matmul_t(&x, &weight).expect("shapes fit"));
                });
            }
            match format {
                Format::F32 => peers::product(&mut group, tokens, ROWS, HIDDEN),
                Format::Q8_0 => peers::quantized_product(&mut group, tokens, ROWS, HIDDEN),
                _ => {}
            }
        }
    }
}

/// A cache of one sequence, filled with `len` positions, and its block table.
fn filled(device: &Device, storage: CacheType, len: usize) -> (KvLayer, Vec<u32>) {
    let shape = KvShape { heads: KV_HEADS, head_dim: HEAD_DIM, storage };
    let blocks: Vec<u32> = (0..len.div_ceil(32) as u32).collect();
    let mut cache = KvLayer::new(device, blocks.len(), shape).expect("memory");
    let kv = tensor(device, [len, KV_HEADS, HEAD_DIM]);
    let span = PagedSpan { len, start: 0, blocks: &blocks };
    ops::kv_store(&kv, &kv, &[span], &mut cache).expect("the blocks exist");
    (cache, blocks)
}

fn cache_name(storage: CacheType) -> &'static str {
    match storage {
        CacheType::F32 => "f32",
        CacheType::F16 => "f16",
        CacheType::Q8_0 => "q8_0",
    }
}

const CACHES: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8_0];
/// Positions before the new tokens.
const DEPTH: usize = 480;

fn attention(c: &mut Criterion) {
    for storage in CACHES {
        let mut group = c.benchmark_group(format!("backend/attention {}", cache_name(storage)));
        for (tokens, (tier, device)) in [1, 32].into_iter().flat_map(|n| tiers().map(move |tier| (n, tier))) {
            let (cache, blocks) = filled(&device, storage, DEPTH + tokens);
            let q = tensor(&device, [tokens, HEADS, HEAD_DIM]);
            let span = PagedSpan { len: tokens, start: DEPTH, blocks: &blocks };
            let seen: usize = (1..=tokens).map(|t| DEPTH + t).sum();
            let bytes = blocks.len() * cache.shape().block_bytes() + 2 * q.bytes();
            group.throughput(work(4 * seen * HEADS * HEAD_DIM, bytes));
            group.bench_function(BenchmarkId::new(tier, tokens), |b| {
                b.iter(|| ops::attention(&q, &[span], &cache).expect("shapes fit"));
            });
        }
    }
}

fn kv_store(c: &mut Criterion) {
    let device = device();
    let mut group = c.benchmark_group("backend/kv_store");
    for storage in CACHES {
        for tokens in [1, 32] {
            let (mut cache, blocks) = filled(&device, storage, tokens);
            let kv = tensor(&device, [tokens, KV_HEADS, HEAD_DIM]);
            let span = PagedSpan { len: tokens, start: 0, blocks: &blocks };
            group.throughput(Throughput::Elements(2 * kv.shape().len() as u64));
            group.bench_function(BenchmarkId::new(cache_name(storage), tokens), |b| {
                b.iter(|| ops::kv_store(&kv, &kv, &[span], &mut cache).expect("shapes fit"));
            });
        }
    }
}

/// One group of an op over rows of `width` elements: every tier, one token and 64. An element costs `operations` and `bytes`.
fn rows<T>(
    c: &mut Criterion,
    name: &str,
    width: usize,
    (operations, bytes): (usize, usize),
    mut op: impl FnMut(&mut Tensor) -> T,
) {
    let mut group = c.benchmark_group(format!("backend/{name}"));
    for tokens in [1, 64] {
        for (tier, device) in tiers() {
            let mut x = tensor(&device, [tokens, width]);
            group.throughput(work(operations * tokens * width, bytes * tokens * width));
            group.bench_function(BenchmarkId::new(tier, tokens), |b| b.iter(|| op(&mut x)));
        }
    }
}

/// `y` on the device of `x`, copied there when another device comes.
fn beside<'a>(x: &Tensor, y: &'a mut Tensor) -> &'a Tensor {
    if !y.device().is_same(x.device()) {
        *y = y.to_device(x.device()).expect("memory");
    }
    y
}

fn elementwise(c: &mut Criterion) {
    let mut weight = tensor(&device(), [HIDDEN]);
    rows(c, "rms_norm", HIDDEN, (4, 8), |x| {
        ops::rms_norm(x, beside(x, &mut weight), 1e-5).expect("shapes fit")
    });
    rows(c, "quantize_activation", HIDDEN, (4, 5), |x| Codes::quantize(x).expect("memory"));
    rows(c, "glu relu2", INTERMEDIATE, (3, 12), |x| ops::glu(Glu::Relu2, x, x).expect("shapes fit"));
    rows(c, "glu silu", INTERMEDIATE, (4, 12), |x| ops::glu(Glu::Silu, x, x).expect("shapes fit"));
    let mut y = tensor(&device(), [64, HIDDEN]);
    rows(c, "add", HIDDEN, (1, 12), |x| {
        let y = beside(x, &mut y).narrow(0, 0, x.shape().rows()).expect("rows");
        x.add_assign(&y).expect("shapes fit");
    });
}

fn rope(c: &mut Criterion) {
    let mut group = c.benchmark_group("backend/rope");
    for tokens in [1, 64] {
        for (tier, device) in tiers() {
            let mut x = Some(tensor(&device, [tokens, HEADS, HEAD_DIM]));
            let (cos, sin) =
                (tensor(&device, [tokens, HEAD_DIM / 2]), tensor(&device, [tokens, HEAD_DIM / 2]));
            let elements = tokens * HEADS * HEAD_DIM;
            group.throughput(work(3 * elements, 8 * elements + 2 * cos.bytes()));
            group.bench_function(BenchmarkId::new(tier, tokens), |b| {
                b.iter(|| x = Some(ops::rope(x.take().expect("put back"), &cos, &sin).expect("shapes fit")));
            });
        }
    }
}

fn softmax(c: &mut Criterion) {
    let mut group = c.benchmark_group("backend/softmax");
    for len in [512, 128_256] {
        let (x, mut y) = (floats(len), vec![0.0; len]);
        group.throughput(Throughput::Elements(len as u64));
        for tier in Kernels::available() {
            group.bench_function(BenchmarkId::new(tier.name, len), |b| b.iter(|| (tier.softmax)(&x, &mut y)));
        }
    }
}

fn halves(c: &mut Criterion) {
    let (mut x, mut bytes) = (floats(HIDDEN), vec![0; 2 * HIDDEN]);
    let mut group = c.benchmark_group("backend/f16");
    group.throughput(Throughput::Elements(HIDDEN as u64));
    for tier in Kernels::available() {
        group.bench_function(BenchmarkId::new("write", tier.name), |b| {
            b.iter(|| (tier.write_f16)(&x, &mut bytes));
        });
        group.bench_function(BenchmarkId::new("read", tier.name), |b| {
            b.iter(|| (tier.read_f16)(&bytes, &mut x))
        });
    }
}

fn embedding(c: &mut Criterion) {
    let device = device();
    let ids: Vec<u32> = (0..64).map(|i| i * 7919 % 4096).collect();
    let mut group = c.benchmark_group("backend/embedding");
    group.throughput(Throughput::Elements((ids.len() * HIDDEN) as u64));
    for format in [Format::F32, Format::F16, Format::Q8_0, Format::Q6K] {
        let table = stored(&device, format, 4096, HIDDEN);
        group.bench_function(format.name(), |b| {
            b.iter(|| ops::embedding(&table, &ids).expect("the ids have rows"))
        });
    }
}

/// Opening and closing a region in which nothing is done.
fn regions(c: &mut Criterion) {
    let usable = Topology::detect().usable;
    let mut group = c.benchmark_group("backend/thread region");
    for n in
        [1, 2, usable].into_iter().filter(|&n| n <= usable.max(2)).collect::<std::collections::BTreeSet<_>>()
    {
        let threads = Threads::new(n);
        group.bench_function(BenchmarkId::new("run", n), |b| {
            b.iter(|| {
                threads.run(&|i| {
                    black_box(i);
                });
            })
        });
        group.bench_function(BenchmarkId::new("share", n), |b| {
            b.iter(|| {
                threads.share(64, &|i| {
                    black_box(i);
                });
            })
        });
    }
    // The others sleep and should cost nothing.
    let two = Threads::new(4).first(2);
    group.bench_function(BenchmarkId::new("run, two of", 4), |b| b.iter(|| two.run(&|i| _ = black_box(i))));
}

/// What the kernels are judged by.
fn ceilings(c: &mut Criterion) {
    let threads = Threads::new(Topology::detect().default_threads());
    let data = vec![1i64; 8 << 20];
    let mut group = c.benchmark_group("backend/ceilings");
    group.throughput(Throughput::Bytes(size_of_val(data.as_slice()) as u64));
    group.bench_function("read bandwidth", |b| b.iter(|| ceilings::read_bandwidth(&threads, &data, 1)));
    for tier in Kernels::available() {
        const ROUNDS: usize = 10_000;
        let multiply_adds = (tier.integer_peak)(1) * (ROUNDS * threads.len()) as u64;
        group.throughput(Throughput::Elements(2 * multiply_adds));
        group.bench_function(BenchmarkId::new("int8", tier.name), |b| {
            b.iter(|| threads.run(&|_| _ = (tier.integer_peak)(ROUNDS)));
        });
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = bit_matmul, triples, bit_matmul_shapes, matmul_t, attention, kv_store, elementwise, rope, softmax, halves, embedding, regions,
        ceilings
}
criterion_main!(benches);
