//! What the process learns about the machine, from copies of the kernel's files.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::PathBuf;

use bitnet_core::cpu::topology::{Memory, Topology};

const GIB: usize = 1 << 30;
const MEMINFO: &str = "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\n";

/// A root folder with these files.
fn machine(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("topology").join(name);
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn memory(name: &str, files: &[(&str, &str)]) -> Option<Memory> {
    let meminfo = [("proc/meminfo", MEMINFO)];
    Topology::read(&machine(name, &[&meminfo, files].concat()), 4).memory
}

const SIBLINGS: [(&str, &str); 4] = [
    ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2\n"),
    ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,3\n"),
    ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2\n"),
    ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "1,3\n"),
];

#[test]
fn siblings_on_one_core_count_once() {
    let allowed = [("proc/self/status", "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n")];
    let topology = Topology::read(&machine("smt", &[&SIBLINGS[..], &allowed].concat()), 4);
    assert_eq!((topology.usable, topology.physical, topology.default_threads()), (4, 2, 2));
}

#[test]
fn cores_outside_the_affinity_mask_do_not_count() {
    let allowed = [("proc/self/status", "Cpus_allowed_list:\t1,3\n")];
    let topology = Topology::read(&machine("mask", &[&SIBLINGS[..], &allowed].concat()), 2);
    assert_eq!((topology.usable, topology.physical), (2, 1));
}

#[test]
fn a_quota_limits_the_cores() {
    let allowed = [("proc/self/status", "Cpus_allowed_list:\t0-3\n")];
    let topology = Topology::read(&machine("quota", &[&SIBLINGS[..], &allowed].concat()), 1);
    assert_eq!((topology.usable, topology.physical), (1, 1));
}

#[test]
fn a_machine_that_tells_nothing_is_taken_as_it_is() {
    let expected =
        Topology { model: std::env::consts::ARCH.to_owned(), usable: 4, physical: 4, memory: None };
    assert_eq!(Topology::read(&machine("silent", &[]), 4), expected);
}

#[test]
fn the_model_is_the_first_processor_s() {
    let info =
        "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some CPU: 9000\nprocessor\t: 1\nmodel name\t: Other\n";
    let topology = Topology::read(&machine("model", &[("proc/cpuinfo", info)]), 4);
    assert_eq!(topology.model, "Some CPU: 9000");
}

#[test]
fn memory_without_limits_is_the_machine_s() {
    assert_eq!(memory("unlimited", &[]), Some(Memory { total: 16 * GIB, available: 8 * GIB }));
}

#[test]
fn the_tightest_of_the_nested_groups_counts() {
    let found = memory(
        "nested",
        &[
            ("proc/self/cgroup", "0::/outer/inner\n"),
            ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
            ("sys/fs/cgroup/outer/inner/memory.current", "1073741824\n"),
            ("sys/fs/cgroup/outer/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/outer/memory.current", "3221225472\n"),
            ("sys/fs/cgroup/outer/memory.stat", "anon 5\ninactive_file 1073741824\n"),
        ],
    );
    assert_eq!(found, Some(Memory { total: 4 * GIB, available: 2 * GIB }));
}

#[test]
fn the_first_version_of_groups_is_read_too() {
    let found = memory(
        "first",
        &[
            ("proc/self/cgroup", "4:memory:/not/mounted/here\n1:cpu:/\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n"),
        ],
    );
    assert_eq!(found, Some(Memory { total: 2 * GIB, available: GIB }));
}

#[test]
fn a_group_above_its_limit_has_nothing_available() {
    let found = memory(
        "above",
        &[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/memory.current", "1073741825\n"),
        ],
    );
    assert_eq!(found, Some(Memory { total: GIB, available: 0 }));
}

#[test]
fn this_machine_has_cores() {
    let topology = Topology::detect();
    assert!(1 <= topology.physical && topology.physical <= topology.usable);
    assert!(!topology.model.is_empty());
}
