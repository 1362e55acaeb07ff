//! Memory that is trimmed leaves the process. Alone in its binary, because the whole process is measured.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitnet_core::memory::HybridMemoryPool;
use bitnet_core::memory::usage::Linux;

const MIB: usize = 1 << 20;

/// Resident bytes by `/proc/self/statm`, whose second number counts pages of 4 KiB on the machines that tests run on.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn compaction_and_trim_give_the_memory_of_emptied_regions_back() {
    let _alone = alone();
    let pool = HybridMemoryPool::host();
    let blocks: Vec<_> = (0..512).map(|_| pool.alloc_movable(MIB / 4).unwrap()).collect();
    blocks.iter().for_each(|block| block.write().fill(1));
    let kept: Vec<_> = blocks.into_iter().step_by(4).collect();
    let full = resident();
    assert_eq!(pool.trim(usize::MAX), 0, "a block in every region holds it");
    let moved = pool.compact(usize::MAX);
    let given = pool.trim(usize::MAX);
    let left = full.saturating_sub(resident());
    println!("{moved}; {} MiB given back, {} MiB left the process", given / MIB, left / MIB);
    assert_eq!(given, 96 * MIB);
    assert!(left >= 92 * MIB, "{} MiB of 96 left the process", left / MIB);
    assert!(kept.iter().all(|block| block.read().iter().all(|&byte| byte == 1)));
}

#[test]
fn a_discarded_part_of_a_block_leaves_the_process_and_the_rest_stays() {
    let _alone = alone();
    // One that shares an arena and one with a mapping of its own.
    for bytes in [32 * MIB, 96 * MIB] {
        let pool = HybridMemoryPool::host();
        let mut block = pool.alloc(bytes).unwrap();
        block.bytes_mut().unwrap().fill(7);
        let full = resident();
        let part = 3 * MIB + 5..19 * MIB + 7;
        let given = block.discard(part.clone());
        let left = full.saturating_sub(resident());
        assert!(given <= part.len() && given >= part.len() - (128 << 10), "{given}");
        assert!(left.abs_diff(given) < MIB, "{left} of {given}");
        let rest = |byte: &u8| *byte == 7;
        let read = block.bytes().unwrap();
        assert!(read[..part.start].iter().all(rest) && read[part.end..].iter().all(rest));
        block.bytes_mut().unwrap()[part.clone()].fill(9);
        assert!(block.bytes().unwrap()[part].iter().all(|&byte| byte == 9));
        assert_eq!(pool.stats().live, block.capacity());
    }
}

#[test]
fn trim_gives_memory_back_to_the_system() {
    let _alone = alone();
    let pool = HybridMemoryPool::host();
    let sizes = [4 << 10, 40 << 10, 300 << 10, 3 * MIB, 40 * MIB];
    let mut blocks: Vec<_> = sizes
        .iter()
        .flat_map(|&bytes| (0..40 * MIB / bytes).map(move |_| bytes))
        .map(|bytes| pool.alloc(bytes).unwrap())
        .collect();
    blocks.iter_mut().for_each(|block| block.bytes_mut().unwrap().fill(1));
    let full = resident();
    assert!(full.abs_diff(Linux::default().resident().unwrap()) < 4 * MIB);
    drop(blocks);
    let (cached, given) = (pool.stats().cached, pool.trim(usize::MAX));
    assert_eq!(given, cached);
    let left = full - resident();
    println!("{} MiB given back, resident {} -> {} MiB", given / MIB, full / MIB, resident() / MIB);
    assert!(left >= 190 * MIB, "{} MiB of 200 left the process", left / MIB);
}
