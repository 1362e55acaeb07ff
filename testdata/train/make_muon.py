"""Five steps of Muon by its definition in float64 with NumPy: momentum, Nesterov, five Newton-Schulz iterations, decoupled weight decay.

    python make_muon.py
"""
import numpy as np
from pathlib import Path
from safetensors.numpy import save_file

LR, DECAY, MOMENTUM, A, B, C = 0.02, 0.1, 0.95, 3.4445, -4.7750, 2.0315


def orthogonal(x):
    transposed = x.shape[0] > x.shape[1]
    x = x.T if transposed else x
    x = x / max(np.linalg.norm(x), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.T if transposed else x


random, out = np.random.default_rng(91), {}
for name, shape in {"wide": (6, 20), "tall": (24, 5), "square": (9, 9)}.items():
    w = random.standard_normal(shape).astype(np.float32)
    out[f"{name}.init"] = w
    w, buffer = w.astype(np.float64), np.zeros(shape)
    for step in range(5):
        g = random.standard_normal(shape).astype(np.float32)
        out[f"{name}.grad{step}"] = g
        g = g.astype(np.float64)
        buffer = buffer + (g - buffer) * (1 - MOMENTUM)
        direction = g + (buffer - g) * MOMENTUM
        w = w * (1 - LR * DECAY) - LR * max(1, shape[0] / shape[1]) ** 0.5 * orthogonal(direction)
        out[f"{name}.step{step}"] = w.copy()
save_file(out, Path(__file__).with_name("muon.safetensors"))
