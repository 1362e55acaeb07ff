//! Prints what the pool and the thread team cost by themselves, as medians of many rounds:
//! `cargo run --release --package bitnet-core --example overheads`.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use bitnet_core::cpu::threads::Threads;
use bitnet_core::cpu::topology::Topology;
use bitnet_core::memory::HybridMemoryPool;

const ROUNDS: usize = 201;
const CALLS: usize = 1000;

fn main() {
    let machine = Topology::detect();
    println!("{}, {} hardware threads, {} cores", machine.model, machine.usable, machine.physical);
    let pool = HybridMemoryPool::host();
    for bytes in [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20] {
        let ns = median_ns(|| drop(black_box(pool.alloc(bytes).expect("a block fits in memory"))));
        println!("alloc + free of {bytes:>8} bytes: {ns:8.1} ns");
    }
    let default = machine.default_threads();
    for n in BTreeSet::from([1, 2.min(default), default]) {
        let threads = Threads::new(n);
        let ns = median_ns(|| threads.run(&|i| _ = black_box(i)));
        println!("empty region on {n} threads: {ns:8.1} ns");
    }
}

/// Median over the rounds of the mean time of a call.
fn median_ns(mut call: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..CALLS).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / CALLS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
