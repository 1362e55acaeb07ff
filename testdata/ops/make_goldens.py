"""Golden values of the tensor ops, made with NumPy and PyTorch in float64 from inputs in the type of the case.

    pip install numpy==2.3.4 torch==2.9.1 safetensors
    python testdata/ops/make_goldens.py

writes cases.json (op, arguments, names of inputs, outputs and gradients) and tensors.safetensors beside this file. What every op has in
common is in awkward.py.
"""
import json, os
import numpy as np
import torch
from safetensors.torch import save_file
import awkward

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(20261126)
tensors, names, cases = {}, {}, []
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1.2e-38, -1e-20, 3e-8, 0.1, -0.1, 0.5, -0.5, 1.0,
                    -1.0, 1.5, -1.5, 2.5, -2.5, 3.7, -3.7, 10.0, -10.0, 88.0, -88.0, 104.0, -104.0, 65504.0, 1e5, -1e5,
                    16777217.0, 1e20, 3.4e38, -3.4e38], np.float32)


def keep(array):
    """The name of an array of NumPy or a tensor of PyTorch, which alone has bfloat16."""
    x = torch.from_numpy(np.array(array, order="C", copy=True)) if not torch.is_tensor(array) else array.clone(memory_format=torch.contiguous_format)
    key = (x.dtype, tuple(x.shape), x.view(torch.int16 if x.dtype == torch.bfloat16 else x.dtype).numpy().tobytes())
    if key not in names:
        names[key] = f"t{len(tensors)}"
        tensors[names[key]] = x
    return names[key]


def case(op, inputs, outputs, tol="exact", grads=None, seed=None, refused=False, **args):
    entry = {"op": op, "inputs": [keep(x) for x in inputs], "outputs": [keep(y) for y in outputs], "tol": tol, "args": args}
    if grads is not None:
        entry["seed"] = keep(seed)
        entry["grads"] = [keep(g) for g in grads]
    if refused:
        entry["refused"] = True
    cases.append(entry)


def normal(*shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def differentiated(op, f, arrays, tol, **args):
    """A case of floats with gradients of a random weighting of the result."""
    leaves = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    y = f(*leaves)
    seed = normal(*y.shape)
    grads = torch.autograd.grad(y, leaves, torch.tensor(seed.astype(np.float64)), allow_unused=True)
    grads = [np.zeros_like(a) if g is None else g.numpy().astype(np.float32) for g, a in zip(grads, arrays)]
    case(op, arrays, [y.detach().numpy().astype(np.float32)], tol, grads, seed, **args)


UNARY = {
    "neg": torch.neg, "abs": torch.abs, "square": torch.square, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt,
    "recip": torch.reciprocal, "exp": torch.exp, "exp_m1": torch.expm1, "log": torch.log, "log_1p": torch.log1p,
    "sin": torch.sin, "cos": torch.cos, "tanh": torch.tanh, "erf": torch.erf, "floor": torch.floor, "ceil": torch.ceil,
    "round": torch.round, "trunc": torch.trunc, "relu": torch.relu, "relu2": lambda x: torch.relu(x) ** 2,
    "gelu": torch.nn.functional.gelu, "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu, "sigmoid": torch.sigmoid, "softplus": lambda x: torch.log1p(torch.exp(-abs(x))) + torch.relu(x),
    "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.125), "clamp": lambda x: torch.clamp(x, -0.75, 1.25),
    "sign": torch.sign,
}
POSITIVE = {"sqrt", "rsqrt", "log", "log_1p"}
ABSOLUTE = {"gelu", "gelu_tanh"}
EXACT = {"neg", "abs", "floor", "ceil", "round", "trunc", "relu", "clamp", "sign", "leaky_relu"}
for name, f in UNARY.items():
    tol = "exact" if name in EXACT else "absolute" if name in ABSOLUTE else "ulps"
    with np.errstate(all="ignore"):
        special = f(torch.tensor(SPECIAL.astype(np.float64))).numpy().astype(np.float32)
        if name == "sign":
            special = np.sign(SPECIAL)
        case(name, [SPECIAL], [special], tol)
        for dtype in (np.float16,):
            x = SPECIAL.astype(dtype)
            y = f(torch.tensor(x.astype(np.float64))).numpy()
            y = (np.sign(x) if name == "sign" else y).astype(dtype)
            case(name, [x], [y], "half")
    x = normal(3, 37)
    x = np.abs(x) + 0.01 if name in POSITIVE else x
    differentiated(name, f, [x], tol)
    case(name, [np.zeros((0, 3), np.float32)], [np.zeros((0, 3), np.float32)])
for dtype in (np.int8, np.uint8, np.int32, np.int64):
    info = np.iinfo(dtype)
    x = np.array([0, 1, 2, 7, 100, info.max, info.min, info.max - 1], dtype)
    with np.errstate(all="ignore"):
        for name, f in {"neg": np.negative, "abs": np.abs, "sign": np.sign, "square": np.square}.items():
            case(name, [x], [f(x).astype(dtype)])

PAIRS = [((2, 3, 5), (5,)), ((4, 1), (1, 6)), ((), (3,)), ((0, 3), (3,)), ((7,), (7,)), ((2, 1, 3), (4, 1)), ((1,), ()), ((30, 33), (33,)),
         ((5, 1), (5, 257)), ((2, 3, 2, 2), (3, 1, 2))]
BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "minimum": torch.minimum, "maximum": torch.maximum,
    "pow": torch.pow,
}
for name, f in BINARY.items():
    for a, b in PAIRS:
        x, y = normal(*a), normal(*b)
        if name == "pow":
            x = np.abs(x) + np.float32(0.1)
        if name == "div":
            y = np.where(np.abs(y) < 0.1, np.float32(0.5), y).astype(np.float32)
        differentiated(name, f, [np.asarray(x, np.float32), np.asarray(y, np.float32)], "ulps")
COMMON = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 7.0, 0.3, 1e30], np.float32)
NUMPY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "minimum": np.minimum, "maximum": np.maximum,
         "floor_div": np.floor_divide, "rem": np.mod, "pow": np.power}
with np.errstate(all="ignore"):
    for name, f in NUMPY.items():
        a, b = COMMON[:, None], COMMON[None, :]
        tol = "ulps" if name == "pow" else "exact"
        case(name, [a, b], [f(a, b)], tol)
        if name != "pow":
            h = COMMON[:-1].astype(np.float16)
            wide = f(h[:, None].astype(np.float32), h[None, :].astype(np.float32)).astype(np.float16)
            case(name, [h[:, None], h[None, :]], [wide])
    for dtype in (np.int8, np.uint8, np.int32, np.int64):
        info = np.iinfo(dtype)
        v = np.array([info.min, info.max, 0, 1, 2, 3, 7, 11] + ([-1, -2, -7] if info.min < 0 else []), dtype)
        for name in ("add", "sub", "mul", "minimum", "maximum", "floor_div", "rem"):
            a, b = v[:, None], v[None, :]
            if name in ("floor_div", "rem"):
                b = v[v != 0][None, :]
            case(name, [a, b], [NUMPY[name](a, b).astype(dtype)])
    for name, f in {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}.items():
        case(name, [COMMON[:, None], COMMON[None, :]], [f(COMMON[:, None], COMMON[None, :])])
        v = np.array([-5, 0, 3, 2**40, -(2**40)], np.int64)
        case(name, [v[:, None], v[None, :]], [f(v[:, None], v[None, :])])
        t = np.array([True, False])
        case(name, [t[:, None], t[None, :]], [f(t[:, None], t[None, :])])
t = np.array([True, False])
for name, f in {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}.items():
    case(name, [t[:, None], t[None, :]], [f(t[:, None], t[None, :])])
c = rng.random((3, 4)) < 0.5
x, y = normal(4), normal(3, 1)
case("where", [c, x, y], [np.where(c, x, y)])

SHAPES = [((5,), [0]), ((3, 4), [0]), ((3, 4), [1]), ((3, 4), [0, 1]), ((2, 3, 5), [1]), ((2, 3, 5), [0, 2]), ((2, 3, 5, 2), [1, 3]), ((1, 1), [0]),
          ((16,), [0]), ((17, 2), [0])]
LONG = [((5000,), [0]), ((2, 9001), [1]), ((9001, 2), [0]), ((40, 513), [0]), ((2, 4097, 2), [1])]
REDUCE = {"sum": lambda x, d, k: x.sum(d, keepdim=k), "min": lambda x, d, k: x.amin(d, keepdim=k), "max": lambda x, d, k: x.amax(d, keepdim=k),
          "mean": lambda x, d, k: x.mean(d, keepdim=k), "logsumexp": lambda x, d, k: torch.logsumexp(x, d, keepdim=k),
          "var": lambda x, d, k: x.var(d, correction=0, keepdim=k), "norm": lambda x, d, k: x.square().sum(d, keepdim=k).sqrt()}
for name, f in REDUCE.items():
    for shape, axes in SHAPES:
        x = normal(*shape)
        for keepdim in (False, True):
            tol = "exact" if name in ("min", "max") else "sum"
            differentiated(name, lambda t: f(t, axes, keepdim), [x], tol, axes=axes, keepdim=keepdim)
for shape, axes in LONG:
    x = normal(*shape)
    case("sum", [x], [x.astype(np.float64).sum(tuple(axes)).astype(np.float32)], "sum", axes=axes, keepdim=False)
    case("max", [x], [x.max(tuple(axes))], axes=axes, keepdim=False)
for shape, axis in [((5,), 0), ((3, 4), 1), ((4, 3, 2), 1)]:
    x = normal(*shape)
    differentiated("prod", lambda t: t.prod(axis), [x], "sum", axes=[axis], keepdim=False)
    x.reshape(-1)[1] = 0
    differentiated("prod", lambda t: t.prod(axis), [x], "sum", axes=[axis], keepdim=False)
    x.reshape(-1)[2] = 0
    differentiated("prod", lambda t: t.prod(axis), [x], "sum", axes=[axis], keepdim=False)
for dtype in (np.int8, np.uint8, np.int32, np.int64, np.bool_):
    x = (rng.integers(0, 120, (4, 5, 3)) % (2 if dtype == np.bool_ else 121)).astype(dtype)
    for axes in ([0], [1], [2], [0, 2], [0, 1, 2]):
        case("sum", [x], [x.sum(tuple(axes), dtype=np.int64)], axes=axes, keepdim=False)
        case("min", [x], [x.min(tuple(axes))], axes=axes, keepdim=False)
        case("max", [x], [x.max(tuple(axes))], axes=axes, keepdim=False)
        case("any", [x], [x.any(tuple(axes))], axes=axes, keepdim=False)
        case("all", [x], [x.all(tuple(axes))], axes=axes, keepdim=False)
    case("prod", [x[:2, :2, :1]], [x[:2, :2, :1].prod((0,), dtype=np.int64)], axes=[0], keepdim=False)
    case("argmax", [x], [x.argmax(1)], axes=[1], keepdim=False)
    case("argmin", [x], [x.argmin(0)], axes=[0], keepdim=False)
n = normal(3, 4)
n[1, 2] = np.nan
for name, f in {"min": np.min, "max": np.max, "sum": np.sum, "argmin": np.argmin, "argmax": np.argmax, "any": np.any, "all": np.all}.items():
    case(name, [n], [f(n, axis=1)], "sum" if name == "sum" else "exact", axes=[1], keepdim=False)
    case(name, [n], [f(n, axis=0)], "sum" if name == "sum" else "exact", axes=[0], keepdim=False)
for name, value in {"sum": 0, "prod": 1}.items():
    case(name, [np.zeros((0, 3), np.float32)], [np.full(3, value, np.float32)], axes=[0], keepdim=False)
    case(name, [np.zeros((3, 0), np.float32)], [np.full(3, value, np.float32)], axes=[1], keepdim=False)
    case(name, [np.zeros((0, 3), np.float32)], [np.zeros(0, np.float32)], axes=[1], keepdim=False)
case("mean", [np.full(9000, 300.0, np.float16)], [np.array(300.0, np.float16)], "half", axes=[0], keepdim=False)
case("logsumexp", [np.array([[-np.inf, -np.inf], [np.inf, 0.0]], np.float32)], [np.array([-np.inf, np.inf], np.float32)], axes=[1], keepdim=False)

for shape, axis in [((7,), 0), ((3, 50), 1), ((50, 3), 0), ((2, 5, 3), 1)]:
    differentiated("softmax", lambda t: torch.softmax(t, axis), [normal(*shape) * 5], "sum", axis=axis)
    differentiated("log_softmax", lambda t: torch.log_softmax(t, axis), [normal(*shape) * 5], "sum", axis=axis)
    differentiated("cumsum", lambda t: torch.cumsum(t, axis), [normal(*shape)], "sum", axis=axis)
    x = normal(*shape)
    x.reshape(-1)[::5] = 0.25
    x.reshape(-1)[3] = np.nan
    case("sort", [x], [np.sort(x, axis), np.argsort(x, axis, kind="stable")], axis=axis, descending=False)
    down = np.argsort(-np.where(np.isnan(x), np.inf, x), axis, kind="stable")
    case("sort", [x], [np.take_along_axis(x, down, axis), down], axis=axis, descending=True)
    differentiated("sort_values", lambda t: torch.sort(t, axis)[0], [normal(*shape)], "exact", axis=axis, descending=False)
    i = rng.integers(-100, 100, shape)
    case("cumsum", [i], [i.cumsum(axis)], axis=axis)
    case("topk", [i], [np.take_along_axis(i, (o := np.argsort(-i, axis, kind="stable").take(range(2), axis)), axis), o], axis=axis, k=2, largest=True)
    ids = rng.integers(0, shape[axis], 9)
    differentiated("index_select", lambda t: torch.index_select(t, axis, torch.tensor(ids)), [normal(*shape)], "sum", axis=axis, ids=ids.tolist())
    gshape = list(shape); gshape[axis] = 4
    gids = rng.integers(0, shape[axis], gshape)
    source = normal(*gshape)
    x = normal(*shape)
    for op, f, arrays in [("gather", lambda t: torch.gather(t, axis, torch.tensor(gids)), [x]),
                          ("scatter_add", lambda t, s: torch.scatter_add(t, axis, torch.tensor(gids), s), [x, source])]:
        differentiated(op, f, arrays, "sum", axis=axis, ids=gids.reshape(-1).tolist(), ids_shape=gshape)

for a, b in [((3, 4), (4, 5)), ((1, 1), (1, 1)), ((4,), (4,)), ((4,), (4, 3)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)), ((5, 2, 3, 4), (2, 4, 3)), ((1, 3, 4), (6, 4, 2)),
             ((33, 70), (70, 37)), ((1, 100), (100, 30)), ((30, 100), (100, 1)), ((3, 0), (0, 2)), ((0, 3), (3, 2))]:
    differentiated("matmul", torch.matmul, [normal(*a), normal(*b)], "sum")
for text, shapes in [("ij,jk->ik", [(3, 4), (4, 5)]), ("ij,jk", [(3, 4), (4, 5)]), ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]), ("ii->i", [(4, 4)]),
                     ("ii", [(4, 4)]), ("i,j->ij", [(3,), (4,)]), ("ij->ji", [(3, 4)]), ("ij->", [(3, 4)]), ("i,i->", [(5,), (5,)]),
                     ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]), ("b...,b->...", [(3, 4, 2), (3,)]), ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 2)]),
                     ("ijk,kj->i", [(2, 3, 4), (4, 3)]), ("ba", [(2, 3)]), ("ij,kl->ijkl", [(2, 2), (2, 3)]), ("iij,jk->ik", [(3, 3, 2), (2, 4)])]:
    differentiated("einsum", lambda *t: torch.einsum(text, *t), [normal(*s) for s in shapes], "sum", text=text)
for axis, shapes in [(0, [(2, 3), (4, 3)]), (1, [(2, 3), (2, 1), (2, 2)]), (2, [(2, 2, 1), (2, 2, 3)])]:
    differentiated("concat", lambda *t: torch.cat(t, axis), [normal(*s) for s in shapes], "exact", axis=axis)
for axis in (0, 1, 2):
    differentiated("stack", lambda *t: torch.stack(t, axis), [normal(2, 3), normal(2, 3)], "exact", axis=axis)
x = normal(4, 6, 5)
for steps, f in [
    ([["transpose", 0, 2], ["slice", 1, 1, 6, 2]], lambda t: t.transpose(0, 2)[:, 1:6:2]),
    ([["permute", 2, 0, 1], ["narrow", 0, 1, 3]], lambda t: t.permute(2, 0, 1)[1:4]),
    ([["reshape", 2, 2, 30], ["transpose", 0, 1]], lambda t: t.reshape(2, 2, 30).transpose(0, 1)),
    ([["at", 1, -2], ["unsqueeze", 1], ["broadcast", 4, 3, 5]], lambda t: t[:, -2].unsqueeze(1).broadcast_to(4, 3, 5)),
    ([["flip", 1], ["flatten", 0, 1]], lambda t: t.flip(1).flatten(0, 1)),
    ([["tril", 1]], lambda t: t.tril(1)), ([["triu", -1]], lambda t: t.triu(-1)),
    ([["narrow", 2, 0, 4], ["narrow", 1, 0, 4], ["diagonal", 1, 2]], lambda t: t[:, :4, :4].diagonal(0, 1, 2)),
]:
    differentiated("views", f, [x], "exact", steps=steps)
v = np.array([0.0, -0.9, 1.5, -1.5, 100.7, -100.2, 127.0], np.float32)
for target in (np.float16, np.int8, np.int32, np.int64, np.bool_):
    case("cast", [v], [v.astype(target)], dtype=np.dtype(target).name)
big = np.array([-129, 255, 256, 2**33 + 5, 0], np.int64)
for target in (np.int8, np.uint8, np.int32, np.float32, np.bool_):
    case("cast", [big], [big.astype(target)], dtype=np.dtype(target).name)

awkward.cases(case, differentiated, UNARY, EXACT, ABSOLUTE, BINARY, NUMPY)

save_file(tensors, os.path.join(HERE, "tensors.safetensors"))
with open(os.path.join(HERE, "cases.json"), "w") as out:
    json.dump({"numpy": np.__version__, "torch": torch.__version__, "cases": cases}, out, separators=(",", ":"))
print(len(cases), "cases,", sum(t.nbytes for t in tensors.values()), "bytes")
