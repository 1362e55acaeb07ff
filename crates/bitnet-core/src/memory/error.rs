//! Why memory could not be had.

use super::{Bytes, MAX_ALIGN};

/// Why memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The pool's budget leaves no room, even after everything cached was given back.
    #[error(
        "out of memory: {} wanted, at most {} available (the pool holds {} of its budget)",
        Bytes(*wanted), Bytes(*available), Bytes(*held)
    )]
    OutOfMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes of the largest block that could be had.
        available: usize,
        /// Bytes that the pool holds from the system.
        held: usize,
    },
    /// The system or device gave no memory, even after everything cached was given back.
    #[error("the system refused {} of memory", Bytes(*wanted))]
    Refused {
        /// Bytes asked for.
        wanted: usize,
    },
    /// The alignment is not a power of two in range.
    #[error("alignment: expected a power of two up to {MAX_ALIGN}, got {got}")]
    Alignment {
        /// The alignment asked for.
        got: usize,
    },
    /// The host cannot reach the pool's memory, so it cannot move blocks there.
    #[error("the host cannot reach this memory, so a block of {} in it cannot be movable", Bytes(*wanted))]
    NotAddressable {
        /// Bytes asked for.
        wanted: usize,
    },
}

impl MemoryError {
    /// The same failure in terms of what the caller asked for, instead of the slab or region that was needed for it.
    pub(super) fn of_request(self, bytes: usize) -> Self {
        match self {
            Self::OutOfMemory { available, held, .. } => Self::OutOfMemory { wanted: bytes, available, held },
            Self::Refused { .. } => Self::Refused { wanted: bytes },
            other => other,
        }
    }
}

/// Result of a memory operation.
pub type Result<T> = std::result::Result<T, MemoryError>;
