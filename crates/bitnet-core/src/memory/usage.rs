//! How much memory is used and how much there is: of the machine, of the cgroup, of this process.

use std::fs;
use std::path::{Path, PathBuf};

/// What a limit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The budget of a pool.
    Budget,
    /// The control group of this process, as a container sets it.
    Cgroup,
    /// The whole machine.
    System,
}

impl Scope {
    /// What it is in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Budget => "the budget",
            Self::Cgroup => "the control group",
            Self::System => "the machine",
        }
    }
}

/// Bytes used, and the most that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What they belong to.
    pub scope: Scope,
    /// Bytes in use that cannot be taken back without loss.
    pub used: usize,
    /// Bytes that there are.
    pub limit: usize,
}

impl Usage {
    /// The share in use; 1 where there is nothing.
    pub fn share(&self) -> f64 {
        match self.limit {
            0 => 1.0,
            limit => self.used as f64 / limit as f64,
        }
    }
}

/// What Linux tells about memory, below a root that tests replace. Elsewhere the files are missing and nothing is told.
#[derive(Clone, Debug)]
pub struct Linux {
    root: PathBuf,
}

impl Default for Linux {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Linux {
    /// Reads `proc` and `sys` below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The machine and the tightest cgroup, as far as they can be read.
    pub fn usages(&self) -> Vec<Usage> {
        self.cgroup().into_iter().chain(self.system()).collect()
    }

    /// The machine: all but what the kernel estimates as available.
    pub fn system(&self) -> Option<Usage> {
        let text = fs::read_to_string(self.root.join("proc/meminfo")).ok()?;
        let bytes = |key| Some(keyed(&text, key)?.saturating_mul(1024));
        let (limit, available) = (bytes("MemTotal:")?, bytes("MemAvailable:")?);
        Some(Usage { scope: Scope::System, used: limit.saturating_sub(available), limit })
    }

    /// The control group, of version 2 or 1, that is the closest to its limit: that of this process or one above it.
    pub fn cgroup(&self) -> Option<Usage> {
        let text = fs::read_to_string(self.root.join("proc/self/cgroup")).ok()?;
        let groups = text.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let files = match controllers {
                "" => &V2,
                list if list.split(',').any(|name| name == "memory") => &V1,
                _ => return None,
            };
            Some((files, path.trim_start_matches('/')))
        });
        let usages = groups.flat_map(|(files, path)| {
            // The path may be that of the host while only the group itself is mounted: the root then speaks for it.
            Path::new(path).ancestors().filter_map(|path| files.read(&self.root, path)).collect::<Vec<_>>()
        });
        usages.max_by(|a, b| a.share().total_cmp(&b.share()))
    }

    /// Bytes of this process that are in memory.
    pub fn resident(&self) -> Option<usize> {
        let text = fs::read_to_string(self.root.join("proc/self/status")).ok()?;
        Some(keyed(&text, "VmRSS:")?.saturating_mul(1024))
    }
}

/// Where a version of cgroups keeps its numbers.
struct Files {
    mount: &'static str,
    limit: &'static str,
    used: &'static str,
    /// Key, in `memory.stat`, of the file pages that the kernel drops first. As in Kubernetes' "working set", they
    /// do not count as used.
    droppable: &'static str,
}

const V2: Files =
    Files { mount: "sys/fs/cgroup", limit: "memory.max", used: "memory.current", droppable: "inactive_file" };
const V1: Files = Files {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    droppable: "total_inactive_file",
};
/// Version 1 says "no limit" with the largest number of whole pages.
const UNLIMITED: usize = 1 << 60;

impl Files {
    fn read(&self, root: &Path, group: &Path) -> Option<Usage> {
        let folder = root.join(self.mount).join(group);
        let number = |file| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<usize>().ok();
        let limit = number(self.limit).filter(|&limit| limit < UNLIMITED)?;
        let droppable = fs::read_to_string(folder.join("memory.stat")).ok();
        let droppable = droppable.and_then(|text| keyed(&text, self.droppable)).unwrap_or(0);
        Some(Usage { scope: Scope::Cgroup, used: number(self.used)?.saturating_sub(droppable), limit })
    }
}

/// The number that follows `key` at the start of a line.
fn keyed(text: &str, key: &str) -> Option<usize> {
    let mut words = text.lines().map(str::split_whitespace);
    words.find_map(|mut words| (words.next()? == key).then(|| words.next()?.parse().ok())?)
}
