//! The `bitnet` command.
#![forbid(unsafe_code)]
fn main() {}
