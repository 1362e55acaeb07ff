//! A device that computes nothing itself.

use bitnet_core::{
    Result,
    backend::Backend,
    memory::{self, Host, RawAlloc, RawMem},
    view::{View, ViewMut},
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A backend that leaves every op to the host.
#[derive(Default)]
pub struct Bare(AtomicU64);

// SAFETY: everything is left to `Host`, which keeps the contract.
unsafe impl RawAlloc for Bare {
    fn alloc(&self, bytes: usize, align: usize) -> memory::Result<RawMem> {
        Host.alloc(bytes, align)
    }

    unsafe fn free(&self, mem: RawMem) {
        // SAFETY: the caller's promise is the one that `Host` asks for.
        unsafe { Host.free(mem) }
    }

    fn alignment(&self) -> usize {
        Host.alignment()
    }

    fn host_addressable(&self) -> bool {
        true
    }
}

impl Backend for Bare {
    fn name(&self) -> &str {
        "gpu:0"
    }

    fn threads(&self) -> usize {
        1
    }

    fn fallbacks(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn count_fallback(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn upload(&self, src: &[u8], dst: ViewMut<'_>) -> Result<()> {
        dst.into_bytes("upload")?.copy_from_slice(src);
        Ok(())
    }

    fn download(&self, src: View<'_>, dst: &mut [u8]) -> Result<()> {
        dst.copy_from_slice(src.as_bytes("download")?);
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
