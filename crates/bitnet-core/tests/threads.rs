//! The fork-join pool and the ways to share work over it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bitnet_core::cpu::partition::{Columns, split};
use bitnet_core::cpu::threads::Threads;
use proptest::prelude::*;

/// Few threads, more threads than cores, and a number that divides nothing.
const TEAMS: [usize; 5] = [1, 2, 3, 7, 16];

#[test]
fn every_part_runs_once_in_every_region() {
    for n in TEAMS {
        let threads = Threads::new(n);
        let runs: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
        for region in 1..=200 {
            threads.run(&|i| {
                runs[i].fetch_add(1, Relaxed);
            });
            assert!(runs.iter().all(|run| run.load(Relaxed) == region), "region {region} on {n} threads");
        }
    }
}

#[test]
fn parts_run_on_different_threads() {
    let threads = Threads::new(4);
    let ids = Mutex::new(Vec::new());
    threads.run(&|_| ids.lock().unwrap().push(thread::current().id()));
    let ids = ids.into_inner().unwrap();
    assert!((0..4).all(|i| !ids[..i].contains(&ids[i])));
}

#[test]
fn regions_of_the_first_threads_are_for_them_alone() {
    let team = Threads::new(7);
    for n in [7, 2, 1, 5, 3, 7, 6, 1, 2, 4].into_iter().cycle().take(500) {
        let runs: Vec<_> = (0..7).map(|_| AtomicUsize::new(0)).collect();
        let first = team.first(n);
        first.run(&|i| _ = runs[i].fetch_add(1, Relaxed));
        assert!(runs.iter().enumerate().all(|(i, run)| run.load(Relaxed) == usize::from(i < n)), "{n} of 7");
        let parts = AtomicUsize::new(0);
        first.share(n + 3, &|i| _ = parts.fetch_add(i, Relaxed));
        assert_eq!(parts.into_inner(), (n + 3) * (n + 2) / 2);
    }
    assert_eq!([0, 1, 7, 9].map(|n| team.first(n).len()), [1, 1, 7, 7]);
}

#[test]
fn the_first_threads_may_outlive_the_handle_of_all() {
    let first = Threads::new(4).first(2);
    let sum = AtomicUsize::new(0);
    first.run(&|i| _ = sum.fetch_add(i + 1, Relaxed));
    assert_eq!(sum.into_inner(), 3);
}

/// Nanoseconds that a thread of this process was on a core.
#[cfg(target_os = "linux")]
fn time_on_a_core(thread: &std::path::Path) -> u64 {
    let text = std::fs::read_to_string(std::path::Path::new("/proc").join(thread).join("schedstat"));
    text.expect("a thread").split(' ').next().expect("a figure").parse().expect("nanoseconds")
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_no_region_is_for_sleep() {
    let team = Threads::new(3);
    let ids: Vec<_> = (0..3).map(|_| Mutex::new(std::path::PathBuf::new())).collect();
    team.run(&|i| *ids[i].lock().unwrap() = std::fs::read_link("/proc/thread-self").unwrap());
    let idle = ids[2].lock().unwrap().clone();
    // They stay awake for a while after their last region.
    thread::sleep(Duration::from_millis(50));
    let (before, begin) = (time_on_a_core(&idle), std::time::Instant::now());
    let two = team.first(2);
    while begin.elapsed() < Duration::from_millis(300) {
        two.run(&|_| ());
    }
    assert!(time_on_a_core(&idle) - before < 10_000_000, "a tenth of the time that the others work");
    team.run(&|i| *ids[i].lock().unwrap() = "here".into());
    assert!(ids.iter().all(|id| id.lock().unwrap().as_os_str() == "here"), "it wakes up");
}

#[test]
fn ranges_that_are_shared_cover_everything_once_at_multiples_of_the_grain() {
    for n in TEAMS {
        let threads = Threads::new(n);
        for (len, grain) in [(0, 1), (1, 1), (100, 7), (6912, 16), (48, 48), (49, 48)] {
            let mut seen: Vec<_> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            threads.share_range(len, grain, &|range| {
                let cut = |at: usize| at == len || at.is_multiple_of(grain);
                assert!(cut(range.start) && cut(range.end), "{range:?}");
                assert!(!range.is_empty());
                seen[range].iter().for_each(|seen| _ = seen.fetch_add(1, Relaxed));
            });
            assert!(seen.iter_mut().all(|seen| *seen.get_mut() == 1), "{len} by {grain} on {n} threads");
        }
    }
}

#[test]
fn a_team_of_none_is_the_caller() {
    let threads = Threads::new(0);
    let caller = thread::current().id();
    assert_eq!(threads.len(), 1);
    threads.run(&|i| assert_eq!((i, thread::current().id()), (0, caller)));
}

#[test]
fn sleeping_workers_wake_for_a_region() {
    let threads = Threads::new(3);
    let sum = AtomicUsize::new(0);
    for _ in 0..5 {
        // Far beyond the time that workers spin.
        thread::sleep(Duration::from_millis(30));
        threads.run(&|i| {
            sum.fetch_add(i, Relaxed);
        });
    }
    assert_eq!(sum.into_inner(), 5 * 3);
}

#[test]
fn the_caller_sleeps_until_a_slow_part_is_done() {
    let threads = Threads::new(2);
    let done = AtomicUsize::new(0);
    threads.run(&|i| {
        thread::sleep(Duration::from_millis(30 * i as u64));
        done.fetch_add(1, Relaxed);
    });
    assert_eq!(done.into_inner(), 2);
}

#[test]
fn the_panic_of_any_part_reaches_the_caller_and_the_team_goes_on() {
    let threads = Threads::new(4);
    for culprit in 0..4 {
        let finished = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            threads.run(&|i| {
                assert!(i != culprit, "part {i} fails");
                finished.fetch_add(1, Relaxed);
            });
        }));
        let payload = result.expect_err("the part panics");
        assert_eq!(payload.downcast_ref::<String>().unwrap(), &format!("part {culprit} fails"));
        assert_eq!(finished.into_inner(), 3, "the other parts are done by then");
    }
    let parts = AtomicUsize::new(0);
    threads.run(&|_| {
        parts.fetch_add(1, Relaxed);
    });
    assert_eq!(parts.into_inner(), 4);
}

#[test]
fn all_parts_may_panic_at_once() {
    let threads = Threads::new(4);
    for _ in 0..20 {
        let result = catch_unwind(AssertUnwindSafe(|| threads.run(&|i| panic!("part {i}"))));
        assert_eq!(result.unwrap_err().downcast_ref::<String>().unwrap(), "part 0");
    }
}

#[test]
fn a_region_inside_a_region_runs_inline() {
    let threads = Threads::new(3);
    let runs = AtomicUsize::new(0);
    threads.run(&|_| {
        let outer = thread::current().id();
        threads.run(&|_| {
            assert_eq!(thread::current().id(), outer);
            runs.fetch_add(1, Relaxed);
        });
    });
    assert_eq!(runs.into_inner(), 9);
}

#[test]
fn concurrent_callers_take_turns() {
    let threads = Threads::new(3);
    let inside = AtomicUsize::new(0);
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    threads.run(&|_| {
                        assert!(inside.fetch_add(1, Relaxed) < 3, "two regions at once");
                        total.fetch_add(1, Relaxed);
                        inside.fetch_sub(1, Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 4 * 50 * 3);
}

#[test]
fn shared_parts_run_once_whoever_comes() {
    for n in TEAMS {
        let threads = Threads::new(n);
        let parts = 2 * n + 1;
        let runs: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        for region in 1..=200 {
            threads.share(parts, &|i| {
                runs[i].fetch_add(1, Relaxed);
            });
            assert!(runs.iter().all(|run| run.load(Relaxed) == region), "region {region} on {n} threads");
        }
    }
}

#[test]
fn the_panic_of_a_shared_part_reaches_the_caller() {
    let threads = Threads::new(4);
    for _ in 0..20 {
        let result = catch_unwind(AssertUnwindSafe(|| threads.share(8, &|i| assert!(i != 5, "part 5"))));
        assert_eq!(*result.unwrap_err().downcast_ref::<&str>().unwrap(), "part 5");
    }
}

#[test]
fn teams_come_and_go_without_a_region() {
    for n in TEAMS {
        assert_eq!(Threads::new(n).len(), n);
    }
}

#[test]
fn every_item_runs_once() {
    for n in TEAMS {
        let threads = Threads::new(n);
        for items in [0, 1, 2, 100] {
            let runs: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            threads.for_each_item(items, |item| {
                runs[item].fetch_add(1, Relaxed);
            });
            assert!(runs.iter().all(|run| run.load(Relaxed) == 1), "{items} items on {n} threads");
        }
    }
}

#[test]
fn ranges_cover_everything_once_and_are_cut_at_the_grain() {
    for n in TEAMS {
        let threads = Threads::new(n);
        for (len, grain) in [(0, 4), (3, 4), (4, 4), (5, 4), (1000, 1), (1000, 16), (1000, 300)] {
            let ranges = Mutex::new(Vec::new());
            threads.for_each_range(len, grain, |range| ranges.lock().unwrap().push(range));
            let mut ranges = ranges.into_inner().unwrap();
            ranges.sort_by_key(|range| range.start);
            assert!(ranges.len() <= n);
            assert!(ranges.iter().all(|range| !range.is_empty() && range.start % grain == 0));
            let all: Vec<_> = ranges.into_iter().flatten().collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
    }
}

#[test]
fn chunks_are_written_once_by_their_index() {
    for n in TEAMS {
        let threads = Threads::new(n);
        for (len, chunk_len) in [(0, 3), (1, 3), (7, 3), (99, 10), (100, 10), (64, 1)] {
            let expected: Vec<_> = (0..len).map(|element| 1 + element / chunk_len).collect();
            let (mut fixed, mut free) = (vec![0; len], vec![0; len]);
            let add = |index: usize, chunk: &mut [usize]| chunk.iter_mut().for_each(|x| *x += 1 + index);
            threads.for_each_chunk_mut(&mut fixed, chunk_len, add);
            threads.for_each_item_mut(&mut free, chunk_len, add);
            assert_eq!(fixed, expected, "{len} in {chunk_len}s on {n} threads");
            assert_eq!(free, expected, "{len} in {chunk_len}s on {n} threads");
        }
    }
}

#[test]
fn columns_are_written_once_and_cut_at_the_alignment() {
    for n in TEAMS {
        let threads = Threads::new(n);
        for (rows, stride, align) in [(0, 8, 4), (1, 1, 1), (3, 50, 16), (5, 64, 16), (2, 7, 1), (4, 0, 4)] {
            let mut out = vec![0.0; rows * stride];
            threads.for_each_columns(&mut out, stride, align, |mut columns| {
                let range = columns.range();
                assert_eq!(range.start % align, 0);
                for t in 0..columns.rows() {
                    for (x, column) in columns.row_mut(t).iter_mut().zip(range.clone()) {
                        *x += (t * stride + column) as f32;
                    }
                }
            });
            let expected: Vec<_> = (0..rows * stride).map(|element| element as f32).collect();
            assert_eq!(out, expected, "{rows} x {stride} on {n} threads");
        }
    }
}

#[test]
fn a_single_thread_has_all_columns() {
    let mut out = [1.0; 6];
    let mut columns = Columns::new(&mut out, 3).whole();
    columns.row_mut(1).fill(2.0);
    assert_eq!((columns.rows(), columns.range()), (2, 0..3));
    assert_eq!(out, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
}

#[test]
#[should_panic(expected = "whole rows of 4")]
fn a_matrix_of_broken_rows_is_refused() {
    Columns::new(&mut [0.0; 6], 4);
}

#[test]
#[should_panic(expected = "row 2 of 2")]
fn a_row_outside_the_matrix_is_refused() {
    Columns::new(&mut [0.0; 6], 3).whole().row_mut(2);
}

proptest! {
    #[test]
    fn shares_are_contiguous_even_and_whole(n in 0usize..5000, parts in 1usize..40, multiple in 1usize..200) {
        let shares: Vec<_> = (0..parts).map(|i| split(n, parts, i, multiple)).collect();
        prop_assert_eq!(shares[0].start, 0);
        prop_assert_eq!(shares[parts - 1].end, n);
        prop_assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
        prop_assert!(shares.iter().all(|share| share.start % multiple == 0 || share.start == n));
        let units = |i: usize| shares[i].len().div_ceil(multiple);
        prop_assert!((0..parts).all(|i| units(0) - units(i) <= 1));
    }
}
