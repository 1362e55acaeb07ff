//! The pool: a pair of allocation and release at every level of tracking, two threads that exchange blocks, and trim.
//!
//! With `--features peers` the process runs on mimalloc, and what is called "system" here is then mimalloc.

use bitnet_core::memory::{Block, HybridMemoryPool, Tracking};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "peers")]
#[global_allocator]
static PEER: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SYSTEM: &str = if cfg!(feature = "peers") { "mimalloc" } else { "system" };

/// What the pool aligns to, so that the peer has the same task.
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "only its size matters")] [u8; 64]);

fn system(bytes: usize) -> Vec<Line> {
    Vec::with_capacity(bytes.div_ceil(size_of::<Line>()))
}

fn allocate(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/allocate and free");
    let pool = HybridMemoryPool::host();
    for bytes in [256usize, 4 << 10, 16 << 10, 256 << 10, 4 << 20] {
        group.bench_with_input(BenchmarkId::new("pool", bytes), &bytes, |b, &bytes| {
            b.iter(|| black_box(pool.alloc(bytes).expect("memory")));
        });
        group.bench_with_input(BenchmarkId::new(SYSTEM, bytes), &bytes, |b, &bytes| {
            b.iter(|| black_box(system(bytes)));
        });
    }
}

fn track(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/4 KB tracked at");
    for level in [Tracking::Off, Tracking::Counts, Tracking::Records, Tracking::Debug] {
        let pool = HybridMemoryPool::host();
        pool.set_tracking(level);
        group.bench_function(level.name(), |b| b.iter(|| black_box(pool.alloc(4 << 10).expect("memory"))));
    }
}

/// Sizes and slots of a synthetic trace in the manner of a decode: nine in ten blocks are activations of 64 B to 32 KiB,
/// the others are up to 1 MiB; each replaces what its slot held. One in eight dies on the other thread.
fn trace(seed: u64) -> Vec<(usize, usize)> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut size = || if next() % 10 == 0 { (64 << 10) + next() % (960 << 10) } else { 64 << (next() % 10) };
    let sizes: Vec<usize> = (0..20_000).map(|_| size()).collect();
    sizes.into_iter().enumerate().map(|(i, bytes)| (bytes, i * 7 % SLOTS)).collect()
}

const SLOTS: usize = 64;

/// Time in which two threads replay their traces, `rounds` times.
fn replay<B: Send>(rounds: u64, allocate: impl Fn(usize) -> B + Sync) -> Duration {
    let (to_other, from_one) = sync_channel::<B>(SLOTS);
    let (to_one, from_other) = sync_channel::<B>(SLOTS);
    let start = Instant::now();
    thread::scope(|scope| {
        for (seed, outbox, inbox) in [(1, to_other, from_other), (2, to_one, from_one)] {
            let allocate = &allocate;
            let trace = trace(seed);
            scope.spawn(move || {
                let mut slots: Vec<Option<B>> = (0..SLOTS).map(|_| None).collect();
                for &(bytes, slot) in (0..rounds).flat_map(|_| &trace) {
                    let old = slots[slot].replace(allocate(bytes));
                    if let Some(old) = old.filter(|_| slot % 8 == 0) {
                        // A full or closed box means that the block dies here instead.
                        drop(outbox.try_send(old));
                        drop(inbox.try_recv());
                    }
                }
            });
        }
    });
    start.elapsed()
}

fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/two threads");
    group.throughput(Throughput::Elements(2 * 20_000)).sample_size(20);
    let pool = HybridMemoryPool::host();
    group.bench_function("pool", |b| {
        b.iter_custom(|rounds| replay::<Block>(rounds, |bytes| pool.alloc(bytes).expect("memory")));
    });
    group.bench_function(SYSTEM, |b| b.iter_custom(|rounds| replay(rounds, system)));
}

fn trim(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/trim");
    let pool = HybridMemoryPool::host();
    for (name, block, count) in [("shared regions", 256 << 10, 1024), ("regions of their own", 32 << 20, 8)] {
        group.throughput(Throughput::Bytes((block * count) as u64)).sample_size(10);
        // Every page is written, so that the system has something to take back.
        let fill = || {
            let mut blocks: Vec<Block> = (0..count).map(|_| pool.alloc(block).expect("memory")).collect();
            blocks.iter_mut().filter_map(Block::bytes_mut).for_each(|bytes| bytes.fill(1));
        };
        group.bench_function(name, |b| {
            b.iter_batched(fill, |()| black_box(pool.trim(usize::MAX)), BatchSize::PerIteration);
        });
    }
}

criterion_group!(benches, allocate, track, two_threads, trim);
criterion_main!(benches);
