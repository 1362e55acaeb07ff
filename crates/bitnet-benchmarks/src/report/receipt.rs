//! The receipt: everything that is known of one run, as a JSON file.

use super::{Error, Result, energy::Domain, gpu::Gpu, stats, throttle::Throttling};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Version of the file that this program writes and reads.
pub const SCHEMA: u32 = 1;

/// One run of the benchmarks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The commit that was checked out, with `-dirty` where files differ from it.
    pub commit: Option<String>,
    /// When it was written: RFC 3339, UTC, whole seconds.
    pub date: String,
    /// The command line that made it.
    pub command: Vec<String>,
    /// Where it ran.
    pub machine: Machine,
    /// What the machine felt meanwhile.
    pub sensors: Sensors,
    /// In the order of their names.
    pub benchmarks: Vec<Benchmark>,
}

/// The machine, and what it can do at best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the CPU.
    pub cpu: String,
    /// Architecture, such as `x86_64`.
    pub architecture: String,
    /// The fastest tier of kernels.
    pub tier: String,
    /// Threads that are computed with.
    pub threads: usize,
    /// Gigabytes a second that these threads read.
    pub read_bandwidth_gb_per_s: f64,
    /// Billions of 8-bit operations a second on registers; a multiply-add is two.
    pub int8_gops_per_s: f64,
}

/// A value, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reading<T> {
    /// There is none.
    Unavailable {
        /// The reason, for people.
        unavailable: String,
    },
    /// There is one.
    Value(T),
}

impl<T> Reading<T> {
    /// No value, for this reason.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { unavailable: reason.into() }
    }
}

/// Energy and heat of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensors {
    /// Energy of the processor's domains by RAPL.
    pub cpu_energy: Reading<Vec<Domain>>,
    /// Energy of each GPU by NVML.
    pub gpu_energy: Reading<Vec<Gpu>>,
    /// How often the processor slowed down because it was hot.
    pub throttling: Reading<Throttling>,
}

/// The samples of one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Benchmark {
    /// `group/function/parameter`.
    pub id: String,
    /// The group.
    pub group: String,
    /// What one iteration works through.
    pub throughput: Option<Throughput>,
    /// Median of the samples.
    pub median_ns: f64,
    /// Median of their distances to it.
    pub mad_ns: f64,
    /// Nanoseconds of one iteration, sample by sample.
    pub samples_ns: Vec<f64>,
}

impl Benchmark {
    /// A benchmark of these samples.
    pub fn new(id: String, group: String, throughput: Option<Throughput>, samples_ns: Vec<f64>) -> Self {
        let (median_ns, mad_ns) = (stats::median(&samples_ns), stats::mad(&samples_ns));
        Self { id, group, throughput, median_ns, mad_ns, samples_ns }
    }

    /// Refuses times that no clock gives, so that medians can be divided by. `path` is where they were read.
    pub(super) fn checked(self, path: &Path) -> Result<Self> {
        let positive = |ns: &f64| ns.is_finite() && *ns > 0.0;
        let medians = [self.median_ns];
        let possible = !self.samples_ns.is_empty() && self.samples_ns.iter().chain(&medians).all(positive);
        if possible { Ok(self) } else { Err(Error::Samples { path: path.to_owned(), id: self.id }) }
    }

    /// The name within its group.
    pub fn name(&self) -> &str {
        self.id.strip_prefix(&self.group).map_or(self.id.as_str(), |rest| rest.trim_start_matches('/'))
    }
}

/// What one iteration works through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throughput {
    /// Elements; operations where bytes are known too.
    pub elements: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

impl Receipt {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, is a receipt of another schema or none, or holds times that no clock gives.
    pub fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let Version { schema } = serde_json::from_str(&text).map_err(Error::json(path))?;
        if schema != SCHEMA {
            return Err(Error::Schema { path: path.to_owned(), expected: SCHEMA, got: schema });
        }
        let mut receipt: Self = serde_json::from_str(&text).map_err(Error::json(path))?;
        let benchmarks = receipt.benchmarks.into_iter().map(|benchmark| benchmark.checked(path));
        receipt.benchmarks = benchmarks.collect::<Result<_>>()?;
        Ok(receipt)
    }

    /// Writes a file, and the folders that it lies in.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(Error::json(path))?;
        fs::write(path, text + "\n").map_err(Error::io(path))
    }

    /// The benchmark of this name.
    pub fn benchmark(&self, id: &str) -> Option<&Benchmark> {
        self.benchmarks.iter().find(|benchmark| benchmark.id == id)
    }

    /// Commit and day, for people.
    pub fn label(&self) -> String {
        let commit = self.commit.as_deref().map_or("no commit".to_owned(), short);
        format!("{commit} of {}", self.date)
    }
}

/// The first digits of a commit, and whether it was changed.
pub(super) fn short(commit: &str) -> String {
    let (digits, rest) = commit.split_once('-').map_or((commit, ""), |(digits, rest)| (digits, rest));
    let digits: String = digits.chars().take(9).collect();
    if rest.is_empty() { digits } else { format!("{digits}-{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_a_value_or_a_reason() {
        let none: Reading<Throttling> = serde_json::from_str(r#"{"unavailable": "no sensor"}"#).unwrap();
        assert_eq!(none, Reading::unavailable("no sensor"));
        let some: Reading<Throttling> = serde_json::from_str(r#"{"core": 1, "package": 2}"#).unwrap();
        assert_eq!(some, Reading::Value(Throttling { core: 1, package: 2 }));
    }

    #[test]
    fn a_receipt_of_another_schema_is_refused_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.json");
        fs::write(&path, r#"{"schema": 0}"#).unwrap();
        assert!(matches!(Receipt::read(&path), Err(Error::Schema { got: 0, .. })));
    }

    #[test]
    fn times_that_no_clock_gives_are_refused() {
        for samples in [vec![], vec![0.0], vec![-1.0], vec![f64::INFINITY, 1.0], vec![f64::NAN]] {
            let benchmark = Benchmark::new("a".into(), "a".into(), None, samples);
            assert!(matches!(benchmark.checked(Path::new("a.json")), Err(Error::Samples { .. })));
        }
    }

    #[test]
    fn a_changed_commit_stays_visible_when_shortened() {
        assert_eq!(short("0123456789abcdef-dirty"), "012345678-dirty");
        assert_eq!(short("0123456789abcdef"), "012345678");
    }
}
