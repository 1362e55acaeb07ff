//! Rules about the repository itself: where `unsafe` may stand, and that documents name files and flags that exist.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `unsafe` is allowed.
const UNSAFE: [&str; 6] = [
    "crates/bitnet-benchmarks/src/peers/gemm.rs",
    "crates/bitnet-core/src/buffer.rs",
    "crates/bitnet-core/src/cpu/",
    "crates/bitnet-core/src/memory/",
    "crates/bitnet-core/tests/",
    "crates/bitnet-model/src/weights/mmap.rs",
];
/// Longest file; kernels may be longer.
const LINES: usize = 560;
const KERNEL_LINES: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root().join("crates"), "rs", &mut found);
    let relative = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
    found.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn unsafe_code_is_only_where_it_is_allowed() {
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let uses = code
            .filter(|l| l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"))
            .count();
        let allowed = UNSAFE.iter().any(|place| path.starts_with(place)) || path.ends_with("tests/tree.rs");
        assert!(uses == 0 || allowed, "{path} has {uses} uses of unsafe");
    }
}

#[test]
fn files_stay_small() {
    for (path, text) in sources() {
        let limit = if path.contains("/cpu/") || path.contains("/ops/") { KERNEL_LINES } else { LINES };
        let lines = text.lines().count();
        assert!(lines <= limit, "{path} has {lines} lines");
    }
}

#[test]
fn documents_name_paths_that_exist() {
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    files(&root().join("docs"), "md", &mut documents);
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        for path in quoted
            .filter(|q| q.starts_with("crates/") || q.starts_with("docs/") || q.starts_with("testdata/"))
        {
            let path = path.split([' ', '{', '*']).next().unwrap();
            assert!(root().join(path).exists(), "{}: {path} does not exist", document.display());
        }
    }
}

#[test]
fn documents_name_commands_that_exist() {
    let mut documents = vec![root().join("README.md")];
    files(&root().join("docs"), "md", &mut documents);
    let help = Command::new(env!("CARGO_BIN_EXE_bitnet")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for line in text.lines().filter_map(|l| l.trim_start().strip_prefix("bitnet ")) {
            let command = line.split_whitespace().next().unwrap();
            assert!(help.contains(&format!("\n  {command} ")), "{}: bitnet {command}", document.display());
        }
    }
}
