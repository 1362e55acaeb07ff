//! How often the processor slowed down because it was hot, as Linux counts it on x86.

use super::Reading;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Times that a limit of temperature was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling {
    /// By cores, all together.
    pub core: u64,
    /// By a package: the most that any of its processors counted.
    pub package: u64,
}

/// The counters now; none where the machine has none below `root`, which is `/` on a machine.
pub fn count(root: &Path) -> Option<Throttling> {
    let cpus = fs::read_dir(root.join("sys/devices/system/cpu")).ok()?;
    let counts = cpus.filter_map(|cpu| {
        let folder = cpu.ok()?.path().join("thermal_throttle");
        let number = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        Some((number("core_throttle_count")?, number("package_throttle_count").unwrap_or(0)))
    });
    counts.fold(None, |sum: Option<Throttling>, (core, package)| {
        let sum = sum.unwrap_or_default();
        Some(Throttling { core: sum.core + core, package: sum.package.max(package) })
    })
}

/// What was counted between two moments.
pub fn between(before: Option<Throttling>, after: Option<Throttling>) -> Reading<Throttling> {
    match (before, after) {
        (Some(before), Some(after)) => Reading::Value(Throttling {
            core: after.core.saturating_sub(before.core),
            package: after.package.saturating_sub(before.package),
        }),
        _ => Reading::unavailable("no thermal_throttle in sys/devices/system/cpu"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_added_and_packages_are_not() {
        let root = tempfile::tempdir().unwrap();
        for (cpu, core) in [("cpu0", 3), ("cpu1", 4)] {
            let dir = root.path().join("sys/devices/system/cpu").join(cpu).join("thermal_throttle");
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("core_throttle_count"), format!("{core}\n")).unwrap();
            fs::write(dir.join("package_throttle_count"), "5\n").unwrap();
        }
        let before = Some(Throttling { core: 2, package: 5 });
        let expected = Reading::Value(Throttling { core: 5, package: 0 });
        assert_eq!(between(before, count(root.path())), expected);
    }

    #[test]
    fn no_sensor_is_not_the_same_as_no_throttling() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(between(count(root.path()), count(root.path())), Reading::Unavailable { .. }));
    }
}
