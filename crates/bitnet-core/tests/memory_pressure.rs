//! Pressure from budgets, control groups and the machine.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bitnet_core::memory::HybridMemoryPool;
use bitnet_core::memory::pressure::{Monitor, Pressure, Thresholds};
use bitnet_core::memory::usage::{Linux, Scope, Usage};

const MIB: usize = 1 << 20;

/// A machine of 1000 bytes, and the number of them that are used.
fn machine() -> (Arc<AtomicUsize>, Monitor) {
    let used = Arc::new(AtomicUsize::new(0));
    let source = Arc::clone(&used);
    let read = move || vec![Usage { scope: Scope::System, used: source.load(Relaxed), limit: 1000 }];
    (used, Monitor::with_source(&HybridMemoryPool::host(), Thresholds::default(), read))
}

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn levels_rise_at_their_thresholds() {
    for (used, level) in [
        (0, Pressure::None),
        (599, Pressure::None),
        (600, Pressure::Low),
        (750, Pressure::Medium),
        (850, Pressure::High),
        (950, Pressure::Critical),
        (1200, Pressure::Critical),
    ] {
        let (bytes, monitor) = machine();
        bytes.store(used, Relaxed);
        assert_eq!(monitor.check().to, level, "{used}");
    }
}

#[test]
fn a_level_ends_a_margin_below_where_it_began() {
    let (used, monitor) = machine();
    let at = |bytes| {
        used.store(bytes, Relaxed);
        monitor.check().to
    };
    assert_eq!(
        [850, 849, 801, 799].map(at),
        [Pressure::High, Pressure::High, Pressure::High, Pressure::Medium]
    );
    assert_eq!(
        [849, 701, 699, 549].map(at),
        [Pressure::Medium, Pressure::Medium, Pressure::Low, Pressure::None]
    );
}

#[test]
fn flickering_around_a_threshold_calls_once() {
    let (used, monitor) = machine();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    monitor.register(move |_| {
        counter.fetch_add(1, Relaxed);
    });
    for bytes in [749, 751, 749, 751, 749, 751] {
        used.store(bytes, Relaxed);
        monitor.check();
    }
    assert_eq!(calls.load(Relaxed), 2, "to low, then to medium");
}

#[test]
fn callbacks_hear_of_every_change_until_they_are_unregistered() {
    let (used, monitor) = machine();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let registration = monitor.register(move |shift| list.lock().unwrap().push((shift.from, shift.to)));
    for bytes in [700, 960, 960] {
        used.store(bytes, Relaxed);
        monitor.check();
    }
    assert!(monitor.unregister(registration));
    assert!(!monitor.unregister(registration));
    used.store(0, Relaxed);
    monitor.check();
    let expected = [(Pressure::None, Pressure::Low), (Pressure::Low, Pressure::Critical)];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[test]
fn a_callback_may_use_the_monitor() {
    let (used, monitor) = machine();
    let monitor = Arc::new(monitor);
    let inner = Arc::downgrade(&monitor);
    monitor.register(move |shift| {
        let monitor = inner.upgrade().unwrap();
        assert_eq!(monitor.level(), shift.to);
        let other = monitor.register(|_| {});
        assert!(monitor.unregister(other));
        monitor.check();
    });
    used.store(900, Relaxed);
    assert_eq!(monitor.check().to, Pressure::High);
}

#[test]
fn live_bytes_press_on_the_budget_and_cached_ones_do_not() {
    let pool = HybridMemoryPool::host().with_budget(10 * MIB);
    let monitor = Monitor::with_source(&pool, Thresholds::default(), Vec::new);
    let block = pool.alloc(8 * MIB).unwrap();
    let shift = monitor.check();
    assert_eq!(shift.to, Pressure::Medium);
    assert_eq!(shift.tightest(), Some(Usage { scope: Scope::Budget, used: 8 * MIB, limit: 10 * MIB }));
    drop(block);
    assert_eq!(monitor.check().to, Pressure::None);
}

#[test]
fn giving_back_the_excess_ends_the_level() {
    let (used, monitor) = machine();
    used.store(870, Relaxed);
    let shift = monitor.check();
    let excess = monitor.thresholds().excess(&shift.tightest().unwrap(), shift.to);
    used.fetch_sub(excess - 1, Relaxed);
    assert_eq!(monitor.check().to, Pressure::High);
    used.fetch_sub(1, Relaxed);
    assert_eq!(monitor.check().to, Pressure::Medium);
}

#[test]
fn the_machine_is_read_from_meminfo() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "proc/meminfo", "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\n");
    let usage = Usage { scope: Scope::System, used: 600 << 10, limit: 1000 << 10 };
    assert_eq!(Linux::at(root.path()).usages(), [usage]);
}

#[test]
fn the_tightest_group_above_the_process_counts() {
    let root = tempfile::tempdir().unwrap();
    let at = |file: &str, text| write(root.path(), file, text);
    at("proc/self/cgroup", "0::/a/b\n");
    at("sys/fs/cgroup/a/b/memory.max", "max\n");
    at("sys/fs/cgroup/a/b/memory.current", "100\n");
    at("sys/fs/cgroup/a/memory.max", "1000\n");
    at("sys/fs/cgroup/a/memory.current", "900\n");
    at("sys/fs/cgroup/a/memory.stat", "anon 600\ninactive_file 200\nactive_file 100\n");
    let usage = Usage { scope: Scope::Cgroup, used: 700, limit: 1000 };
    assert_eq!(Linux::at(root.path()).cgroup(), Some(usage));
}

#[test]
fn version_1_groups_are_read_where_only_the_group_is_mounted() {
    let root = tempfile::tempdir().unwrap();
    let at = |file: &str, text| write(root.path(), file, text);
    at("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n0::/\n");
    at("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
    at("sys/fs/cgroup/memory/memory.usage_in_bytes", "1024\n");
    assert_eq!(
        Linux::at(root.path()).cgroup(),
        Some(Usage { scope: Scope::Cgroup, used: 1024, limit: 4096 })
    );
}

#[test]
fn a_group_without_a_limit_is_not_counted() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "proc/self/cgroup", "4:memory:/\n0::/\n");
    write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    write(root.path(), "sys/fs/cgroup/memory/memory.usage_in_bytes", "1024\n");
    write(root.path(), "sys/fs/cgroup/memory.max", "max\n");
    assert_eq!(Linux::at(root.path()).usages(), []);
}

#[test]
fn where_nothing_can_be_read_there_is_no_pressure() {
    let root = tempfile::tempdir().unwrap();
    let linux = Linux::at(root.path());
    let pool = HybridMemoryPool::host();
    let monitor = Monitor::with_source(&pool, Thresholds::default(), move || linux.usages());
    assert_eq!(monitor.check().to, Pressure::None);
}
