//! Errors of this crate.

use crate::{
    device::{Absence, Device},
    dtype::DType,
    shape::Shape,
};
use bitnet_quant::Format;

/// What goes wrong with tensors, devices and memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Memory could not be had.
    #[error(transparent)]
    Memory(#[from] crate::memory::MemoryError),
    /// A weight format refused its bytes or shape.
    #[error(transparent)]
    Quant(#[from] bitnet_quant::Error),
    /// An operand has the wrong shape.
    #[error("{op}: expected shape {expected}, got {got}")]
    Shape {
        /// The op.
        op: &'static str,
        /// What it needs.
        expected: Shape,
        /// What it was given.
        got: Shape,
    },
    /// Two operands do not broadcast to one shape.
    #[error("{op}: shapes {a} and {b} do not broadcast together")]
    Broadcast {
        /// The op.
        op: &'static str,
        /// Shape of the first operand.
        a: Shape,
        /// Shape of the second operand.
        b: Shape,
    },
    /// No such dimension, or twice the same.
    #[error("{op}: axis {axis} is not one of the {rank} dimensions, or was given twice")]
    Axis {
        /// The op.
        op: &'static str,
        /// What was asked for; negative counts from the end.
        axis: isize,
        /// Dimensions of the tensor.
        rank: usize,
    },
    /// An argument that the op cannot take.
    #[error("{op}: {reason}")]
    Argument {
        /// The op.
        op: &'static str,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// An operand has the wrong element type.
    #[error("{op}: expected {expected} elements, got {got}")]
    DType {
        /// The op.
        op: &'static str,
        /// What it needs.
        expected: DType,
        /// What it was given.
        got: DType,
    },
    /// A matrix is stored in a format that the op does not compute with.
    #[error("{op}: cannot compute with {} weights", format.name())]
    Format {
        /// The op.
        op: &'static str,
        /// The format of the matrix.
        format: Format,
    },
    /// A range reaches outside of a dimension.
    #[error("{op}: range of {len} from {start} does not fit in an extent of {extent}")]
    Range {
        /// The op.
        op: &'static str,
        /// First index.
        start: usize,
        /// Number of entries.
        len: usize,
        /// Entries that exist.
        extent: usize,
    },
    /// The op needs contiguous rows.
    #[error("{op}: the tensor is a strided view; copy it into contiguous rows first")]
    NotContiguous {
        /// The op.
        op: &'static str,
    },
    /// A tensor that others still see cannot be written in place.
    #[error("{op}: the buffer is shared or read-only and cannot be written in place")]
    Shared {
        /// The op.
        op: &'static str,
    },
    /// Bytes do not live where the host can read them.
    #[error("{op}: the tensor lives on device {device}; copy it to the host first")]
    NotOnHost {
        /// The op.
        op: &'static str,
        /// Name of the device.
        device: String,
    },
    /// Operands live on two devices; one that was opened twice is two.
    #[error(
        "{op}: operands on two opened devices, `{a}` and `{b}`; share one handle or copy with `to_device`"
    )]
    Devices {
        /// The op.
        op: &'static str,
        /// Name of the device of the first operand.
        a: String,
        /// Name of the device of the other.
        b: String,
    },
    /// Bytes are too few or not aligned for the tensor.
    #[error(
        "tensor of {wanted} bytes aligned to {align}: got {got} bytes at an address that is {misaligned} past alignment"
    )]
    Bytes {
        /// Bytes that the tensor needs.
        wanted: usize,
        /// Alignment that its elements need.
        align: usize,
        /// Bytes that were given.
        got: usize,
        /// Distance of the address from the last aligned one.
        misaligned: usize,
    },
    /// No such device.
    #[error("unknown device `{name}`; this machine has: {known}")]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// What could be asked for, separated by commas.
        known: String,
    },
    /// A device that this machine or build does not have.
    #[error("device `{name}` cannot be opened: {absence}; this machine has: {known}")]
    AbsentDevice {
        /// What was asked for.
        name: String,
        /// Why it is not there.
        absence: Absence,
        /// What could be asked for, separated by commas.
        known: String,
    },
    /// A file or an array in a format of others was refused.
    #[error(transparent)]
    Interchange(#[from] crate::interchange::InterchangeError),
}

impl Error {
    /// Says of a name that opens no device why, as far as that is known.
    pub(crate) fn unknown_device(name: &str) -> Self {
        let (name, known) = (name.to_owned(), Device::names().join(", "));
        match Device::absence(&name) {
            Some(absence) => Self::AbsentDevice { name, absence, known },
            None => Self::UnknownDevice { name, known },
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
