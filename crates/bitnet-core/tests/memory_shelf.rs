//! Blocks that threads keep, and those that they pass on.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::{Barrier, mpsc};
use std::thread;

use bitnet_core::memory::{Block, HybridMemoryPool};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Each of four threads frees a quarter of a region and goes on living.
#[test]
fn what_threads_keep_is_merged_before_the_pool_grows() {
    let pool = HybridMemoryPool::host();
    let (freed, done) = (mpsc::channel(), Barrier::new(5));
    thread::scope(|scope| {
        for block in [(); 4].map(|()| pool.alloc(MIB).unwrap()) {
            let (freed, done) = (freed.0.clone(), &done);
            scope.spawn(move || {
                drop(block);
                freed.send(()).unwrap();
                done.wait();
            });
        }
        (0..4).for_each(|_| freed.1.recv().unwrap());
        // Those are then kept by this thread.
        drop([960; 4].map(|kib| pool.alloc(kib * KIB).unwrap()));
        let _blocks = [1000, 900, 1000, 900].map(|kib| pool.alloc(kib * KIB).unwrap());
        assert_eq!(pool.stats().system_allocs, 1);
        done.wait();
    });
}

/// Of what a thread has not yet told, nothing gets lost when a block that is too large to keep goes back.
#[test]
fn the_peak_counts_a_small_block_beside_a_huge_one() {
    let pool = HybridMemoryPool::host();
    let huge = pool.alloc(16 * MIB).unwrap();
    let small = pool.alloc(100 * KIB).unwrap();
    let peak = huge.capacity() + small.capacity();
    drop(huge);
    assert_eq!((pool.stats().peak, pool.stats().live), (peak, small.capacity()));
}

/// More than a thread keeps, of blocks from slabs and of others.
fn many(pool: &HybridMemoryPool) -> Vec<Block> {
    [60 * KIB, MIB].iter().flat_map(|&bytes| (0..80).map(move |_| pool.alloc(bytes).unwrap())).collect()
}

#[test]
fn what_one_thread_frees_another_takes() {
    let pool = HybridMemoryPool::host();
    let (blocks, freed, end) = (many(&pool), Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            drop(blocks);
            freed.wait();
            end.wait();
        });
        freed.wait();
        let asked = pool.stats().system_allocs;
        drop(many(&pool));
        let stats = pool.stats();
        end.wait();
        assert_eq!((stats.system_allocs, stats.hits + stats.misses, stats.live), (asked, 320, 0));
    });
    pool.trim(usize::MAX);
    assert_eq!(pool.stats().cached, 0);
}
