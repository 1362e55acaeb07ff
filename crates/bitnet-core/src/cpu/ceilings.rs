//! What this machine can do at best, to judge the kernels by: bytes read and integer multiply-adds a second.

use super::kernels::Kernels;
use super::threads::Threads;
use crate::{DType, Result, Tensor, host};
use std::hint::black_box;
use std::time::Instant;

/// So many bytes to read, in memory as weights have it.
///
/// # Errors
/// Where memory runs out.
pub fn sample(bytes: usize) -> Result<Tensor> {
    Tensor::full(host::reference(), [bytes / size_of::<i64>()], 1.0, DType::I64)
}

/// Bytes a second at which the threads together read `data`, each its own contiguous share; the best of `passes`, with and without asking
/// ahead, of which some processors want one and some the other.
pub fn read_bandwidth(threads: &Threads, data: &[i64], passes: usize) -> f64 {
    let rate = |sum: fn(&[i64]) -> i64| {
        let pass = || {
            threads.for_each_range(data.len(), 512, |range| {
                black_box(sum(&data[range]));
            });
        };
        best_rate(passes, size_of_val(data) as f64, pass)
    };
    rate(sum::<false>).max(rate(sum::<true>))
}

/// Multiply-adds of 8-bit integers a second that the threads together can do on registers; the best of `passes`.
pub fn integer_peak(threads: &Threads, kernels: &Kernels, passes: usize) -> f64 {
    const ROUNDS: usize = 200_000;
    let macs = (kernels.integer_peak)(1) * (ROUNDS * threads.len()) as u64;
    best_rate(passes, macs as f64, || threads.run(&|_| _ = (kernels.integer_peak)(ROUNDS)))
}

/// The best of `passes` runs of `work` units.
pub fn best_rate(passes: usize, work: f64, mut pass: impl FnMut()) -> f64 {
    let seconds = (0..passes).map(|_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64()
    });
    work / seconds.fold(f64::INFINITY, f64::min)
}

/// Bytes from what is read to what is asked for meanwhile.
const AHEAD: usize = 8 << 10;

/// Sum in many lanes, so that loads and not additions set the pace.
fn sum<const ASK: bool>(data: &[i64]) -> i64 {
    let mut lanes = [0i64; 32];
    for chunk in data.as_chunks::<32>().0 {
        if ASK {
            for line in chunk.as_chunks::<8>().0 {
                prefetch(line.as_ptr().cast::<u8>().wrapping_add(AHEAD));
            }
        }
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*x);
        }
    }
    lanes.into_iter().fold(0, i64::wrapping_add)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch of any address is allowed, and every x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch(_: *const u8) {}

/// Multiply-adds of the scalar tier in a round of [`scalar_peak`].
const SCALAR_MACS: u64 = 64;

/// [`Kernels::integer_peak`] without vector instructions of our own.
pub(super) fn scalar_peak(rounds: usize) -> u64 {
    let (codes, x) = (black_box([[1u8; 32]]), black_box([[1i8; 128]]));
    for _ in 0..rounds.div_ceil(2) {
        black_box(crate::ops::bit_matmul::dot(black_box(&codes), black_box(&x)));
    }
    rounds as u64 * SCALAR_MACS
}
