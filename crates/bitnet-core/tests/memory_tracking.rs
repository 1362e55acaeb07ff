//! What a pool remembers about its blocks, and how it tells.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::thread;

use bitnet_core::memory::patterns::{Pattern, analyse};
use bitnet_core::memory::{Block, Change, HybridMemoryPool, Owner, Tracking};
use proptest::prelude::*;
use serde_json::Value;

fn pool(level: Tracking) -> HybridMemoryPool {
    let pool = HybridMemoryPool::host();
    pool.set_tracking(level);
    pool
}

#[test]
fn nothing_is_remembered_at_off() {
    let pool = pool(Tracking::Off);
    let _block = pool.alloc(100).unwrap();
    let snapshot = pool.snapshot();
    assert!(snapshot.live.is_empty() && snapshot.sizes.is_empty());
}

#[test]
fn sizes_are_counted_at_counts() {
    let pool = pool(Tracking::Counts);
    let _kept = pool.alloc(5000).unwrap();
    drop(pool.alloc(5000).unwrap());
    let snapshot = pool.snapshot();
    let size = snapshot.sizes[0];
    assert_eq!((size.up_to, size.allocs, size.frees, size.live_bytes), (8192, 2, 1, 5120));
    assert!(snapshot.live.is_empty());
}

#[test]
fn a_record_tells_size_owner_thread_and_age() {
    let pool = pool(Tracking::Records);
    let _block = thread::Builder::new().name("loader".into()).spawn({
        let pool = pool.clone();
        move || pool.alloc_tagged(5000, "weights").unwrap()
    });
    let _block = _block.unwrap().join().unwrap();
    let snapshot = pool.snapshot();
    let record = &snapshot.live[0];
    assert_eq!((record.bytes, record.capacity, record.owner), (5000, 5120, "weights"));
    assert_eq!(snapshot.threads[record.thread as usize], "loader");
    assert!(record.born + snapshot.age(record) == snapshot.at && record.backtrace.is_none());
    assert_eq!(snapshot.padding(), 120);
}

#[test]
fn debug_adds_where_a_block_was_made() {
    let pool = pool(Tracking::Debug);
    let _block = pool.alloc(100).unwrap();
    let backtrace = pool.snapshot().live[0].backtrace.clone().unwrap();
    assert!(backtrace.to_string().contains("debug_adds_where_a_block_was_made"));
}

#[test]
fn owner_scopes_nest_and_end() {
    let pool = pool(Tracking::Records);
    let mut blocks = Vec::new();
    {
        let _outer = Owner::enter("model");
        blocks.push(pool.alloc(1).unwrap());
        {
            let _inner = Owner::enter("attention");
            blocks.push(pool.alloc(1).unwrap());
        }
        blocks.push(pool.alloc(1).unwrap());
    }
    blocks.push(pool.alloc(1).unwrap());
    let owners: Vec<_> = pool.snapshot().live.iter().map(|record| record.owner).collect();
    assert_eq!(owners, ["model", "attention", "model", ""]);
    assert_eq!(pool.snapshot().owners()["model"].blocks, 2);
}

#[test]
fn a_block_keeps_the_level_it_was_made_at() {
    let pool = pool(Tracking::Records);
    let recorded = pool.alloc(100).unwrap();
    pool.set_tracking(Tracking::Off);
    let unseen = pool.alloc(100).unwrap();
    pool.set_tracking(Tracking::Records);
    drop(unseen);
    assert_eq!(pool.snapshot().live.len(), 1);
    drop(recorded);
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.live.len(), snapshot.finished.len()), (0, 1));
}

#[test]
fn the_history_forgets_the_oldest_and_says_so() {
    let pool = pool(Tracking::Records);
    pool.set_history(160);
    (0..100).for_each(|_| drop(pool.alloc(100).unwrap()));
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.finished.len(), snapshot.forgotten), (10, 90));
    assert!(snapshot.trace(0).events().len() <= 21);
}

proptest! {
    #[test]
    fn records_agree_with_the_blocks_and_the_statistics(
        ops in prop::collection::vec((0..300_000usize, any::<prop::sample::Index>(), any::<bool>()), 1..200),
    ) {
        let pool = pool(Tracking::Records);
        let mut blocks: Vec<Block> = Vec::new();
        for (bytes, victim, free) in ops {
            if free && !blocks.is_empty() {
                blocks.swap_remove(victim.index(blocks.len()));
            } else {
                blocks.push(pool.alloc(bytes).unwrap());
            }
        }
        blocks.retain(|block| !block.is_empty());
        let snapshot = pool.snapshot();
        let mut recorded: Vec<_> = snapshot.live.iter().map(|r| (r.bytes, r.capacity)).collect();
        let mut held: Vec<_> = blocks.iter().map(|b| (b.len(), b.capacity())).collect();
        recorded.sort_unstable();
        held.sort_unstable();
        prop_assert_eq!(recorded, held);
        prop_assert_eq!(snapshot.live.iter().map(|r| r.capacity).sum::<usize>(), snapshot.stats.live);
        prop_assert_eq!(snapshot.sizes.iter().map(|s| s.live_bytes).sum::<usize>(), snapshot.stats.live);
        prop_assert_eq!(snapshot.sizes.iter().map(|s| s.frees).sum::<u64>(), snapshot.finished.len() as u64);
        let cut = snapshot.fragmentation;
        prop_assert_eq!(cut.free + cut.slack, snapshot.stats.cached);
    }
}

#[test]
fn a_lifetime_says_who_made_the_block_and_who_freed_it() {
    let pool = pool(Tracking::Records);
    let block = pool.alloc(100).unwrap();
    let freeing = thread::Builder::new().name("freeing".into()).spawn(move || drop(block));
    freeing.unwrap().join().unwrap();
    drop(pool.alloc(100).unwrap());
    let snapshot = pool.snapshot();
    let [elsewhere, here] = &snapshot.finished[..] else { panic!("{:?}", snapshot.finished) };
    assert_eq!(snapshot.threads[elsewhere.freed_by as usize], "freeing");
    assert_ne!(elsewhere.record.thread, elsewhere.freed_by);
    assert_eq!((here.record.thread, here.freed_by), (elsewhere.record.thread, elsewhere.record.thread));
}

#[test]
fn records_stay_exact_when_blocks_die_on_other_threads() {
    const BLOCKS: usize = if cfg!(miri) { 20 } else { 2000 };
    let pool = pool(Tracking::Records);
    let makers: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || (0..BLOCKS).map(|i| pool.alloc(64 + i).unwrap()).collect::<Vec<_>>())
        })
        .collect();
    let blocks: Vec<Vec<Block>> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
    let ids: BTreeSet<u64> = pool.snapshot().live.iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), 4 * BLOCKS);
    thread::scope(|scope| {
        blocks.into_iter().for_each(|blocks| drop(scope.spawn(move || drop(blocks))));
    });
    let snapshot = pool.snapshot();
    assert_eq!(snapshot.finished.iter().map(|l| l.record.id).collect::<BTreeSet<_>>(), ids);
    assert!(snapshot.live.is_empty() && snapshot.finished.iter().all(|l| l.died >= l.record.born));
}

#[test]
fn json_has_every_record_and_escapes_names() {
    let pool = pool(Tracking::Records);
    let _block = pool.alloc_tagged(100, "a \"quoted\"\nname").unwrap();
    drop(pool.alloc(70_000).unwrap());
    let json: Value = serde_json::from_str(&pool.snapshot().to_json()).unwrap();
    assert_eq!(json["live"][0]["owner"], "a \"quoted\"\nname");
    assert_eq!(json["finished"][0]["capacity"], 73_728);
    assert_eq!(json["stats"]["live"], 128);
    assert_eq!(json["tracking"], "records");
}

#[test]
fn bars_of_the_timeline_do_not_overlap_on_a_row() {
    let pool = pool(Tracking::Records);
    let _first = pool.alloc_tagged(100, "kv").unwrap();
    let second = pool.alloc_tagged(200, "kv").unwrap();
    drop(second);
    let _third = pool.alloc_tagged(300, "kv").unwrap();
    let json: Value = serde_json::from_str(&pool.snapshot().to_chrome_trace()).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).collect::<Vec<_>>();
    let rows: Vec<_> = of("X").iter().map(|bar| bar["tid"].as_u64().unwrap()).collect();
    assert_eq!(rows, [0, 1, 1]);
    let live: Vec<_> = of("C").iter().map(|point| point["args"]["live"].as_u64().unwrap()).collect();
    assert_eq!(live, [128, 384, 128, 448]);
    assert_eq!(of("M")[0]["args"]["name"], "kv");
}

#[test]
fn growth_is_sampled_while_blocks_are_recorded() {
    let pool = pool(Tracking::Records);
    let _block = pool.alloc(3 << 20).unwrap();
    let trace = pool.snapshot().trace(0);
    let growth = trace.events().iter().find(|event| matches!(event.change, Change::Grow { .. })).unwrap();
    let size = 3 << 20;
    assert_eq!(growth.change, Change::Grow { wanted: size, got: size, free: 0, largest_free: 0, held: size });
}

#[test]
fn a_recorded_loop_is_found_to_be_ping_pong() {
    let pool = pool(Tracking::Records);
    for _ in 0..200 {
        let mut block = pool.alloc_tagged(1 << 20, "loop").unwrap();
        block.bytes_mut().unwrap().fill(1);
    }
    let findings = analyse(&pool.snapshot().trace(0));
    let kinds: Vec<_> = findings.iter().map(|finding| finding.evidence.pattern()).collect();
    assert_eq!(kinds, [Pattern::PingPong], "{findings:?}");
}

/// The corners of the area of a series, in the order of the page.
fn areas(page: &str) -> Vec<Vec<[f64; 2]>> {
    let outlines = page.split("points=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let corner = |corner: &str| {
        let (x, y) = corner.split_once(',').unwrap();
        [x.parse().unwrap(), y.parse().unwrap()]
    };
    outlines.map(|outline| outline.split_whitespace().map(corner).collect()).collect()
}

#[test]
fn the_page_draws_what_every_owner_held() {
    let pool = pool(Tracking::Records);
    let _weights = pool.alloc_tagged(3 << 20, "weights").unwrap();
    drop(pool.alloc_tagged(1 << 20, "<hidden>").unwrap());
    let page = pool.snapshot().to_html();
    assert!(page.contains("<td>3.0 MiB<td>3.0 MiB<td>1</tr>"), "weights: at most, now, blocks");
    assert!(page.contains("&lt;hidden><td>1.0 MiB<td>0 B<td>0</tr>") && !page.contains("<hidden>"));
    let areas = areas(&page);
    let height = |area: &[[f64; 2]]| {
        let half = area.len() / 2;
        let heights =
            area[..half].iter().zip(area[half..].iter().rev()).map(|(above, below)| below[1] - above[1]);
        heights.fold(0.0, f64::max)
    };
    let [weights, hidden] = [0, 1].map(|series| height(&areas[series]));
    assert!(areas.len() == 2 && (weights / hidden - 3.0).abs() < 0.01, "{weights} over {hidden}");
}

#[test]
fn the_page_of_an_unused_pool_and_of_many_owners_can_be_drawn() {
    let owners: Vec<&'static str> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].to_vec();
    let pool = pool(Tracking::Records);
    assert!(areas(&pool.snapshot().to_html()).is_empty());
    pool.set_history(16);
    let _blocks: Vec<Block> = owners.iter().map(|owner| pool.alloc_tagged(4096, owner).unwrap()).collect();
    (0..1000).for_each(|_| drop(pool.alloc_tagged(64, "short").unwrap()));
    let page = pool.snapshot().to_html();
    assert_eq!(areas(&page).len(), 8, "seven owners and the others");
    assert!(page.contains("others<td>") && page.contains("older blocks are forgotten"));
}
