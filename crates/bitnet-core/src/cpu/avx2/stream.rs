//! Stores that go past the caches.

use std::arch::x86_64::{_mm_sfence, _mm256_loadu_si256, _mm256_stream_si256};

/// Rows of `width` bytes of `x` to places `pitch` bytes apart in `y`. Later stores of another kind may overtake these up to the next
/// [`fence`].
#[inline(always)]
pub(in crate::cpu) fn stream(x: &[u8], width: usize, y: &mut [u8], pitch: usize) {
    for (x, y) in x.chunks_exact(width).zip(y.chunks_mut(pitch)) {
        row(x, &mut y[..width]);
    }
}

/// Keeps threads that are told of what was written in order.
#[inline(always)]
pub(in crate::cpu) fn fence() {
    // SAFETY: every x86-64 processor has it.
    unsafe { _mm_sfence() };
}

#[inline(always)]
fn row(x: &[u8], y: &mut [u8]) {
    let head = y.as_ptr().align_offset(32).min(y.len());
    let ((x_head, x), (y_head, y)) = (x.split_at(head), y.split_at_mut(head));
    y_head.copy_from_slice(x_head);
    let ((x, x_tail), (y, y_tail)) = (x.as_chunks::<32>(), y.as_chunks_mut::<32>());
    for (x, y) in x.iter().zip(y) {
        // SAFETY: the array has the size of the load, which needs no alignment. This code is compiled for AVX2.
        let part = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        // SAFETY: the array has the size of the store, and is aligned to it behind the head.
        unsafe { _mm256_stream_si256(y.as_mut_ptr().cast(), part) };
    }
    y_tail.copy_from_slice(x_tail);
}
