//! What bounds every kernel, for each number of threads.

use super::{bandwidth, gops};
use anyhow::Result;
use bitnet_core::{
    DType, Device, Tensor,
    cpu::{ceilings, kernels::Kernels, threads::Threads, topology::Topology},
};
use serde_json::{Value, json};

/// Rows of the dense product for each thread, its columns and its inner extent: it stays in the cache of a core.
const PRODUCT: [usize; 3] = [256, 512, 512];

/// One object for 1, 2, 4 and so on threads, those of the physical cores, and all.
pub(super) fn measure() -> Result<Vec<Value>> {
    teams(&Topology::detect()).into_iter().map(of).collect()
}

fn teams(topology: &Topology) -> Vec<usize> {
    let mut teams: Vec<usize> = std::iter::successors(Some(1), |n| Some(2 * n))
        .take_while(|&n| n < topology.usable)
        .chain([topology.physical.min(topology.usable), topology.usable])
        .collect();
    teams.sort_unstable();
    teams.dedup();
    teams
}

fn of(threads: usize) -> Result<Value> {
    let int8 = ceilings::integer_peak(&Threads::new(threads), Kernels::best(), 5);
    Ok(json!({
        "threads": threads,
        "read_bandwidth_gb_per_s": bandwidth(threads)?,
        "int8_gops_per_s": gops(int8),
        "f32_gflops_per_s": dense_products(threads)?,
    }))
}

/// Billions of operations a second of dense products, through the library that computes them.
fn dense_products(threads: usize) -> Result<f64> {
    let device = Device::open("cpu", Some(threads))?;
    let [rows, cols, inner] = PRODUCT;
    let a = Tensor::ones(&device, [rows * threads, inner], DType::F32)?;
    let b = Tensor::ones(&device, [inner, cols], DType::F32)?;
    a.matmul(&b)?;
    let mut failed = None;
    let work = 2e-9 * (rows * threads * cols * inner) as f64;
    let rate = ceilings::best_rate(15, work, || failed = failed.take().or_else(|| a.matmul(&b).err()));
    failed.map_or(Ok(rate.round()), |error| Err(error.into()))
}

/// A line for each number of threads, for people.
pub(super) fn table(ceilings: &[Value]) -> Vec<String> {
    let line = |ceiling: &Value| {
        let figure = |key: &str| ceiling[key].to_string();
        format!(
            "{:>7}  {:>9}  {:>23}  {:>21}",
            figure("threads"),
            figure("read_bandwidth_gb_per_s"),
            figure("int8_gops_per_s"),
            figure("f32_gflops_per_s"),
        )
    };
    let head = "threads  read GB/s  int8 billion operations/s  f32 billion operations/s".to_owned();
    std::iter::once(head).chain(ceilings.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_useful_number_of_threads_is_measured_once() {
        let topology = |physical, usable| Topology { physical, usable, ..Topology::detect() };
        assert_eq!(teams(&topology(1, 1)), [1]);
        assert_eq!(teams(&topology(2, 2)), [1, 2]);
        assert_eq!(teams(&topology(6, 12)), [1, 2, 4, 6, 8, 12]);
        assert_eq!(teams(&topology(16, 4)), [1, 2, 4], "a container may use fewer than there are");
    }
}
