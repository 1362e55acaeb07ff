//! What the machine offers this process: cores, and memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;
use std::thread;

/// The cores and the memory that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Name of the CPU, or the architecture where the system does not tell it.
    pub model: String,
    /// Hardware threads, within the affinity mask and the cgroup's quota.
    pub usable: usize,
    /// Physical cores among them; `usable` where the system does not tell.
    pub physical: usize,
    /// Memory; none where the system does not tell.
    pub memory: Option<Memory>,
}

/// Main memory in bytes, within the limits of the cgroups that the process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: usize,
    /// What can be had without swapping, counting file pages that can be dropped.
    pub available: usize,
}

/// Whether the processor fetches the lines of a single stream by itself, so that asking for every other one is enough and leaves room for
/// more of them: AMD's with AVX-512 do. A thread of a Zen 4 reads 28.5 GB/s so and 21 if all are asked for, a Zen 3 7.8 and 13.5, a Xeon
/// (Sapphire Rapids) 9.8 and 12.5.
#[cfg(target_arch = "x86_64")]
pub(crate) fn follows_streams() -> bool {
    *AMD_FAMILY != 0 && std::arch::is_x86_feature_detected!("avx512f")
}

/// Whether the processor has units of 256 bits for instructions of 512, as Zen 4 has. Attention to f16 keys and values takes 1.26 us for 32
/// positions of four heads there in registers of 512 bits and 1.09 in such of 256.
#[cfg(target_arch = "x86_64")]
pub(crate) fn computes_in_halves() -> bool {
    *AMD_FAMILY == 0x19
}

/// The family of a processor of AMD, 0 for others.
#[cfg(target_arch = "x86_64")]
static AMD_FAMILY: LazyLock<u32> = LazyLock::new(|| {
    let id = std::arch::x86_64::__cpuid(0);
    if [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() != b"AuthenticAMD" {
        return 0;
    }
    let version = std::arch::x86_64::__cpuid(1).eax;
    (version >> 8 & 15) + (version >> 20 & 255)
});

impl Topology {
    /// Looks at this machine.
    pub fn detect() -> Self {
        Self::read(Path::new("/"), thread::available_parallelism().map_or(1, usize::from))
    }

    /// Reads the `proc` and `sys` folders under `root`, of a process that may run `usable` threads at once.
    pub fn read(root: &Path, usable: usize) -> Self {
        Self {
            model: cpu_model(root).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            usable,
            physical: physical_cores(root)
                .filter(|&cores| cores > 0)
                .map_or(usable, |cores| cores.min(usable)),
            memory: Memory::read(root),
        }
    }

    /// Threads to compute with: one for each physical core, because two on one core share its vector units and caches.
    pub fn default_threads(&self) -> usize {
        self.physical
    }
}

impl Memory {
    /// Looks at this machine again: what is available changes.
    pub fn detect() -> Option<Self> {
        Self::read(Path::new("/"))
    }

    fn read(root: &Path) -> Option<Self> {
        let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
        let kib = |key| field(&info, key).and_then(|kib| kib.checked_mul(1024));
        let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
        let machine = Self { total, available };
        Some(cgroups(root).iter().filter_map(|folder| Self::of_cgroup(folder)).fold(machine, Self::within))
    }

    /// The limit of one cgroup and what is left of it; version 2 of the interface, or version 1.
    fn of_cgroup(folder: &Path) -> Option<Self> {
        let number = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<usize>().ok();
        let total = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
        let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let droppable =
            field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file")).unwrap_or(0);
        Some(Self { total, available: total.saturating_sub(used.saturating_sub(droppable)) })
    }

    fn within(self, outer: Self) -> Self {
        Self { total: self.total.min(outer.total), available: self.available.min(outer.available) }
    }
}

/// Folders of the memory cgroup that the process is in and of all cgroups around it.
///
/// Inside a container the path may be one of the host that is not mounted; then only the folders that exist count.
fn cgroups(root: &Path) -> Vec<PathBuf> {
    let mount = root.join("sys/fs/cgroup");
    let table = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let (_, controllers_and_path) = line.split_once(':')?;
            match controllers_and_path.split_once(':')? {
                ("", path) => Some((mount.clone(), path)),
                (controllers, path) => {
                    controllers.split(',').any(|c| c == "memory").then(|| (mount.join("memory"), path))
                }
            }
        })
        .flat_map(|(base, path)| {
            let leaf = Path::new(path.trim_start_matches('/'));
            leaf.ancestors().map(|folder| base.join(folder)).collect::<Vec<_>>()
        })
        .collect()
}

/// The number after `key` on the line that starts with it.
fn field(text: &str, key: &str) -> Option<usize> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == key).then(|| words.next()?.parse().ok())?
    })
}

fn cpu_model(root: &Path) -> Option<String> {
    let info = fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
    info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    })
}

/// Number of different cores that the allowed hardware threads are on.
fn physical_cores(root: &Path) -> Option<usize> {
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let siblings = |cpu| {
        let file = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        fs::read_to_string(root.join(file)).ok()
    };
    cpu_list(allowed)?.into_iter().map(siblings).collect::<Option<BTreeSet<_>>>().map(|cores| cores.len())
}

/// The numbers of a kernel list such as `0-3,8`.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}
