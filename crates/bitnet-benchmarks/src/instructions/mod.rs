//! Instructions that the hot kernels execute, counted and compared to what was counted before. Unlike times, counts do not depend on what
//! else the machine does. Valgrind counts them, which needs no right to the counters of the processor, but knows no AVX-512.

mod callgrind;
mod cases;
mod cli;
mod expected;

pub use cli::main;
