//! Devices: a cheap handle to an opened backend and its memory pool.

pub mod capabilities;
mod choice;
mod driver;

pub use choice::{Choice, Judged, Reason, Task, Verdict, Work, choose_among};
pub use driver::{Absence, Candidate, Driver, Kind, Open, ThreadCounts, drivers, register};

use crate::{Error, Result, backend::Backend, memory::HybridMemoryPool};
use std::{fmt, sync::Arc};

/// An opened device. Cloning shares the backend and the pool.
#[derive(Clone)]
pub struct Device(Arc<Opened>);

struct Opened {
    backend: Arc<dyn Backend>,
    pool: HybridMemoryPool,
    choice: Option<Choice>,
}

impl Device {
    /// Opens a device by name: `auto`, `cpu` (the fastest tier this CPU has) or `cpu/TIER` such as `cpu/avx2`, or what
    /// another [`Driver`] brings. `threads` is one number for all ops, or [`ThreadCounts`]; it defaults to the cores that the process
    /// may use.
    ///
    /// # Errors
    /// Where the name is unknown or this machine lacks the device.
    pub fn open(name: &str, threads: impl Into<ThreadCounts>) -> Result<Self> {
        Self::open_for(name, threads, &Work::default())
    }

    /// As [`open`](Self::open); `auto` takes the device that is the best for `work`, and [`choice`](Self::choice) says why.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_for(name: &str, threads: impl Into<ThreadCounts>, work: &Work) -> Result<Self> {
        let threads = threads.into();
        if name == "auto" {
            return choose_among(&drivers(), work, threads);
        }
        let driver = driver::owner(&drivers(), name).ok_or_else(|| Error::unknown_device(name))?;
        Ok(Self::with_backend((driver.open)(name, threads)?))
    }

    /// Names that [`Device::open`] takes on this machine.
    pub fn names() -> Vec<String> {
        let mut names = vec!["auto".to_owned()];
        for driver in drivers() {
            let present = (driver.probe)().into_iter().filter(|candidate| candidate.absence.is_none());
            let mut present: Vec<String> = present.map(|candidate| candidate.name).collect();
            if !present.is_empty() {
                names.push(driver.name.to_owned());
            }
            present.reverse();
            names.extend(present);
        }
        names
    }

    /// Why a device that could be elsewhere cannot be opened here; `None` where it can, or where nobody knows it.
    pub fn absence(name: &str) -> Option<Absence> {
        let mut all = driver::candidates(&drivers()).into_iter();
        all.find(|candidate| candidate.name == name)?.absence
    }

    /// A device over a backend that the caller opened.
    pub fn with_backend(backend: Arc<dyn Backend>) -> Self {
        let pool = HybridMemoryPool::new(backend.clone());
        Self(Arc::new(Opened { backend, pool, choice: None }))
    }

    /// The same backend and pool, taken by a choice.
    fn chosen(&self, choice: Choice) -> Self {
        let (backend, pool) = (self.0.backend.clone(), self.0.pool.clone());
        Self(Arc::new(Opened { backend, pool, choice: Some(choice) }))
    }

    /// Whether both are handles to the same opened device, as clones of one are. Only tensors of one device are combined; what was
    /// opened twice, even by one name, is two devices with pools and threads of their own.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What computes on it.
    pub fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    /// Where its memory comes from.
    pub fn pool(&self) -> &HybridMemoryPool {
        &self.0.pool
    }

    /// Why it was taken, where it was opened as `auto`.
    pub fn choice(&self) -> Option<&Choice> {
        self.0.choice.as_ref()
    }

    /// Name, such as `cpu/avx512`.
    pub fn name(&self) -> &str {
        self.0.backend.name()
    }

    /// Threads that share the work of an op at most.
    pub fn threads(&self) -> usize {
        self.0.backend.threads()
    }

    /// Threads that share the work of an op on this many tokens.
    pub fn threads_for(&self, tokens: usize) -> usize {
        self.0.backend.threads_for(tokens)
    }

    /// Uses other counts from the next op on, up to [`threads`](Self::threads) each, where the device has several.
    pub fn set_threads(&self, counts: impl Into<ThreadCounts>) {
        self.0.backend.set_threads(counts.into());
    }

    /// Ops so far that the backend left to the host's reference; slow is never silent.
    pub fn fallbacks(&self) -> u64 {
        self.0.backend.fallbacks()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name())
    }
}
