//! The groups of benchmarks by the sources of the six files; `.ci/run` counts those that run.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_benchmarks::file;
use std::collections::BTreeSet;
use std::fs;

const FILES: [&str; 6] = ["backend", "inference", "memory", "quantization", "tensor", "training"];

/// Names of groups in a file: each is a string that begins with that of the file, or, of tensors, the first one that `both` is given.
fn groups(name: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(file(&format!("crates/bitnet-benchmarks/benches/{name}.rs"))).unwrap();
    let strings: Vec<&str> = source.split('"').collect();
    let mut found = BTreeSet::new();
    for (before, string) in strings.iter().zip(&strings[1..]).step_by(2) {
        let of_both = before.trim_end().trim_end_matches("c,").trim_end().ends_with("both(");
        match string.strip_prefix(&format!("{name}/")) {
            Some(group) if !group.contains('{') => found.insert(group.to_owned()),
            None if of_both => found.insert((*string).to_owned()),
            _ => false,
        };
    }
    found
}

#[test]
fn six_files_have_at_least_sixty_groups() {
    let counts = FILES.map(|name| groups(name).len());
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    assert!(counts.iter().sum::<usize>() >= 60, "{counts:?}");
}

#[test]
fn every_file_of_benchmarks_is_counted() {
    let folder = fs::read_dir(file("crates/bitnet-benchmarks/benches")).unwrap();
    let names: BTreeSet<String> =
        folder.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, FILES.map(str::to_owned).into());
}
