//! Drivers: who can open devices, and which devices there are or could be.

use crate::{Result, backend::Backend, cpu, cpu::topology::Memory};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The processor, with the memory of the machine.
    Cpu,
    /// An accelerator.
    Gpu,
}

impl Kind {
    /// `cpu` or `gpu`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// How devices of a kind are found and opened; the crate that brings a backend registers one.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// Name, and the first part of the names of its devices: `cpu`, `cuda`.
    pub name: &'static str,
    /// Every device that it knows of, present or not, the fastest first.
    pub probe: fn() -> Vec<Candidate>,
    /// Opens a device by its name, or the fastest by that of the driver.
    pub open: Open,
}

/// Opens a device by its name.
pub type Open = fn(name: &str, threads: ThreadCounts) -> Result<Arc<dyn Backend>>;

/// How many threads an op uses. Results do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadCounts {
    /// For one token, as in a decode step; the device's own number where it is `None`.
    pub decode: Option<usize>,
    /// For more tokens, and for ops that do not know of tokens; as `decode` where it is `None`.
    pub batch: Option<usize>,
}

impl ThreadCounts {
    /// Both counts, given the device's own number.
    pub fn resolve_with(self, own: impl FnOnce() -> usize) -> (usize, usize) {
        let decode = self.decode.unwrap_or_else(own);
        (decode, self.batch.unwrap_or(decode))
    }
}

/// The same number for every op.
impl From<Option<usize>> for ThreadCounts {
    fn from(threads: Option<usize>) -> Self {
        Self { decode: threads, batch: None }
    }
}

impl Driver {
    /// Whether a device of this name would be its.
    fn owns(&self, device: &str) -> bool {
        let rest = device.strip_prefix(self.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
    }
}

/// A device that could be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name for [`Device::open`](crate::Device::open): `cpu/avx2`, `cuda:0`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Name of the hardware.
    pub model: String,
    /// Its memory, where it tells.
    pub memory: Option<Memory>,
    /// Threads of the host that it uses by default.
    pub threads: usize,
    /// Bytes of weights times tokens of a step below which its launches cost more than it saves.
    pub worth_from: usize,
    /// Why it cannot be opened.
    pub absence: Option<Absence>,
}

/// Why a device cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absence {
    /// Its driver is not compiled in.
    Build,
    /// It exists on this architecture only.
    Architecture(&'static str),
    /// The processor lacks these features.
    Features(Vec<&'static str>),
    /// What its driver found out.
    Hardware(String),
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build => f.write_str("not in this build"),
            Self::Architecture(name) => write!(f, "needs {name}"),
            Self::Features(names) => write!(f, "the processor lacks {}", names.join(", ")),
            Self::Hardware(reason) => f.write_str(reason),
        }
    }
}

/// Drivers that other crates may bring.
const ELSEWHERE: [(&str, Kind); 2] = [("cuda", Kind::Gpu), ("metal", Kind::Gpu)];

static REGISTERED: RwLock<Vec<Driver>> = RwLock::new(Vec::new());

/// Makes the devices of a driver known to this program; a driver of the same name is replaced.
pub fn register(driver: Driver) {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    registered.retain(|other| other.name != driver.name);
    registered.push(driver);
}

/// All drivers, those registered last first and the CPU at the end.
pub fn drivers() -> Vec<Driver> {
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    registered.iter().rev().copied().chain([cpu::DRIVER]).collect()
}

/// Every device that the drivers know of, and those whose driver is not among them.
pub(super) fn candidates(drivers: &[Driver]) -> Vec<Candidate> {
    let known = drivers.iter().flat_map(|driver| (driver.probe)());
    let missing = ELSEWHERE.iter().filter(|(name, _)| drivers.iter().all(|driver| driver.name != *name));
    let missing = missing.map(|&(name, kind)| Candidate {
        name: name.to_owned(),
        kind,
        model: String::new(),
        memory: None,
        threads: 0,
        worth_from: 0,
        absence: Some(Absence::Build),
    });
    known.chain(missing).collect()
}

/// The driver whose device a candidate of this name is.
pub(super) fn owner(drivers: &[Driver], device: &str) -> Option<Driver> {
    drivers.iter().find(|driver| driver.owns(device)).copied()
}
