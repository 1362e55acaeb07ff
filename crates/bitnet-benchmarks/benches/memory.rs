//! The pool: allocation and release in all the ways a model needs them, what tracking costs, and giving back.
//!
//! With `--features peers` the process runs on mimalloc, and what is called "system" here is then mimalloc.

use bitnet_benchmarks::criterion;
use bitnet_benchmarks::{replay::Replay, traces};
use bitnet_core::Device;
use bitnet_core::memory::cleanup::{Scheduler, Strategy};
use bitnet_core::memory::pressure::{Monitor, Thresholds};
use bitnet_core::memory::{Block, HybridMemoryPool, Movable, Tracking, patterns};
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

fn align(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/4 KB aligned to");
    let pool = HybridMemoryPool::host();
    for align in [64usize, 256, 4096] {
        group.bench_with_input(BenchmarkId::from_parameter(align), &align, |b, &align| {
            b.iter(|| black_box(pool.alloc_aligned(4 << 10, align).expect("memory")));
        });
    }
}

/// What a forward pass does: many blocks live together.
fn together(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/64 blocks together");
    group.throughput(Throughput::Elements(64));
    let pool = HybridMemoryPool::host();
    for bytes in [256usize, 16 << 10, 256 << 10] {
        group.bench_with_input(BenchmarkId::new("pool", bytes), &bytes, |b, &bytes| {
            b.iter(|| (0..64).map(|_| pool.alloc(bytes).expect("memory")).collect::<Vec<Block>>());
        });
        group.bench_with_input(BenchmarkId::new(SYSTEM, bytes), &bytes, |b, &bytes| {
            b.iter(|| (0..64).map(|_| system(bytes)).collect::<Vec<_>>());
        });
    }
}

fn fresh(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/first block of a pool");
    for bytes in [256usize, 256 << 10] {
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &bytes, |b, &bytes| {
            b.iter(|| HybridMemoryPool::host().alloc(bytes).expect("memory"));
        });
    }
}

/// Blocks of 256 KiB with a hole of that size behind each.
fn with_holes(pool: &HybridMemoryPool, count: usize) -> Vec<Block> {
    let blocks: Vec<Block> = (0..2 * count).map(|_| pool.alloc(256 << 10).expect("memory")).collect();
    blocks.into_iter().step_by(2).collect()
}

fn best_fit(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/200 KB among holes");
    for holes in [16usize, 256] {
        let pool = HybridMemoryPool::host();
        let blocks = with_holes(&pool, holes);
        group.bench_function(BenchmarkId::from_parameter(holes), |b| {
            b.iter(|| black_box(pool.alloc(200 << 10).expect("memory")));
        });
        drop(blocks);
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

/// A prompt of 32 tokens and the tokens after it, on one thread.
fn track_decode(c: &mut Criterion) {
    const TOKENS: usize = 32;
    let mut group = c.benchmark_group("memory/decode tracked at");
    group.throughput(Throughput::Elements(TOKENS as u64));
    for level in [Tracking::Off, Tracking::Records] {
        let device = Device::open("cpu", Some(1)).expect("every machine has a processor");
        device.pool().set_tracking(level);
        let mut engine = traces::books(&device, 512);
        group.bench_function(level.name(), |b| b.iter(|| traces::decode(&mut engine, TOKENS)));
    }
}

/// The steady parts of two recordings, every request by the thread that made it, on one allocator.
fn two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/two threads");
    for (name, recording) in
        [("decode", traces::record_decode(64)), ("training", traces::record_training(4, 2))]
    {
        let replay = Replay::of(&recording);
        group.throughput(Throughput::Elements(replay.allocations() as u64));
        let pool = HybridMemoryPool::host();
        group.bench_function(BenchmarkId::new(name, "pool"), |b| {
            b.iter_custom(|rounds| replay.run(rounds, |bytes| pool.alloc(bytes).expect("memory")));
        });
        group.bench_function(BenchmarkId::new(name, SYSTEM), |b| {
            b.iter_custom(|rounds| replay.run(rounds, system));
        });
    }
}

/// Time in which one thread makes `count` blocks of 4 KB and another frees them.
fn hand_over<B: Send>(count: u64, allocate: impl Fn(usize) -> B + Sync) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        let (to_other, inbox) = sync_channel(64);
        scope.spawn(move || inbox.into_iter().for_each(drop::<B>));
        (0..count).for_each(|_| to_other.send(allocate(4 << 10)).expect("the other thread listens"));
        drop(to_other);
    });
    start.elapsed()
}

fn freed_elsewhere(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/freed by another thread");
    let pool = HybridMemoryPool::host();
    group.bench_function("pool", |b| {
        b.iter_custom(|count| hand_over(count, |bytes| pool.alloc(bytes).expect("memory")));
    });
    group.bench_function(SYSTEM, |b| b.iter_custom(|count| hand_over(count, system)));
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

/// Movable blocks of 64 KiB, every second one of them gone.
fn cut_up(pool: &HybridMemoryPool, count: usize) -> Vec<Movable> {
    let blocks: Vec<_> = (0..2 * count).map(|_| pool.alloc_movable(64 << 10).expect("memory")).collect();
    blocks.into_iter().step_by(2).collect()
}

fn compact(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/compact");
    for count in [16usize, 128] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            let setup = || {
                let pool = HybridMemoryPool::host();
                (cut_up(&pool, count), pool)
            };
            b.iter_batched_ref(setup, |(_, pool)| pool.compact(usize::MAX), BatchSize::PerIteration);
        });
    }
}

fn movable(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/movable block");
    let pool = HybridMemoryPool::host();
    let block = pool.alloc_movable(64 << 10).expect("memory");
    group.bench_function("read", |b| b.iter(|| black_box(block.read()[0])));
    group.bench_function("write", |b| b.iter(|| block.write()[0] = black_box(1)));
    group.bench_function("allocate and free", |b| b.iter(|| pool.alloc_movable(64 << 10).expect("memory")));
}

/// A pool that keeps records of `blocks` live blocks, and as many finished lifetimes.
fn recorded(blocks: usize) -> (HybridMemoryPool, Vec<Block>) {
    let pool = HybridMemoryPool::host();
    pool.set_tracking(Tracking::Records);
    let allocate = |owner| pool.alloc_tagged(4 << 10, owner).expect("memory");
    drop((0..blocks).map(|_| allocate("gone")).collect::<Vec<_>>());
    let live = (0..blocks).map(|_| allocate("live")).collect();
    (pool, live)
}

const RECORDS: [usize; 2] = [16, 1024];

fn snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/snapshot");
    for blocks in RECORDS {
        let (pool, live) = recorded(blocks);
        group.bench_function(BenchmarkId::from_parameter(blocks), |b| b.iter(|| pool.snapshot()));
        drop(live);
    }
}

fn export(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/export");
    for blocks in RECORDS {
        let (pool, live) = recorded(blocks);
        let snapshot = pool.snapshot();
        group.bench_function(BenchmarkId::new("json", blocks), |b| b.iter(|| snapshot.to_json()));
        group.bench_function(BenchmarkId::new("chrome trace", blocks), |b| {
            b.iter(|| snapshot.to_chrome_trace());
        });
        drop(live);
    }
}

fn analyse(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/patterns");
    for blocks in RECORDS {
        let (pool, live) = recorded(blocks);
        let trace = pool.snapshot().trace(0);
        group.throughput(Throughput::Elements(trace.events().len() as u64));
        group.bench_function(BenchmarkId::from_parameter(blocks), |b| b.iter(|| patterns::analyse(&trace)));
        drop(live);
    }
}

fn count(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/statistics");
    let pool = HybridMemoryPool::host();
    let blocks = with_holes(&pool, 64);
    group.bench_function("stats", |b| b.iter(|| pool.stats()));
    group.bench_function("fragmentation", |b| b.iter(|| pool.fragmentation()));
    drop(blocks);
}

fn pressure(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/pressure");
    let pool = HybridMemoryPool::host().with_budget(1 << 30);
    let budget = Monitor::with_source(&pool, Thresholds::default(), Vec::new);
    group.bench_function("of the budget", |b| b.iter(|| budget.check()));
    let machine = Monitor::new(&pool);
    group.bench_function("of the machine", |b| b.iter(|| machine.check()));
}

fn cleanup(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory/cleanup");
    let pool = HybridMemoryPool::host();
    let mut scheduler = Scheduler::new();
    let hour = Duration::from_secs(3600);
    scheduler.add("host", &pool, Strategy::Periodic { every: hour, keep: 0 });
    group.bench_function("nothing due", |b| b.iter(|| scheduler.run(Duration::ZERO, hour)));
    group.bench_function("nothing to give", |b| b.iter(|| pool.trim(usize::MAX)));
    group.bench_function("generation", |b| {
        b.iter_batched(
            || drop(pool.alloc(4 << 20).expect("memory")),
            |()| black_box(pool.trim_generation(0)),
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = allocate, align, together, fresh, best_fit, track, track_decode, two_threads, freed_elsewhere, trim, compact, movable, snapshot, export, analyse,
        count, pressure, cleanup
}
criterion_main!(benches);
