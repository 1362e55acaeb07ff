"""Writes goldens.safetensors: matrices and what numpy.linalg and scipy.linalg say of them in float64, rounded to float32.

Names are `op/case/a` (and `b`) for operands, `op/case/0`, `op/case/1`, ... for results. Signs that are a matter of taste are
made unique where that is easy: the diagonal of R is made non-negative, eigenvalues of `eig` are sorted by real and imaginary part.
Run with numpy 2.4.6, scipy 1.17.1 and safetensors from the folder of this file.
"""

import numpy as np
import scipy.linalg
from safetensors.numpy import save_file

rng = np.random.default_rng(20261126)
out = {}


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def low_rank(m, n, k):
    return (rng.integers(-3, 4, (m, k)) @ rng.integers(-3, 4, (k, n))).astype(np.float32)


def stack(f, *operands):
    """Applies `f`, which takes matrices, to every matrix of a batch."""
    batch = operands[0].shape[:-2]
    results = [f(*(x[i] for x in operands)) for i in np.ndindex(batch)]
    return [np.array(r).reshape(batch + np.shape(r[0])) for r in zip(*results)]


def put(op, case, operands, results):
    for name, x in zip("ab", operands):
        out[f"{op}/{case}/{name}"] = np.ascontiguousarray(x)
    for i, x in enumerate(results):
        dtype = np.int64 if np.issubdtype(np.asarray(x).dtype, np.integer) else np.float32
        out[f"{op}/{case}/{i}"] = np.array(x, dtype=dtype, order="C")


any_shape = {
    "one": normal(1, 1),
    "row": normal(1, 5),
    "column": normal(5, 1),
    "square": normal(6, 6),
    "tall": normal(23, 7),
    "wide": normal(7, 23),
    "large": normal(40, 33),
    "deficient": low_rank(9, 7, 3),
    "zeros": np.zeros((4, 3), np.float32),
    "hilbert": scipy.linalg.hilbert(7).astype(np.float32),
    "graded": (np.logspace(-15, 15, 8)[:, None] * normal(8, 8)).astype(np.float32),
    "batch": normal(2, 3, 4, 3),
}
square = {
    "one": normal(1, 1),
    "two": np.array([[1, 2], [3, 4]], np.float32),
    "swap": np.array([[0, 1], [1, 0]], np.float32),
    "square": normal(6, 6),
    "large": normal(40, 40),
    "hilbert": scipy.linalg.hilbert(6).astype(np.float32),
    "scales": np.diag(np.array([1e-30, 1, 1e30], np.float32)) @ np.array([[2, 1, 0], [0, 3, 1], [0, 0, 4]], np.float32),
    "batch": normal(2, 3, 4, 4),
}


def qr(a):
    q, r = np.linalg.qr(a)
    sign = np.where(np.diag(r) < 0, -1.0, 1.0)
    return q * sign, r * sign[:, None]


for case, a in any_shape.items():
    wide = a.astype(np.float64)
    if case not in ("deficient", "zeros"):
        put("qr", case, [a], stack(qr, wide))
    if case not in ("deficient", "zeros", "hilbert"):
        put("lu", case, [a], stack(scipy.linalg.lu, wide))
    put("svdvals", case, [a], [np.linalg.svd(wide, compute_uv=False)])
    eps = max(a.shape[-2:]) * np.finfo(np.float32).eps
    if case != "graded":
        put("pinv", case, [a], [np.linalg.pinv(wide, rcond=eps)])
    rank = np.linalg.matrix_rank(wide, tol=eps * np.linalg.norm(wide, 2, axis=(-2, -1)))
    put("matrix_rank", case, [a], [rank])
    if case not in ("deficient", "zeros", "graded"):
        put("cond", case, [a], [np.linalg.cond(wide)])
    norms = [np.linalg.norm(wide, o, axis=(-2, -1)) for o in ("fro", "nuc", 2, 1, np.inf)]
    put("matrix_norm", case, [a], norms)
    if a.ndim == 2 and case != "graded":
        for name, b in {"vector": normal(a.shape[0]), "matrix": normal(a.shape[0], 2)}.items():
            x, _, rank, s = np.linalg.lstsq(wide, b.astype(np.float64), rcond=eps)
            put("lstsq", f"{case}-{name}", [a, b], [x, np.int64(rank), s])

for case, a in square.items():
    wide = a.astype(np.float64)
    n = a.shape[-1]
    put("inverse", case, [a], [np.linalg.inv(wide)])
    put("det", case, [a], [np.linalg.det(wide)])
    put("slogdet", case, [a], np.linalg.slogdet(wide))
    for name, b in {"vector": normal(n), "matrix": normal(n, 3), "broadcast": normal(2, 1, n, 2)}.items():
        rhs = np.broadcast_to(b.astype(np.float64)[:, None], (n, 1)) if b.ndim == 1 else b.astype(np.float64)
        x = np.linalg.solve(wide, rhs)
        put("solve", f"{case}-{name}", [a, b], [x[..., 0] if b.ndim == 1 else x])
    values = np.sort_complex(np.linalg.eigvals(wide)) if case != "scales" else None
    if values is not None:
        put("eig", case, [a], [values.real, values.imag])
        symmetric = a + np.swapaxes(a, -1, -2)
        put("eigh", case, [symmetric], [np.linalg.eigvalsh(symmetric.astype(np.float64))])
        positive = (a @ np.swapaxes(a, -1, -2) + np.eye(n)).astype(np.float32)
        put("cholesky", case, [positive], [np.linalg.cholesky(positive.astype(np.float64))])

singular = np.array([[1, 2], [2, 4]], np.float32)
put("det", "singular", [singular], [np.linalg.det(singular.astype(np.float64))])
put("slogdet", "singular", [singular], np.linalg.slogdet(singular.astype(np.float64)))
put("det", "none", [np.zeros((2, 0, 0), np.float32)], [np.ones(2)])
put("slogdet", "none", [np.zeros((0, 0), np.float32)], [1.0, 0.0])
rotation = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 2]], np.float32)
values = np.sort_complex(np.linalg.eigvals(rotation.astype(np.float64)))
put("eig", "rotation", [rotation], [values.real, values.imag])

save_file(out, "goldens.safetensors")
