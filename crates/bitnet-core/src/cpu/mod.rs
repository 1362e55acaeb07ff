//! The CPU backend.
#![expect(unsafe_code, reason = "threads share slices, and instruction sets need intrinsics")]

mod attention;
mod backend;
mod driver;
#[macro_use]
mod tier;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
pub mod ceilings;
mod elementwise;
mod gemm;
pub mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dotprod;
#[cfg(target_arch = "aarch64")]
mod neon_i8mm;
pub mod partition;
mod rows;
mod screen;
mod ternary;
pub mod threads;
pub mod topology;
mod training;
mod transpose;
mod triples;
mod walk;

pub use backend::CpuBackend;
pub use driver::DRIVER;
