//! Memory that is trimmed leaves the process. Alone in its binary, because the whole process is measured.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;

use bitnet_core::memory::HybridMemoryPool;
use bitnet_core::memory::usage::Linux;

const MIB: usize = 1 << 20;

/// Resident bytes by `/proc/self/statm`, whose second number counts pages of 4 KiB on the machines that tests run on.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn trim_gives_memory_back_to_the_system() {
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
