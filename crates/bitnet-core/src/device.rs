//! Devices: a cheap handle to an opened backend and its memory pool.

use crate::{
    Error, Result,
    backend::Backend,
    cpu::{CpuBackend, kernels::Kernels, topology::Topology},
    memory::HybridMemoryPool,
};
use std::{fmt, sync::Arc};

/// An opened device. Cloning shares the backend and the pool.
#[derive(Clone)]
pub struct Device(Arc<Opened>);

struct Opened {
    backend: Arc<dyn Backend>,
    pool: HybridMemoryPool,
}

impl Device {
    /// Opens a device by name: `auto`, `cpu` (the fastest tier this CPU has) or `cpu/TIER` such as `cpu/avx2`.
    /// `threads` defaults to the cores that the process may use.
    ///
    /// # Errors
    /// Where the name is unknown or this machine lacks the tier.
    pub fn open(name: &str, threads: Option<usize>) -> Result<Self> {
        let kernels = match name {
            "auto" | "cpu" => Kernels::best(),
            _ => name
                .strip_prefix("cpu/")
                .and_then(Kernels::by_name)
                .ok_or_else(|| Error::UnknownDevice { name: name.into(), known: Self::names().join(", ") })?,
        };
        let threads = threads.unwrap_or_else(|| Topology::detect().default_threads()).max(1);
        Ok(Self::with_backend(Arc::new(CpuBackend::new(kernels, threads))))
    }

    /// Names that [`Device::open`] takes on this machine.
    pub fn names() -> Vec<String> {
        let tiers = Kernels::available().map(|k| format!("cpu/{}", k.name));
        ["auto".to_owned(), "cpu".to_owned()].into_iter().chain(tiers).collect()
    }

    /// A device over a backend that the caller opened.
    pub fn with_backend(backend: Arc<dyn Backend>) -> Self {
        let pool = HybridMemoryPool::new(backend.clone());
        Self(Arc::new(Opened { backend, pool }))
    }

    /// Whether both are handles to the same opened device.
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

    /// Name, such as `cpu/avx512`.
    pub fn name(&self) -> &str {
        self.0.backend.name()
    }

    /// Threads that share the work of an op.
    pub fn threads(&self) -> usize {
        self.0.backend.threads()
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
