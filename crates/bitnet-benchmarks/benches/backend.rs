//! The matrix products of every tier that this machine has.

use bitnet_benchmarks::{codes, floats};
use bitnet_core::{
    Device, PackedTensor, Tensor,
    cpu::kernels::Kernels,
    ops::{self, Codes},
};
use bitnet_quant::{Format, formats::i2s};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 2560;
const COLS: usize = 2560;

fn ternary(device: &Device) -> PackedTensor {
    let mut bytes = vec![0; ROWS * COLS / 4];
    i2s::pack_codes(&codes(ROWS * COLS), &mut bytes).expect("whole blocks");
    let data = Tensor::from_slice(device, [bytes.len()], &bytes).expect("memory");
    let scale = Tensor::from_slice(device, [1], &[0.02f32]).expect("memory");
    PackedTensor::ternary(ROWS, COLS, data, scale).expect("sizes fit")
}

fn half(device: &Device) -> PackedTensor {
    let mut bytes = vec![0; ROWS * COLS * 2];
    Format::F16.quantize_row(&floats(ROWS * COLS), &mut bytes).expect("finite");
    let data = Tensor::from_slice(device, [bytes.len()], &bytes).expect("memory");
    PackedTensor::stored(Format::F16, ROWS, COLS, data).expect("sizes fit")
}

fn products(c: &mut Criterion) {
    for tier in Kernels::available() {
        let device = Device::open(&format!("cpu/{}", tier.name), None).expect("the tier is available");
        let (ternary, half) = (ternary(&device), half(&device));
        let mut group = c.benchmark_group(device.name().to_owned());
        for tokens in [1usize, 64] {
            let x = Tensor::from_slice(&device, [tokens, COLS], &floats(tokens * COLS)).expect("memory");
            let codes = Codes::quantize(&x).expect("memory");
            group.throughput(Throughput::Elements((tokens * ROWS * COLS) as u64));
            group.bench_function(BenchmarkId::new("bit_matmul", tokens), |b| {
                b.iter(|| ops::bit_matmul(&codes, &ternary))
            });
            group.bench_function(BenchmarkId::new("matmul_t f16", tokens), |b| {
                b.iter(|| ops::matmul_t(&x, &half))
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = products
}
criterion_main!(benches);
