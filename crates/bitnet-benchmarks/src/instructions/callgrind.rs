//! Valgrind, which runs this program and counts.

use super::cases::COUNTED;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// Why nothing was counted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It is not there, or not for this system.
    #[error("valgrind cannot be started: {0}")]
    Absent(io::Error),
    /// It was there but did not do its work.
    #[error("{0}")]
    Failed(String),
}

/// Counts of every case by its name. `folder` is for files of valgrind.
pub(super) fn counts(program: &Path, flag: &str, folder: &Path) -> Result<BTreeMap<String, u64>, Error> {
    let files = folder.join("counts");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect=*{COUNTED}"))
        .arg(format!("--dump-after=*{COUNTED}"))
        .arg(format!("--callgrind-out-file={}", files.display()))
        .arg(program)
        .arg(flag)
        .output()
        .map_err(Error::Absent)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        return Err(Error::Failed(format!("valgrind: {}: {}", output.status, last.join(" | "))));
    }
    let names: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    let counts = dumps(folder).map_err(|error| Error::Failed(format!("files of valgrind: {error}")))?;
    if names.is_empty() || names.len() != counts.len() {
        let reason = format!("{} cases and {} counts of valgrind", names.len(), counts.len());
        return Err(Error::Failed(reason));
    }
    Ok(names.into_iter().zip(counts).collect())
}

/// Instructions of each dump at the end of a counted region, in order.
fn dumps(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        if let Some((part, count)) = dump(&text) {
            found.insert(part, count);
        }
    }
    Ok(found.into_values().collect())
}

/// Number and instructions of a dump, where one was asked for.
fn dump(text: &str) -> Option<(u32, u64)> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    text.contains("desc: Trigger: --dump-after").then_some(())?;
    let total = value("totals:").or_else(|| value("summary:"))?;
    Some((value("part:")?.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_a_number_and_a_total_where_it_was_asked_for() {
        let text =
            "version: 1\npart: 3\ndesc: Trigger: --dump-after=x\nevents: Ir\nfn=(1) x\n0 4\ntotals: 1234\n";
        assert_eq!(dump(text), Some((3, 1234)));
        assert_eq!(dump(&text.replace("--dump-after=x", "Program termination")), None);
    }
}
