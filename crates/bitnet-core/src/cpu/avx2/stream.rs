//! Stores that go past the caches.

use std::arch::x86_64::{_mm_sfence, _mm256_loadu_ps, _mm256_stream_ps};

/// `y = x`. The caller's next store of another kind may overtake these; the fence at the end keeps threads that are told of it in order.
#[inline(always)]
pub(in crate::cpu) fn stream(x: &[f32], y: &mut [f32]) {
    let head = y.as_ptr().align_offset(32).min(y.len());
    let ((x_head, x), (y_head, y)) = (x.split_at(head), y.split_at_mut(head));
    y_head.copy_from_slice(x_head);
    let ((x, x_tail), (y, y_tail)) = (x.as_chunks::<8>(), y.as_chunks_mut::<8>());
    for (x, y) in x.iter().zip(y) {
        // SAFETY: both are eight floats, and `y` is aligned to 32 bytes behind the head. This code is compiled for AVX2.
        unsafe { _mm256_stream_ps(y.as_mut_ptr(), _mm256_loadu_ps(x.as_ptr())) };
    }
    y_tail.copy_from_slice(x_tail);
    // SAFETY: every x86-64 processor has it.
    unsafe { _mm_sfence() };
}
