//! The pool against the system allocator.

use bitnet_core::memory::HybridMemoryPool;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn allocate(c: &mut Criterion) {
    let mut group = c.benchmark_group("allocate and free");
    let pool = HybridMemoryPool::host();
    for bytes in [256usize, 16 << 10, 1 << 20] {
        group.bench_with_input(BenchmarkId::new("pool", bytes), &bytes, |b, &bytes| {
            b.iter(|| black_box(pool.alloc(bytes).expect("memory")));
        });
        group.bench_with_input(BenchmarkId::new("system", bytes), &bytes, |b, &bytes| {
            b.iter(|| black_box(Vec::<u8>::with_capacity(bytes)));
        });
    }
}

criterion_group!(benches, allocate);
criterion_main!(benches);
