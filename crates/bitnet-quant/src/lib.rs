//! 1.58-bit weight formats: floats to codes to bytes and back, on plain slices.
#![forbid(unsafe_code)]
