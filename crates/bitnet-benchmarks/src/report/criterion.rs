//! What criterion leaves behind: a folder `new` for each benchmark, with its name and its raw samples.

use super::{Benchmark, Error, Result, Throughput, stats};
use serde::{Deserialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use std::{env, fs, time::SystemTime};

/// `benchmark.json`.
#[derive(Deserialize)]
struct Name {
    group_id: String,
    full_id: String,
    throughput: Option<Work>,
}

/// Criterion's enum of the same meaning as [`Throughput`].
#[derive(Deserialize)]
enum Work {
    Bits(u64),
    Bytes(u64),
    BytesDecimal(u64),
    Elements(u64),
    ElementsAndBytes { elements: u64, bytes: u64 },
}

impl From<Work> for Throughput {
    fn from(work: Work) -> Self {
        let (elements, bytes) = match work {
            Work::Bits(n) => (None, Some(n / 8)),
            Work::Bytes(n) | Work::BytesDecimal(n) => (None, Some(n)),
            Work::Elements(n) => (Some(n), None),
            Work::ElementsAndBytes { elements, bytes } => (Some(elements), Some(bytes)),
        };
        Self { elements, bytes }
    }
}

/// `sample.json`: iterations of each sample, and the nanoseconds of all of them.
#[derive(Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// `estimates.json`, of which the receipt needs the median alone: the rest follows from the samples.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Where criterion writes: `$CRITERION_HOME`, or `criterion` in the folder of builds.
pub fn home() -> PathBuf {
    let build = || env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from).join("criterion");
    env::var_os("CRITERION_HOME").map_or_else(build, PathBuf::from)
}

/// All benchmarks below `home` whose id contains `filter` and whose results are not older than `since`, by id.
///
/// # Errors
/// Where a file cannot be read or there is no result.
pub fn read(home: &Path, since: Option<SystemTime>, filter: &str) -> Result<Vec<Benchmark>> {
    let mut found = Vec::new();
    if home.is_dir() {
        collect(home, since, &mut found)?;
    }
    found.retain(|benchmark| benchmark.id.contains(filter));
    found.sort_by(|a, b| a.id.cmp(&b.id));
    if found.is_empty() { Err(Error::NoResults { path: home.to_owned() }) } else { Ok(found) }
}

fn collect(dir: &Path, since: Option<SystemTime>, found: &mut Vec<Benchmark>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        if path.ends_with("new") && path.join("benchmark.json").is_file() {
            if is_recent(&path.join("sample.json"), since)? {
                found.push(benchmark(&path)?);
            }
        } else if path.is_dir() {
            collect(&path, since, found)?;
        }
    }
    Ok(())
}

fn is_recent(file: &Path, since: Option<SystemTime>) -> Result<bool> {
    let written = fs::metadata(file).and_then(|metadata| metadata.modified()).map_err(Error::io(file))?;
    Ok(since.is_none_or(|since| written >= since))
}

fn benchmark(dir: &Path) -> Result<Benchmark> {
    let name: Name = json(&dir.join("benchmark.json"))?;
    let samples: Samples = json(&dir.join("sample.json"))?;
    let estimates: Estimates = json(&dir.join("estimates.json"))?;
    let each = samples.times.iter().zip(&samples.iters).map(|(time, n)| time / n).collect();
    let mut benchmark = Benchmark::new(name.full_id, name.group_id, name.throughput.map(Into::into), each);
    benchmark.median_ns = estimates.median.point_estimate;
    benchmark.checked(dir)
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(Error::json(path))
}

/// Adds the samples of another round to those of the same benchmark, so that what changes from round to round is noise too.
pub fn pool(rounds: Vec<Vec<Benchmark>>) -> Vec<Benchmark> {
    let mut pooled: Vec<Benchmark> = Vec::new();
    for benchmark in rounds.into_iter().flatten() {
        match pooled.iter_mut().find(|same| same.id == benchmark.id) {
            Some(same) => {
                same.samples_ns.extend(benchmark.samples_ns);
                (same.median_ns, same.mad_ns) =
                    (stats::median(&same.samples_ns), stats::mad(&same.samples_ns));
            }
            None => pooled.push(benchmark),
        }
    }
    pooled
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A result as criterion 0.8 writes it.
    fn write(home: &Path, folder: &str, benchmark: &str) {
        let dir = home.join(folder).join("new");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("benchmark.json"), benchmark).unwrap();
        let sample = r#"{"sampling_mode":"Linear","iters":[1.0,2.0,4.0],"times":[10.0,24.0,44.0]}"#;
        fs::write(dir.join("sample.json"), sample).unwrap();
        let estimates =
            r#"{"mean":{"point_estimate":11.0},"median":{"point_estimate":11.0,"standard_error":0.1}}"#;
        fs::write(dir.join("estimates.json"), estimates).unwrap();
    }

    const ADD: &str = r#"{"group_id":"backend/add","function_id":"avx2","value_str":"64","throughput":
        {"ElementsAndBytes":{"elements":640,"bytes":7680}},"full_id":"backend/add/avx2/64","directory_name":"d","title":"t"}"#;
    const TRIM: &str = r#"{"group_id":"memory/trim","function_id":"all","value_str":null,"throughput":null,
        "full_id":"memory/trim/all","directory_name":"d","title":"t"}"#;

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), "memory_trim/all", TRIM);
        write(home.path(), "backend_add/avx2/64", ADD);
        fs::create_dir_all(home.path().join("backend_add/avx2/64/base")).unwrap();
        home
    }

    #[test]
    fn every_sample_is_the_time_of_one_iteration() {
        let home = home();
        let [add, trim] = &read(home.path(), None, "").unwrap()[..] else { panic!("two benchmarks") };
        assert_eq!(
            (add.id.as_str(), add.group.as_str(), add.name()),
            ("backend/add/avx2/64", "backend/add", "avx2/64")
        );
        assert_eq!(add.samples_ns, [10.0, 12.0, 11.0]);
        assert_eq!((add.median_ns, add.mad_ns), (11.0, 1.0));
        assert_eq!(add.throughput, Some(Throughput { elements: Some(640), bytes: Some(7680) }));
        assert_eq!(trim.throughput, None);
    }

    #[test]
    fn a_filter_and_a_time_select() {
        let home = home();
        assert_eq!(read(home.path(), None, "trim").unwrap().len(), 1);
        let later = SystemTime::now() + Duration::from_secs(60);
        assert!(matches!(read(home.path(), Some(later), ""), Err(Error::NoResults { .. })));
    }

    #[test]
    fn rounds_are_pooled_by_name() {
        let home = home();
        let round = read(home.path(), None, "").unwrap();
        let pooled = pool(vec![round.clone(), round]);
        assert_eq!((pooled.len(), pooled[0].samples_ns.len()), (2, 6));
    }
}
