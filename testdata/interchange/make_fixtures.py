"""Writes files of NumPy, and expected.safetensors with the elements that they stand for, written by the crate's peer in Python.

`expected.safetensors` has for every file NAME.npy the tensor NAME in C order and in the element type that a tensor gets.
Run with numpy 2.4.6, safetensors and torch 2.9.1 (for bfloat16) from the folder of this file.
"""

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

rng = np.random.default_rng(20261128)
expected = {}


def bits(dtype, *shape):
    """Any bit patterns, NaNs with payloads among them."""
    size = np.dtype(dtype).itemsize
    return rng.integers(0, 256, (*shape, size), dtype=np.uint8).view(dtype).reshape(shape)


def put(name, x, wanted=None, version=None):
    with open(f"{name}.npy", "wb") as file:
        npy.write_array(file, x, version=version, allow_pickle=False)
    # `ascontiguousarray` would make a vector of a scalar.
    expected[name] = np.array(x if wanted is None else wanted, order="C")


for dtype in ["f4", "f2", "i1", "u1", "i4", "i8"]:
    put(dtype, bits(f"<{dtype}", 3, 5))
put("b1", rng.integers(0, 2, (4, 3)).astype(bool))
put("scalar", np.array(2.5, np.float32))
put("empty", np.zeros((2, 0, 3), np.float32))
put("eight_dims", np.arange(256, dtype=np.int32).reshape((2,) * 8))
put("version_2", bits("<f4", 7), version=(2, 0))
put("version_3", bits("<f4", 7), version=(3, 0))
put("fortran", np.asfortranarray(bits("<i4", 3, 4, 5)))
put("big_endian_f4", bits(">f4", 2, 3), version=None)
expected["big_endian_f4"] = expected["big_endian_f4"].astype("<f4")
put("big_endian_fortran_i8", np.asfortranarray(bits(">i8", 2, 3)))
expected["big_endian_fortran_i8"] = expected["big_endian_fortran_i8"].astype("<i8")
exact = np.array([0.5, -0.0, 1e-45, np.inf, 16777216.0], np.float32)
put("f8", exact.astype(np.float64), exact)
for dtype in ["i2", "u2", "u4"]:
    x = bits(f"<{dtype}", 6)
    put(dtype, x, x.astype(np.int64))
put("u8", np.array([0, 2**63 - 1], np.uint64), np.array([0, 2**63 - 1], np.int64))

np.savez("stored.npz", b=np.arange(3, dtype=np.int64), a=bits("<f4", 2, 2), **{"a name/with.dots": np.array(True)})
np.savez_compressed("deflated.npz", zeros=np.zeros((100, 100), np.float32), ids=np.arange(50, dtype=np.int32))
save_file(expected, "expected.safetensors")
save_torch(
    {
        "bf16": torch.tensor([1.0, -0.5, float("inf")], dtype=torch.bfloat16),
        "bool": torch.tensor([[True], [False]]),
        "i64": torch.tensor([-(2**63), 7]),
        "f16": torch.tensor(0.1, dtype=torch.float16),
    },
    "torch.safetensors",
)
