//! Cleanup strategies, their scheduler, and compaction.
//!
//! This and the other `memory` tests run under ThreadSanitizer in `.ci/sanitize`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bitnet_core::memory::cleanup::{Scheduler, Strategy};
use bitnet_core::memory::pressure::{Monitor, Thresholds};
use bitnet_core::memory::usage::{Scope, Usage};
use bitnet_core::memory::{HybridMemoryPool, Movable, Tracking};
use proptest::prelude::*;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const AMPLE: Duration = Duration::from_secs(60);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A pool with so many MiB cached, in parts of 8 MiB.
fn with_cached(mib: usize) -> HybridMemoryPool {
    let pool = HybridMemoryPool::host();
    let blocks: Vec<_> = (0..mib / 8).map(|_| pool.alloc(8 * MIB).unwrap()).collect();
    drop(blocks);
    pool
}

fn scheduler(pool: &HybridMemoryPool, strategy: Strategy) -> Scheduler {
    let mut scheduler = Scheduler::new();
    scheduler.add("cpu", pool, strategy);
    scheduler
}

#[test]
fn idle_waits_until_nothing_happened_for_its_time() {
    let pool = with_cached(16);
    let mut scheduler = scheduler(&pool, Strategy::Idle { after: seconds(5) });
    assert!(scheduler.run(seconds(1), AMPLE).is_empty());
    drop(pool.alloc(100).unwrap());
    assert!(scheduler.run(seconds(4), AMPLE).is_empty());
    assert!(scheduler.run(seconds(8), AMPLE).is_empty());
    let reports = scheduler.run(seconds(9), AMPLE);
    assert!(reports[0].released() >= 16 * MIB);
    assert_eq!(pool.stats().cached, 0);
}

#[test]
fn periodic_keeps_what_it_is_told_to() {
    let pool = with_cached(64);
    let mut scheduler = scheduler(&pool, Strategy::Periodic { every: seconds(10), keep: 24 * MIB });
    assert!(scheduler.run(seconds(9), AMPLE).is_empty());
    let reports = scheduler.run(seconds(10), AMPLE);
    assert_eq!((reports[0].released(), pool.stats().cached), (40 * MIB, 24 * MIB));
    assert!(scheduler.run(seconds(19), AMPLE).is_empty(), "not due");
    assert!(scheduler.run(seconds(20), AMPLE).is_empty(), "nothing beyond what is kept");
}

#[test]
fn generational_gives_back_only_what_nobody_touches() {
    let pool = with_cached(32);
    let mut scheduler = scheduler(&pool, Strategy::Generational { every: seconds(1), generations: 2 });
    let mut held = Vec::new();
    for generation in 1..=4 {
        drop(pool.alloc(8 * MIB).unwrap());
        scheduler.run(seconds(generation), AMPLE);
        held.push(pool.stats().held() / MIB);
    }
    assert_eq!(held, [32, 32, 8, 8]);
}

#[test]
fn pressure_gives_back_more_the_higher_it_is() {
    for (used, left) in [(70, 64), (80, 32), (90, 0), (99, 0)] {
        let pool = with_cached(64);
        let read = move || vec![Usage { scope: Scope::System, used, limit: 100 }];
        let monitor = Arc::new(Monitor::with_source(&pool, Thresholds::default(), read));
        scheduler(&pool, Strategy::Pressure { monitor }).run(Duration::ZERO, AMPLE);
        assert_eq!(pool.stats().cached, left * MIB, "{used} % used");
    }
}

#[test]
fn pressure_that_stays_medium_takes_what_is_cached_beyond_the_half_and_no_more() {
    let (pool, used) = (with_cached(64), Arc::new(AtomicU64::new(80)));
    let read = Arc::clone(&used);
    let source = move || vec![Usage { scope: Scope::System, used: read.load(Relaxed) as usize, limit: 100 }];
    let monitor = Arc::new(Monitor::with_source(&pool, Thresholds::default(), source));
    let mut scheduler = scheduler(&pool, Strategy::Pressure { monitor });
    assert_eq!(scheduler.run(Duration::ZERO, AMPLE)[0].released(), 32 * MIB);
    assert!(scheduler.run(seconds(1), AMPLE).is_empty(), "nothing new");
    drop([(); 6].map(|()| pool.alloc(8 * MIB).unwrap()));
    assert_eq!(pool.stats().cached, 48 * MIB);
    assert_eq!(scheduler.run(seconds(2), AMPLE)[0].released(), 16 * MIB);
    used.store(90, Relaxed);
    assert_eq!(scheduler.run(seconds(3), AMPLE)[0].released(), 32 * MIB);
    // High is over, and what is cached from now on stays until it is medium again from below.
    used.store(78, Relaxed);
    drop(pool.alloc(8 * MIB).unwrap());
    assert!(scheduler.run(seconds(4), AMPLE).is_empty());
    for percent in [0, 80] {
        used.store(percent, Relaxed);
        scheduler.run(seconds(5), AMPLE);
    }
    assert_eq!(pool.stats().cached, 0, "a region of 8 MiB goes as a whole");
}

#[test]
fn devices_are_cleaned_apart() {
    let (one, other) = (with_cached(8), with_cached(8));
    let mut scheduler = Scheduler::new();
    for (name, pool) in [("cuda:0", &one), ("cuda:1", &other)] {
        scheduler.add(name, pool, Strategy::Idle { after: Duration::ZERO });
    }
    let reports = scheduler.run_device("cuda:1", Duration::ZERO, AMPLE);
    assert_eq!(reports[0].device, "cuda:1");
    assert_eq!((one.stats().cached, other.stats().cached), (8 * MIB, 0));
}

/// A clock that goes on by a second whenever it is read.
fn ticking() -> impl Fn() -> Duration + Send {
    let now = AtomicU64::new(0);
    move || seconds(now.fetch_add(1, Relaxed))
}

#[test]
fn a_run_stops_at_its_budget_and_the_next_goes_on() {
    let pool = with_cached(256);
    let mut scheduler = Scheduler::with_clock(ticking());
    scheduler.add("cpu", &pool, Strategy::Idle { after: Duration::ZERO });
    let first = &scheduler.run(Duration::ZERO, seconds(3))[0];
    assert_eq!((first.released(), first.complete), (128 * MIB, false));
    let second = &scheduler.run(Duration::ZERO, AMPLE)[0];
    assert_eq!((second.released(), second.complete), (128 * MIB, true));
}

#[test]
fn the_longest_overdue_comes_first() {
    let (late, later) = (with_cached(8), with_cached(8));
    let mut scheduler = Scheduler::with_clock(ticking());
    scheduler.add("late", &late, Strategy::Periodic { every: seconds(9), keep: 0 });
    scheduler.add("later", &later, Strategy::Periodic { every: seconds(5), keep: 0 });
    let reports = scheduler.run(seconds(20), AMPLE);
    assert_eq!(reports.iter().map(|report| &*report.device).collect::<Vec<_>>(), ["later", "late"]);
}

#[test]
fn a_thread_of_its_own_runs_until_it_is_dropped() {
    let pool = with_cached(8);
    let (sender, reports) = mpsc::channel();
    let scheduler = scheduler(&pool, Strategy::Idle { after: Duration::ZERO });
    let background =
        scheduler.spawn(Duration::from_millis(1), AMPLE, move |report| drop(sender.send(report)));
    let report = reports.recv().unwrap();
    assert_eq!(report.released(), 8 * MIB);
    drop(background);
    assert!(reports.recv().is_err(), "the thread has ended");
}

/// Blocks all over some regions, every third of which remains.
fn scattered(pool: &HybridMemoryPool, count: usize) -> Vec<Movable> {
    let blocks: Vec<_> = (0..count).map(|_| pool.alloc_movable(256 * KIB).unwrap()).collect();
    blocks.into_iter().enumerate().filter(|(i, _)| i % 3 == 0).map(|(_, block)| block).collect()
}

fn fill(block: &Movable, value: usize) {
    block.write().iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 7 + value) as u8);
}

fn is_filled(block: &Movable, value: usize) -> bool {
    block.read().iter().enumerate().all(|(i, &byte)| byte == (i / 7 + value) as u8)
}

#[test]
fn compaction_empties_regions_and_keeps_contents() {
    let pool = HybridMemoryPool::host();
    let blocks = scattered(&pool, 96);
    blocks.iter().enumerate().for_each(|(value, block)| fill(block, value));
    assert_eq!(pool.trim(usize::MAX), 0, "a block in every region holds it");
    let done = pool.compact(usize::MAX);
    assert!(done.moved > 0 && done.bytes == done.moved * 256 * KIB && done.busy == 0);
    assert!(done.after.largest_free > done.before.largest_free);
    assert_eq!(pool.trim(usize::MAX), 16 * MIB, "32 blocks of 256 KiB need two of the six regions");
    assert!(blocks.iter().enumerate().all(|(value, block)| is_filled(block, value)));
}

#[test]
fn a_guarded_block_stays_where_it_is() {
    let pool = HybridMemoryPool::host();
    let blocks = scattered(&pool, 96);
    let guard = blocks[31].read();
    let address = guard.as_ptr();
    let done = pool.compact(usize::MAX);
    assert_eq!((done.busy, guard.as_ptr()), (1, address));
}

#[test]
fn compaction_copies_no_more_than_it_may() {
    let pool = HybridMemoryPool::host();
    let _blocks = scattered(&pool, 96);
    assert_eq!(pool.compact(600 * KIB).bytes, 512 * KIB);
}

#[test]
fn moved_blocks_keep_their_records_and_counts() {
    let pool = HybridMemoryPool::host();
    pool.set_tracking(Tracking::Records);
    let blocks = scattered(&pool, 48);
    let before = pool.snapshot();
    pool.compact(usize::MAX);
    let after = pool.snapshot();
    let ids =
        |snapshot: &bitnet_core::memory::Snapshot| snapshot.live.iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
    assert_eq!(before.stats, after.stats);
    drop(blocks);
    assert_eq!(pool.stats().live, 0);
    assert_eq!(pool.trim(usize::MAX), after.stats.held());
}

#[test]
fn the_compact_strategy_reports_the_gain() {
    let pool = HybridMemoryPool::host();
    let blocks = scattered(&pool, 96);
    blocks.iter().for_each(|block| fill(block, 1));
    let strategy = Strategy::Compact { every: seconds(1), fragmentation: 0.3 };
    let report = &scheduler(&pool, strategy).run(seconds(1), AMPLE)[0];
    assert_eq!(report.released(), 16 * MIB);
    assert_eq!(report.copied, report.moved * 256 * KIB);
}

#[test]
fn the_compact_strategy_leaves_what_else_is_cached() {
    let pool = HybridMemoryPool::host();
    let _blocks = scattered(&pool, 96);
    drop([(); 2].map(|()| pool.alloc(32 * MIB).unwrap()));
    let strategy = Strategy::Compact { every: seconds(1), fragmentation: 0.3 };
    let mut scheduler = scheduler(&pool, strategy);
    let report = &scheduler.run(seconds(1), AMPLE)[0];
    assert_eq!(report.released(), 16 * MIB);
    assert_eq!(pool.stats().cached, 64 * MIB);
    assert!(scheduler.run(seconds(2), AMPLE).is_empty(), "packed already");
}

#[test]
fn regions_without_blocks_are_no_fragmentation_and_nothing_is_compacted_for_them() {
    let pool = with_cached(16);
    let block = pool.alloc_movable(256 * KIB).unwrap();
    let cut = pool.fragmentation();
    assert!(cut.free > cut.largest_free && cut.pinned == cut.largest_pinned);
    assert_eq!(cut.external(), 0.0);
    let mut scheduler = scheduler(&pool, Strategy::Compact { every: seconds(1), fragmentation: 0.1 });
    assert!(scheduler.run(seconds(1), AMPLE).is_empty());
    drop(block);
}

#[test]
fn nothing_is_compacted_where_nothing_can_be_moved() {
    let pool = HybridMemoryPool::host();
    let blocks: Vec<_> = (0..96).map(|_| pool.alloc(256 * KIB).unwrap()).collect();
    let _kept: Vec<_> = blocks.into_iter().step_by(3).collect();
    assert!(pool.fragmentation().external() > 0.5);
    let mut scheduler = scheduler(&pool, Strategy::Compact { every: seconds(1), fragmentation: 0.3 });
    assert!(scheduler.run(seconds(1), AMPLE).is_empty());
}

proptest! {
    #[test]
    fn any_compaction_keeps_contents_and_accounts(
        sizes in prop::collection::vec((1..400 * KIB, any::<bool>(), any::<bool>()), 1..60),
        limit in prop_oneof![Just(usize::MAX), 0..4 * MIB],
    ) {
        let pool = HybridMemoryPool::host();
        let all: Vec<_> = sizes.iter().map(|&(bytes, kept, pinned)| {
            (pool.alloc_movable(bytes).unwrap(), kept, pinned.then(|| pool.alloc(bytes).unwrap()))
        }).collect();
        let kept: Vec<_> = all.into_iter().filter(|(_, kept, _)| *kept).collect();
        kept.iter().enumerate().for_each(|(value, (block, ..))| fill(block, value));
        let before = pool.stats();
        let done = pool.compact(limit);
        prop_assert!(done.bytes <= limit);
        prop_assert_eq!(pool.stats(), before);
        prop_assert_eq!((done.after.free, done.after.held), (done.before.free, done.before.held));
        prop_assert!(kept.iter().enumerate().all(|(value, (block, ..))| is_filled(block, value)));
        drop(kept);
        pool.trim(usize::MAX);
        prop_assert_eq!(pool.stats().held(), 0);
    }
}

#[test]
fn readers_and_writers_never_see_a_move() {
    const ROUNDS: usize = if cfg!(miri) { 2 } else { 200 };
    let pool = HybridMemoryPool::host();
    let blocks = scattered(&pool, 48);
    blocks.iter().enumerate().for_each(|(value, block)| fill(block, value));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                pool.compact(usize::MAX);
                drop(pool.alloc_movable(300 * KIB).unwrap());
            }
        });
        for round in 0..ROUNDS {
            let value = round % blocks.len();
            assert!(is_filled(&blocks[value], value));
            fill(&blocks[value], value);
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn an_empty_movable_block_is_empty() {
    let pool = HybridMemoryPool::host();
    let block = pool.alloc_movable(0).unwrap();
    assert!(block.is_empty() && block.read().is_empty());
}
