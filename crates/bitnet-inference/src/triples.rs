//! A copy of the ternary weights of a local model for steps of one token.

use crate::local::{OpenError, Progress, expect_room};
use bitnet_core::memory::Bytes;
use bitnet_model::Decoder;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Makes the copy, at 5/3 bits a weight instead of 2, where steps of one token are faster from it. No result depends on it. Returns what a
/// person should know.
///
/// # Errors
/// Where there is no memory for it, or a code of the file is not ternary.
pub fn copy(decoder: &mut Decoder, progress: Progress<'_>) -> Result<String, OpenError> {
    let (needed, name) = (decoder.triples_bytes(), decoder.device().name().to_owned());
    if needed == 0 {
        return Ok(format!("no copy for decoding: {name} reads ternary weights fastest as they are"));
    }
    expect_room(needed, false)?;
    let done = AtomicU64::new(0);
    decoder.add_triples(&|bytes| progress(done.fetch_add(bytes, Relaxed) + bytes, needed as u64))?;
    Ok(format!("decoding reads a copy of the ternary weights, which takes {}", Bytes(needed)))
}
