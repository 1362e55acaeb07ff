//! The engine with a model that has no weights.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod generate;
mod invariance;
mod lifecycle;
mod lookup;
mod pressure;
mod support;
