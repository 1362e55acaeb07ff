//! KV blocks, sampling, scheduling and the generation engine.
#![forbid(unsafe_code)]
