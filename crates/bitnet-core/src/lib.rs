//! Memory pools, devices, tensors and the CPU backend.
