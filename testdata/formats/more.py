"""Writes more.safetensors: bytes and values of formats that vectors.safetensors lacks.

Dense formats: random bytes, with the values that gguf-py reads from them. Ternary formats that gguf-py does not know: bytes
written here, value by value, from what llama.cpp, PrismML and ik_llama.cpp say about them, so that they share nothing with the engine.
Run with numpy, gguf 0.19.0 and safetensors from the folder of this file.
"""

import numpy as np
from gguf.quants import Q4_0, Q4_K, Q5_0, Q6_K, Q8_0
from safetensors.numpy import save_file

ROWS, COLS = 4, 256
rng = np.random.default_rng(20261125)


def dense(codec, block_len, block_bytes, halves):
    """Random bytes of a matrix with small f16 numbers at the given places of each block, and what gguf-py reads."""
    blocks = rng.integers(0, 256, (ROWS * COLS // block_len, block_bytes), dtype=np.uint8)
    for at in halves:
        scale = rng.uniform(-0.1, 0.1, (len(blocks), 1)).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8)
    data = blocks.reshape(ROWS, -1)
    return data, codec.dequantize_blocks(blocks).astype(np.float32).reshape(ROWS, COLS)


def half(x):
    return list(np.float16(x).tobytes())


def two_bits(codes):
    """Four values in a byte, the first in the low bits."""
    out = []
    for p in range(0, len(codes), 4):
        out.append(sum((int(codes[p + j]) + 1) << (2 * j) for j in range(4)))
    return out


def base_three(digits):
    """Five digits in a byte, the most significant first, as a fraction of 256 that is rounded up."""
    value = 0
    for digit in digits:
        value = value * 3 + int(digit)
    return (value * 256 + 242) // 243


def ptq1(codes):
    digits = [int(c) + 1 for c in codes]
    out = [base_three([digits[p + 16 * k] for k in range(5)]) for p in range(16)]
    out += [base_three([digits[80 + p + 8 * k] for k in range(5)]) for p in range(8)]
    return out + [base_three([digits[120 + p + 2 * k] for k in range(4)] + [0]) for p in range(2)]


def grouped(codes, scales, length, scale_first, pack):
    out = []
    for block, scale in zip(codes.reshape(-1, length), scales.reshape(-1)):
        packed = pack(block)
        out += half(scale) + packed if scale_first else packed + half(scale)
    return np.array(out, dtype=np.uint8)


def iq2_bn_r4(codes, scales):
    out = []
    for first in range(0, ROWS, 4):
        for row in range(first, first + 4):
            out += list(np.float32(scales[row]).tobytes())
        for block in range(0, COLS, 64):
            for l in range(4):
                for k in range(4):
                    for i in range(4):
                        at = block + 16 * l + i
                        out.append(sum((int(codes[first + k][at + 4 * j]) + 1) << (2 * j) for j in range(4)))
    return np.array(out, dtype=np.uint8)


tensors = {}
for name, arguments in {
    "q8_0": (Q8_0, 32, 34, [0]),
    "q6_k": (Q6_K, 256, 210, [208]),
    "q5_0": (Q5_0, 32, 22, [0]),
    "q4_0": (Q4_0, 32, 18, [0]),
    "q4_k": (Q4_K, 256, 144, [0, 2]),
}.items():
    tensors[f"{name}.bytes"], tensors[f"{name}.values"] = dense(*arguments)

codes = rng.integers(-1, 2, (ROWS, COLS), dtype=np.int8)
tensors["codes"] = codes
for name, length, scale_first, pack in [
    ("q2_0", 64, True, two_bits),
    ("q2_0_g128", 128, True, two_bits),
    ("pq2_0", 128, True, two_bits),
    ("ptq1_0", 128, False, ptq1),
]:
    scales = rng.uniform(0.1, 2.0, (ROWS, COLS // length)).astype(np.float16).astype(np.float32)
    tensors[f"{name}.scales"] = scales
    tensors[f"{name}.bytes"] = grouped(codes, scales, length, scale_first, pack)
tensors["iq2_bn_r4.scales"] = rng.uniform(0.1, 2.0, ROWS).astype(np.float32)
tensors["iq2_bn_r4.bytes"] = iq2_bn_r4(codes, tensors["iq2_bn_r4.scales"])
save_file(tensors, "more.safetensors")
