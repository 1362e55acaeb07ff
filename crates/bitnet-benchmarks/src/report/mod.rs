//! Receipts of benchmark runs.
