//! Runs a small made-up decode with one mistake in it, and shows what the pool remembers.
//!
//! `cargo run --example memory_tracking_demo --package bitnet-core --release [-- FOLDER]`, where FOLDER receives
//! `memory.html` with a plot, `memory.json` and `timeline.json` for `chrome://tracing`.

use std::error::Error;
use std::path::Path;

use bitnet_core::memory::patterns::analyse;
use bitnet_core::memory::{Block, Bytes, HybridMemoryPool, MemoryError, Owner, Snapshot, Tracking};

const TOKENS: usize = 256;
const LAYERS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = HybridMemoryPool::host();
    pool.set_tracking(Tracking::Records);
    let _weights = load(&pool)?;
    let _forgotten = decode(&pool)?;
    let snapshot = pool.snapshot();
    show(&snapshot);
    if let Some(folder) = std::env::args().nth(1) {
        let folder = Path::new(&folder);
        std::fs::write(folder.join("memory.json"), snapshot.to_json())?;
        std::fs::write(folder.join("timeline.json"), snapshot.to_chrome_trace())?;
        std::fs::write(folder.join("memory.html"), snapshot.to_html())?;
        println!("\nwrote memory.html, memory.json and timeline.json to {}", folder.display());
    }
    Ok(())
}

fn load(pool: &HybridMemoryPool) -> Result<Vec<Block>, MemoryError> {
    let _scope = Owner::enter("weights");
    (0..LAYERS).map(|_| pool.alloc(3 << 20)).collect()
}

/// The mistake: one block of scores in every token is kept, which the caller receives.
fn decode(pool: &HybridMemoryPool) -> Result<Vec<Block>, MemoryError> {
    let mut forgotten = Vec::new();
    for _ in 0..TOKENS {
        for layer in 0..LAYERS {
            let mut hidden = pool.alloc_tagged(40 << 10, "hidden")?;
            let scores = pool.alloc_tagged(16 << 10, "scores")?;
            let bytes = hidden.bytes_mut().into_iter().flatten();
            bytes.for_each(|byte| *byte = byte.wrapping_add(1));
            forgotten.extend((layer == 0).then_some(scores));
        }
    }
    Ok(forgotten)
}

fn show(snapshot: &Snapshot) {
    println!("{TOKENS} tokens, {LAYERS} layers, {:.1?}", snapshot.at);
    println!("\n{}", snapshot.stats);
    let cut = &snapshot.fragmentation;
    let external = 100.0 * cut.external();
    println!("free {} in {} runs, {external:.0} % outside of the longest", Bytes(cut.free), cut.runs);

    println!("\nowner        blocks        live      oldest");
    for (owner, total) in snapshot.owners() {
        let age = format!("{:.1?}", total.oldest);
        println!("{owner:<10} {:>8} {:>11} {age:>11}", total.blocks, Bytes(total.bytes).to_string());
    }
    println!("\n  up to     allocs      frees        live");
    for size in &snapshot.sizes {
        let (up_to, live) = (Bytes(size.up_to).to_string(), Bytes(size.live_bytes).to_string());
        println!("{up_to:>9} {:>8} {:>10} {live:>11}", size.allocs, size.frees);
    }
    println!("\nfindings");
    analyse(&snapshot.trace(0)).iter().for_each(|finding| println!("- {finding}"));
}
