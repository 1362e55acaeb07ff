//! Energy of the processor by RAPL, as Linux shows it under `sys/class/powercap`
//! (kernel documentation: "Power Capping Framework").

use super::Reading;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Energy of a part of the processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Such as `package-0`, or `package-0/dram` for a part of it.
    pub name: String,
    /// Joules of the run.
    pub joules: f64,
}

/// A counter that only rises, up to where it starts again from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counter {
    name: String,
    path: PathBuf,
    microjoules: u64,
    range: u64,
}

/// The counters at the start of a run.
#[derive(Debug)]
pub struct Rapl(Reading<Vec<Counter>>);

impl Rapl {
    /// Reads the counters below `root`, which is `/` on a machine.
    pub fn start(root: &Path) -> Self {
        let folder = root.join("sys/class/powercap");
        Self(match counters(&folder) {
            Ok(counters) if counters.is_empty() => {
                Reading::unavailable("no RAPL domain in sys/class/powercap")
            }
            Ok(counters) => Reading::Value(counters),
            Err(error) => Reading::unavailable(format!("RAPL in sys/class/powercap: {error}")),
        })
    }

    /// Joules since the start. A counter that came round more than once meanwhile, which takes many minutes at full power,
    /// cannot be told from one that did so once.
    pub fn stop(&self) -> Reading<Vec<Domain>> {
        let counters = match &self.0 {
            Reading::Value(counters) => counters,
            Reading::Unavailable { unavailable } => return Reading::unavailable(unavailable),
        };
        let domain = |counter: &Counter| {
            let now = number(&counter.path.join("energy_uj"))?;
            let joules = 1e-6 * since(counter.microjoules, now, counter.range) as f64;
            Ok(Domain { name: counter.name.clone(), joules })
        };
        match counters.iter().map(domain).collect::<io::Result<_>>() {
            Ok(domains) => Reading::Value(domains),
            Err(error) => Reading::unavailable(format!("RAPL in sys/class/powercap: {error}")),
        }
    }
}

/// How far a counter came that starts again from zero behind `range`.
fn since(start: u64, now: u64, range: u64) -> u64 {
    if now >= start { now - start } else { range.saturating_sub(start).saturating_add(now) }
}

/// The domains of the folder. `intel-rapl-mmio` has the same ones a second time.
fn counters(folder: &Path) -> io::Result<Vec<Counter>> {
    let mut names: Vec<String> =
        fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("intel-rapl:"));
    names.sort();
    names.iter().map(|name| counter(folder, name)).collect()
}

fn counter(folder: &Path, id: &str) -> io::Result<Counter> {
    let text = |id: &str| fs::read_to_string(folder.join(id).join("name")).map(|name| name.trim().to_owned());
    let name = match id.rsplit_once(':') {
        Some((parent, _)) if parent.contains(':') => format!("{}/{}", text(parent)?, text(id)?),
        _ => text(id)?,
    };
    let path = folder.join(id);
    let (microjoules, range) = (number(&path.join("energy_uj"))?, number(&path.join("max_energy_range_uj"))?);
    Ok(Counter { name, path, microjoules, range })
}

fn number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?
        .trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, id: &str, name: &str, microjoules: u64) {
        let dir = root.join("sys/class/powercap").join(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name"), format!("{name}\n")).unwrap();
        fs::write(dir.join("energy_uj"), format!("{microjoules}\n")).unwrap();
        fs::write(dir.join("max_energy_range_uj"), "10000000\n").unwrap();
    }

    #[test]
    fn a_counter_that_came_round_goes_on_from_zero() {
        assert_eq!(since(100, 350, 1000), 250);
        assert_eq!(since(900, 50, 1000), 150);
        assert_eq!(since(1000, 0, 1000), 0);
    }

    #[test]
    fn domains_are_named_by_their_package_and_counted_once() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "intel-rapl:0", "package-0", 9_000_000);
        write(root.path(), "intel-rapl:0:0", "dram", 1_000_000);
        write(root.path(), "intel-rapl-mmio:0", "package-0", 0);
        let rapl = Rapl::start(root.path());
        write(root.path(), "intel-rapl:0", "package-0", 500_000);
        write(root.path(), "intel-rapl:0:0", "dram", 3_000_000);
        let domain = |name: &str, joules| Domain { name: name.to_owned(), joules };
        let expected = vec![domain("package-0", 1.5), domain("package-0/dram", 2.0)];
        assert_eq!(rapl.stop(), Reading::Value(expected));
    }

    #[test]
    fn a_machine_without_counters_says_why() {
        let root = tempfile::tempdir().unwrap();
        let Reading::Unavailable { unavailable } = Rapl::start(root.path()).stop() else {
            panic!("no counters")
        };
        assert!(unavailable.starts_with("RAPL in sys/class/powercap: "), "{unavailable}");
    }
}
