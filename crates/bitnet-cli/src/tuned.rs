//! What `bitnet tune` found out: numbers of threads for each machine of the user, in one file.

use crate::{twins, ui::Ui};
use anyhow::{Context, Result};
use bitnet_core::{cpu::topology::Topology, device::ThreadCounts, interchange::atomic};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};
use tracing::info;

/// Longest file that is read.
const MOST_BYTES: u64 = 64 << 10;
/// Most machines that are remembered; a home may be shared by many.
const MOST_MACHINES: usize = 64;

/// What has to be the same for numbers to count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    cpu: String,
    /// Within the affinity mask and the quota of the control group.
    hardware_threads: usize,
    physical_cores: usize,
    /// Of this program.
    version: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let topology = Topology::detect();
        Self {
            cpu: topology.model,
            hardware_threads: topology.usable,
            physical_cores: topology.physical,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether it is the same but for the version of the program.
    fn is_succeeded_by(&self, other: &Self) -> bool {
        *self == Self { version: self.version.clone(), ..other.clone() }
    }
}

/// The numbers of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tuned {
    pub(crate) machine: Machine,
    /// Of a step of one token.
    pub(crate) threads: usize,
    /// Of a step of more.
    pub(crate) threads_batch: usize,
}

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    machines: Vec<Tuned>,
}

/// Threads as flags say, else as was found out for this machine, else the device's own.
pub(crate) fn counts(decode: Option<u16>, batch: Option<u16>, ui: &Ui) -> ThreadCounts {
    let (decode, batch) = (decode.map(usize::from), batch.map(usize::from));
    if decode.is_some() {
        return ThreadCounts { decode, batch };
    }
    let tuned = load().unwrap_or_else(|reason| {
        ui.note(reason);
        None
    });
    let Some(tuned) = tuned else { return ThreadCounts { decode, batch } };
    info!("threads as `bitnet tune` found: {} for a token, {} for more", tuned.threads, tuned.threads_batch);
    ThreadCounts { decode: Some(tuned.threads), batch: batch.or(Some(tuned.threads_batch)) }
}

/// What is stored for this machine; why the file is not used, and what to do about it, where it is there but makes no sense.
pub(crate) fn load() -> Result<Option<Tuned>, String> {
    let Some(path) = twins::tune_file() else { return Ok(None) };
    let found = read(&path).and_then(|stored| of(stored, &Machine::here()));
    found.map_err(|reason| {
        format!(
            "{} is not used: {reason}; `bitnet tune` writes another one, `bitnet tune --forget` removes it",
            path.display()
        )
    })
}

/// The numbers of a machine, where they are possible there.
fn of(stored: Stored, machine: &Machine) -> Result<Option<Tuned>, String> {
    let Some(tuned) = stored.machines.into_iter().find(|tuned| tuned.machine == *machine) else {
        return Ok(None);
    };
    let most = machine.hardware_threads.min(1024);
    match [tuned.threads, tuned.threads_batch].into_iter().find(|n| !(1..=most).contains(n)) {
        Some(n) => Err(format!("{n} threads on a machine of {most}")),
        None => Ok(Some(tuned)),
    }
}

fn read(path: &Path) -> Result<Stored, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Stored::default()),
        Err(error) => return Err(error.to_string()),
        // Opening a pipe would wait for a writer.
        Ok(found) if !found.is_file() => return Err("it is not a regular file".to_owned()),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let open = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    open.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it is longer than {MOST_BYTES} bytes"));
    }
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if stored.machines.len() > MOST_MACHINES {
        return Err(format!("it has more than {MOST_MACHINES} machines"));
    }
    Ok(stored)
}

/// Where numbers are stored. Whether that can be done is tried out.
pub(crate) fn writable() -> Result<PathBuf> {
    let path = file()?;
    let folder = path.parent().expect("the file is in a folder");
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    drop(atomic::AtomicFile::create(&path)?);
    Ok(path)
}

/// Stores numbers instead of older ones of the same machine. A file that makes no sense is replaced.
pub(crate) fn store(tuned: Tuned) -> Result<()> {
    let path = writable()?;
    let mut machines = read(&path).unwrap_or_default().machines;
    machines.retain(|other| !other.machine.is_succeeded_by(&tuned.machine));
    let excess = (machines.len() + 1).saturating_sub(MOST_MACHINES);
    machines.drain(..excess);
    machines.push(tuned);
    write(&path, &Stored { machines })
}

/// Removes the numbers of this machine, of any version, or the whole file where it makes no sense. Returns whether there was something.
pub(crate) fn forget() -> Result<bool> {
    let path = file()?;
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(false);
    }
    let (machine, before, machines) = match read(&path) {
        Ok(Stored { machines }) => (Machine::here(), machines.len(), machines),
        Err(_) => (Machine::here(), 1, Vec::new()),
    };
    let machines: Vec<Tuned> =
        machines.into_iter().filter(|tuned| !tuned.machine.is_succeeded_by(&machine)).collect();
    let forgotten = machines.len() < before;
    if machines.is_empty() {
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
    } else if forgotten {
        write(&path, &Stored { machines })?;
    }
    Ok(forgotten)
}

fn file() -> Result<PathBuf> {
    twins::tune_file().context("there is no folder for settings; set HOME or XDG_CONFIG_HOME")
}

fn write(path: &Path, stored: &Stored) -> Result<()> {
    let text = serde_json::to_string_pretty(stored)? + "\n";
    atomic::atomic_write(path, |file| file.write(text.as_bytes()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned(version: &str, threads: usize) -> Tuned {
        let machine =
            Machine { cpu: "x".into(), hardware_threads: 4, physical_cores: 2, version: version.into() };
        Tuned { machine, threads, threads_batch: 4 }
    }

    #[test]
    fn numbers_count_on_the_same_machine_and_version_alone() {
        let stored = || Stored { machines: vec![tuned("1", 1)] };
        let here = tuned("1", 1).machine;
        assert_eq!(of(stored(), &here).unwrap(), Some(tuned("1", 1)));
        for other in [
            Machine { cpu: "y".into(), ..here.clone() },
            Machine { hardware_threads: 8, ..here.clone() },
            Machine { physical_cores: 4, ..here.clone() },
            Machine { version: "2".into(), ..here.clone() },
        ] {
            assert_eq!(of(stored(), &other).unwrap(), None);
        }
    }

    #[test]
    fn numbers_that_the_machine_does_not_have_are_refused() {
        for threads in [0, 5, 1025, usize::MAX] {
            assert!(of(Stored { machines: vec![tuned("1", threads)] }, &tuned("1", 1).machine).is_err());
        }
    }
}
