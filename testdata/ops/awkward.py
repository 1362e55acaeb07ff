"""The same awkward operands for every op of docs/ops.md: each element type, tails behind whole vectors, no elements, NaN, infinities, and
the ends of the type. Results are made in float64 by PyTorch, or in float32 where float32 itself is what overflows, and rounded once to
float32 and once to the type. make_goldens.py calls `cases`.
"""
import warnings
import numpy as np
import torch

# The variance of nothing is NaN, and wanted.
warnings.filterwarnings("ignore", message=".*degrees of freedom.*")

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
INTEGERS = [torch.int8, torch.uint8, torch.int32, torch.int64]
ALL = FLOATS + INTEGERS + [torch.bool]
# Least positive numbers; torch.finfo knows the normal ones alone.
LEAST = {torch.float32: 2.0**-149, torch.float16: 2.0**-24, torch.bfloat16: 2.0**-133}
ROUNDED = {torch.float16: "half", torch.bfloat16: "brain"}
NAN, INF = float("nan"), float("inf")
rng = np.random.default_rng(20261127)


def of(values, dtype):
    return torch.tensor(values, dtype=torch.float64 if dtype.is_floating_point else torch.int64).to(dtype)


def numbers(shape, dtype):
    """Small numbers, some of them equal, whose products and sums every type of floats has exactly."""
    if dtype == torch.bool:
        return torch.tensor(rng.random(shape) < 0.5)
    if dtype.is_floating_point:
        return torch.tensor(rng.integers(-16, 17, shape) / 8).to(dtype)
    low = 0 if dtype == torch.uint8 else -4
    return torch.tensor(rng.integers(low, 5, shape)).to(dtype)


def ends(dtype):
    """A vector of what a type has at its ends and around zero."""
    if dtype == torch.bool:
        return torch.tensor([True, False] * 9 + [True])
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        return of([info.min, info.max, info.max - 1, 0, 1, 2, 3, 5, 7, 11, 13, 29, 64, 100, 0, info.min + 1, info.max, 4, 1], dtype)
    info, least = torch.finfo(dtype), LEAST[dtype]
    return of([NAN, INF, -INF, 0.0, -0.0, least, -least, info.tiny, info.max, -info.max, 0.1, -0.5, 1.0, -1.0, 1.5, 2.5, -3.75, 7.0, -11.0], dtype)


def rows(dtype):
    """Rows with a special value in the first vector or behind it, each row another: `[9, 19]`, but for integers and truths, of their ends."""
    if not dtype.is_floating_point:
        x = numbers((3, 19), dtype)
        x[0], x[1, :17] = ends(dtype), ends(dtype)[:17].flip(0)
        return x
    x = torch.tensor(rng.integers(1, 17, (9, 19)) / 8)
    x[0, 3], x[1, 18], x[2, 5], x[3, 17] = NAN, NAN, INF, -INF
    x[4, 0], x[4, 18] = INF, -INF
    x[5, 2], x[5, 7] = NAN, INF
    x[6], x[7], x[8] = -INF, 0.0, LEAST[dtype]
    x[7, ::2], x[8, 1::3] = -0.0, -LEAST[dtype]
    return x.to(dtype)


def largest(dtype):
    """Rows whose sum is an end of the type, as is the largest element: `[2, 19]`."""
    x, info = torch.full((2, 19), 0.5, dtype=torch.float64), torch.finfo(dtype)
    x[0, 17], x[0, 2], x[1, 4], x[1, 18] = info.max, -1.0, -info.max, LEAST[dtype]
    return x.to(dtype)


def everything(dtype):
    """Those of `rows` and the ends, for what moves elements and does not change them."""
    return torch.cat([rows(dtype), ends(dtype)[None]])


def wide(x):
    return x.to(torch.float64) if x.dtype.is_floating_point else x


def rounded(y, dtype):
    return y.to(torch.float32).to(dtype)


def tolerance(dtype, of_float32):
    return of_float32 if of_float32 == "exact" else ROUNDED.get(dtype, of_float32)


def unary(case, functions, exact, absolute):
    for name, f in functions.items():
        f = (lambda x: torch.where(x.isnan(), x, torch.sign(x))) if name == "sign" else f
        of_float32 = "exact" if name in exact else "absolute" if name in absolute else "ulps"
        for dtype in FLOATS:
            for x in (ends(dtype), numbers((3, 1, 17), dtype), numbers((), dtype), numbers((2, 0, 3), dtype)):
                case(name, [x], [rounded(f(wide(x)), dtype)], tolerance(dtype, of_float32))
    for name, f in {"is_nan": torch.isnan, "is_finite": torch.isfinite, "logical_not": torch.logical_not}.items():
        for dtype in ALL if name == "logical_not" else FLOATS:
            for x in (ends(dtype), numbers((2, 0, 3), dtype)):
                case(name, [x], [f(x)])
    for name in ("neg", "abs", "sign", "square", "relu"):
        for dtype in INTEGERS:
            for x in (ends(dtype), numbers((2, 0, 3), dtype)):
                case(name, [x], [functions[name](x)])


PAIRS = [((19,), (19,)), ((3, 1, 17), (2, 1)), ((), (5,)), ((0,), (1,)), ((2, 0), (1, 1))]


def pairs(dtype):
    x = ends(dtype)
    yield x[:, None], x[None, :]
    for a, b in PAIRS:
        yield numbers(a, dtype), numbers(b, dtype)


def nonzero(x):
    return torch.where(x == 0, torch.ones_like(x), x)


def binary(case, functions):
    for name, f in functions.items():
        for dtype in FLOATS + ([] if name in ("div", "pow") else INTEGERS):
            for a, b in pairs(dtype):
                if not dtype.is_floating_point:
                    b = nonzero(b) if name in ("floor_div", "rem") else b
                    y = torch.from_numpy(np.asarray(f(a.numpy(), b.numpy())))
                elif name == "pow":
                    y = rounded(torch.from_numpy(np.asarray(f(wide(a).numpy(), wide(b).numpy()))), dtype)
                else:
                    y = rounded(torch.from_numpy(np.asarray(f(a.float().numpy(), b.float().numpy()))), dtype)
                case(name, [a, b], [y], tolerance(dtype, "ulps" if name == "pow" else "exact"))
    for name, f in {"eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge}.items():
        for dtype in ALL:
            x = ends(dtype)
            for a, b in [(x[:, None], x[None, :]), (numbers((3, 1, 17), dtype), numbers((2, 1), dtype)), (numbers((2, 0), dtype), numbers((1, 1), dtype))]:
                case(name, [a, b], [f(a, b)])
    for name, f in {"logical_and": torch.logical_and, "logical_or": torch.logical_or, "logical_xor": torch.logical_xor}.items():
        for a, b in PAIRS:
            a, b = numbers(a, torch.bool), numbers(b, torch.bool)
            case(name, [a, b], [f(a, b)])
    for dtype in ALL:
        for c, a, b in [((19,), (1,), (19,)), ((3, 1, 17), (2, 1), (1, 17)), ((0, 3), (3,), ()), ((1, 3), (0, 1), (0, 3))]:
            c, a, b = numbers(c, torch.bool), numbers(a, dtype), ends(dtype) if b == (19,) else numbers(b, dtype)
            case("where", [c, a, b], [torch.where(c, a, b)])


def integer(x, dtype):
    """A float as an integer: towards zero, at most the ends of the type, NaN as zero, which NumPy leaves open."""
    info = torch.iinfo(dtype)
    return of([0 if np.isnan(v) else int(min(max(v, info.min), info.max)) for v in x.double().tolist()], dtype)


def casts(case):
    for dtype in ALL:
        for target in ALL:
            x = ends(dtype)
            if dtype.is_floating_point and target in INTEGERS:
                y = integer(x, target)
            else:
                # Integers become small floats by way of float32.
                y = x.to(torch.float32).to(target) if target.is_floating_point else x.to(target)
            case("cast", [x], [y], dtype=str(target).removeprefix("torch."))
        for shape in ((0,), (2, 0, 3)):
            case("cast", [numbers(shape, dtype)], [numbers(shape, torch.float16)], dtype="float16")
        for x in (everything(dtype), numbers((3, 0), dtype)):
            case("copy", [x], [x])


def over(f):
    """A reduction of one dimension over several, in row-major order."""
    def reduce(x, axes, keepdim):
        others = [i for i in range(x.dim()) if i not in axes]
        n = int(np.prod([x.shape[i] for i in axes]))
        folded = x.permute(others + axes).reshape([x.shape[i] for i in others] + [n])
        y = f(folded)
        return y.reshape([1 if i in axes else x.shape[i] for i in range(x.dim())]) if keepdim else y
    return reduce


def deviations(x):
    return (x - x.mean(-1, keepdim=True)).square().sum(-1)


# In float32, whose squares overflow before the norm and the deviation do.
def norm(x):
    return x.float().square().sum(-1).sqrt()


def std(x):
    return x.var(-1, correction=0).float().sqrt()


def extreme(f):
    return lambda x: torch.from_numpy(np.asarray(f(wide(x).numpy(), -1))).to(torch.int64)


# Of floats: tolerance and function over the last dimension.
STATISTICS = {
    "sum": ("sum", lambda x: x.sum(-1)), "prod": ("sum", lambda x: x.prod(-1)), "deviations": ("sum", deviations),
    "mean": ("sum", lambda x: x.mean(-1)), "var": ("sum", lambda x: x.var(-1, correction=0)), "norm": ("sum", norm),
    "std": ("sum", std), "logsumexp": ("sum", lambda x: torch.logsumexp(x, -1)),
    "min": ("exact", lambda x: x.amin(-1)), "max": ("exact", lambda x: x.amax(-1)),
}
# Of any type, with a result of its own.
FOUND = {"any": lambda x: (x != 0).any(-1), "all": lambda x: (x != 0).all(-1), "argmin": extreme(np.argmin), "argmax": extreme(np.argmax)}
COUNTED = {"sum": lambda x: x.sum(-1, dtype=torch.int64), "prod": lambda x: x.to(torch.int64).prod(-1),
           "min": lambda x: x.amin(-1), "max": lambda x: x.amax(-1)}
# NumPy has none of no elements either, or, for logsumexp, the op says so.
REFUSED = ("min", "max", "argmin", "argmax", "logsumexp")


def reductions(case):
    for dtype in ALL:
        floats = dtype.is_floating_point
        named = {name: ("exact", f) for name, f in FOUND.items()}
        named |= STATISTICS if floats else {name: ("exact", f) for name, f in COUNTED.items()}
        special = [(x, [1]) for x in ([rows(dtype), largest(dtype)] if floats else [rows(dtype)])]
        special += [(x.T.contiguous(), [0]) for x, _ in special]
        awkward = [(numbers((2, 3, 17), dtype), [0, 2]), (numbers((1, 1), dtype), [0])]
        some = [(numbers((0, 3), dtype), [1]), (numbers((2, 0, 3), dtype), [0])]
        none = [(numbers((0, 3), dtype), [0]), (numbers((3, 0), dtype), [1])]
        for name, (of_float32, f) in named.items():
            for i, (x, axes) in enumerate(special + awkward + some + none):
                args = {"axes": axes, "keepdim": i % 2 == 1}
                if name in REFUSED and x.shape[axes[0]] == 0:
                    case(name, [x], [], refused=True, **args)
                    continue
                y = over(f)(wide(x), axes, args["keepdim"])
                if floats and name in STATISTICS:
                    y = rounded(y, dtype)
                case(name, [x], [y], tolerance(dtype, of_float32), **args)
        if floats:
            # Near zero, where a rounding on the way would show.
            x = of([-4.0] * 55, dtype)
            case("logsumexp", [x], [rounded(torch.logsumexp(wide(x), 0), dtype)], tolerance(dtype, "sum"), axes=[0], keepdim=False)
            for p in (0.0, 1.0, 3.0, INF):
                x = rows(dtype)
                y = torch.linalg.vector_norm(wide(x), p, 1)
                case("norm", [x], [rounded(y, dtype)], tolerance(dtype, "sum"), axes=[1], keepdim=False, p="inf" if p == INF else p)
            for shape in ((1, 5), (2, 17)):
                x = numbers(shape, dtype)
                for name, f in {"var": torch.var, "std": torch.std}.items():
                    for axis in (0, 1):
                        y = rounded(f(wide(x), axis, correction=1), dtype)
                        case(name, [x], [y], tolerance(dtype, "sum"), axes=[axis], keepdim=False, correction=1)


NONE = [((0, 3), 0), ((0, 3), 1), ((2, 0, 3), 2)]


def along(dtype):
    """Operands with an axis."""
    yield rows(dtype), 1
    yield rows(dtype).T.contiguous(), 0
    if dtype.is_floating_point:
        yield largest(dtype), 1
    for shape, axis in NONE:
        yield numbers(shape, dtype), axis


def scans(case):
    for dtype in ALL:
        for x, axis in along(dtype):
            if dtype.is_floating_point:
                for name, f in {"softmax": torch.softmax, "log_softmax": torch.log_softmax, "cumsum": torch.cumsum}.items():
                    case(name, [x], [rounded(f(wide(x), axis), dtype)], tolerance(dtype, "sum"), axis=axis)
            else:
                case("cumsum", [x], [x.to(torch.int64).cumsum(axis)], axis=axis)
            x = everything(dtype) if (len(x), axis) == (len(rows(dtype)), 1) else x
            for down in (False, True):
                y, ids = torch.sort(x, dim=axis, descending=down, stable=True)
                case("sort", [x], [y, ids], axis=axis, descending=down)
                k = min(5, x.shape[axis])
                case("topk", [x], [y.narrow(axis, 0, k), ids.narrow(axis, 0, k)], axis=axis, k=k, largest=down)
        x = numbers((3, 17), dtype)
        y, ids = torch.sort(x, dim=0, stable=True)
        case("topk", [x], [y[:0], ids[:0]], axis=0, k=0, largest=False)


def indexed(case):
    picks = [((1, 19), 1, 7), ((17, 2), 0, 3), ((0, 3), 0, 0), ((3, 2), 0, 0), ((2, 0), 0, 3), ((2, 0, 3), 2, 2)]
    for dtype in ALL:
        for at, (shape, axis, count) in enumerate(picks):
            x = everything(dtype) if at == 0 else numbers(shape, dtype)
            chosen = torch.tensor(rng.integers(0, max(shape[axis], 1), count))
            case("index_select", [x], [x.index_select(axis, chosen)], axis=axis, ids=chosen.tolist())
            # Each place once, so that a small float is rounded once.
            order = torch.tensor(rng.random(tuple(x.shape))).argsort(axis)
            ids = order.narrow(axis, 0, min(count, x.shape[axis]))
            args = {"axis": axis, "ids": ids.reshape(-1).tolist(), "ids_shape": list(ids.shape)}
            case("gather", [x], [x.gather(axis, ids)], **args)
            if dtype != torch.bool:
                source = numbers(tuple(ids.shape), dtype)
                y = wide(x).scatter_add(axis, ids, wide(source))
                case("scatter_add", [x, source], [rounded(y, dtype) if dtype.is_floating_point else y], **args)
        if dtype != torch.bool:
            # Several to one place, the last of them beyond the end of the type.
            x, ids = numbers((3,), dtype), torch.tensor([1, 0, 1, 2, 2])
            top = (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max
            source = of([1, 2, 3, top, top], dtype)
            y = x.float().scatter_add(0, ids, source.float()).to(dtype) if dtype.is_floating_point else x.scatter_add(0, ids, source)
            case("scatter_add", [x, source], [y], axis=0, ids=ids.tolist(), ids_shape=[5])


def moved(case):
    for dtype in ALL:
        special, none = everything(dtype), numbers((0, 19), dtype)
        for parts, axis in [([special, numbers((3, 19), dtype)], 0), ([special[:2], numbers((2, 1), dtype), numbers((2, 0), dtype)], 1),
                            ([none, special[:2], none], 0), ([none, none[:, :1]], 1)]:
            case("concat", parts, [torch.cat(parts, axis)], axis=axis)
        for x, axis in [(special, 1), (special[:2], -1), (none, 0), (numbers((2, 0), dtype), 2)]:
            case("stack", [x, x.flip(0)], [torch.stack([x, x.flip(0)], axis)], axis=axis)
        for x, axis, parts in [(special, 1, [2, 0, 17]), (none, 0, [0, 0]), (none, 1, [18, 1])]:
            case("split", [x], list(x.split(parts, axis)), axis=axis, parts=parts)
        cube = numbers((0, 4, 5), dtype)
        for steps, f, x in [
            (["flip", 1], lambda t: t.flip(1), special), (["flip", 0], lambda t: t.flip(0), none),
            (["tril", 1], lambda t: t.tril(1), special), (["tril", 0], lambda t: t.tril(0), none),
            (["triu", -1], lambda t: t.triu(-1), special), (["triu", 0], lambda t: t.triu(0), cube),
            (["reshape", 19, len(special)], lambda t: t.reshape(19, -1), special), (["reshape", 5, 0], lambda t: t.reshape(5, 0), cube),
            (["flatten", 0, 1], lambda t: t.flatten(0, 1), special), (["flatten", 1, 2], lambda t: t.flatten(1, 2), cube),
            (["permute", 1, 0], lambda t: t.permute(1, 0), special), (["permute", 2, 0, 1], lambda t: t.permute(2, 0, 1), cube),
            (["transpose", 0, 1], lambda t: t.transpose(0, 1), special), (["transpose", 0, 2], lambda t: t.transpose(0, 2), cube),
            (["narrow", 0, 0, 2], lambda t: t.narrow(0, 0, 2), special), (["narrow", 1, 2, 17], lambda t: t.narrow(1, 2, 17), special),
            (["narrow", 1, 19, 0], lambda t: t.narrow(1, 19, 0), special), (["narrow", 0, 0, 0], lambda t: t.narrow(0, 0, 0), none),
            (["slice", 1, 1, 19, 3], lambda t: t[:, 1:19:3], special), (["slice", 2, 1, 5, 2], lambda t: t[:, :, 1:5:2], cube),
            (["slice", 0, 1, 1, 2], lambda t: t[1:1:2], special),
            (["at", 1, -1], lambda t: t[:, -1], special), (["at", 1, 3], lambda t: t[:, 3], cube),
            (["squeeze", 0], lambda t: t.squeeze(0), special[None]), (["squeeze", 1], lambda t: t.squeeze(1), none[:, None]),
            (["unsqueeze", 2], lambda t: t.unsqueeze(2), special), (["unsqueeze", 0], lambda t: t.unsqueeze(0), none),
            (["broadcast", 2, len(special), 19], lambda t: t.broadcast_to(2, len(special), 19), special),
            (["broadcast", 2, 0, 19], lambda t: t.broadcast_to(2, 0, 19), none),
            (["broadcast", 0, 1, 19], lambda t: t.broadcast_to(0, 1, 19), special[:1]),
            (["diagonal", 0, 1], lambda t: t.diagonal(0, 0, 1), torch.cat([special] * 7)[:19]),
            (["diagonal", 1, 2], lambda t: t.diagonal(0, 1, 2), cube[:, :, :4]),
        ]:
            case("views", [x], [f(x)], steps=[steps])


def products(case):
    for dtype in FLOATS:
        tol = tolerance(dtype, "sum")
        weights = of([[1.0, 2.0, 0.5]] * 19, dtype)
        for a, b in [(rows(dtype), weights), (largest(dtype), weights), (weights.T.contiguous(), rows(dtype).T.contiguous()), (rows(dtype), weights[:, 0]),
                     (rows(dtype), weights * 0)]:
            case("matmul", [a, b], [rounded(wide(a) @ wide(b), dtype)], tol)
        for a, b in [((1, 17), (17, 1)), ((5, 33), (33, 7)), ((2, 1, 3, 4), (5, 4, 17)), ((17,), (17, 3)), ((0, 3), (3, 2)), ((3, 0), (0, 2)), ((3, 2), (2, 0)),
                     ((2, 0, 3, 4), (4, 5)), ((0,), (0,)), ((2, 3, 0), (0,))]:
            a, b = numbers(a, dtype), numbers(b, dtype)
            case("matmul", [a, b], [rounded(wide(a) @ wide(b), dtype)], tol)
        special = [("ij,jk->ik", [rows(dtype), weights]), ("ij,jk->ki", [largest(dtype), weights]), ("ij->i", [rows(dtype)]), ("ij,ij->ij", [rows(dtype)] * 2)]
        shaped = [("bhqd,bhkd->bhqk", [(2, 1, 3, 17), (2, 1, 5, 17)]), ("i,j->ij", [(17,), (3,)]), ("ii->i", [(17, 17)]), ("ij,jk->ik", [(0, 3), (3, 2)]),
                  ("ij,jk->ik", [(3, 0), (0, 2)]), ("ij->", [(0, 3)]), ("ii", [(0, 0)]), ("...i,i->...", [(2, 0, 3), (3,)])]
        for text, arrays in special + [(text, [numbers(s, dtype) for s in shapes]) for text, shapes in shaped]:
            case("einsum", arrays, [rounded(torch.einsum(text, *map(wide, arrays)), dtype)], tol, text=text)
        ones = torch.ones(19, dtype=dtype)
        for a, b in [(x, ones) for x in torch.cat([rows(dtype), largest(dtype)])] + [(numbers((17,), dtype), numbers((17,), dtype)), (numbers((0,), dtype),) * 2]:
            case("dot", [a, b], [rounded(wide(a) @ wide(b), dtype)], tol)
    for dtype in FLOATS + INTEGERS:
        for a, b in [(ends(dtype), ends(dtype)[5:]), (numbers((1,), dtype), numbers((17,), dtype)), (numbers((0,), dtype), numbers((3,), dtype)),
                     (numbers((3,), dtype), numbers((0,), dtype))]:
            y = torch.outer(a.float(), b.float()).to(dtype) if dtype.is_floating_point else torch.outer(a, b)
            case("outer", [a, b], [y])


def gradients(differentiated, unary, binary):
    """Of no elements, as those of the others are in make_goldens.py."""
    def empty(*shape):
        return np.zeros(shape, np.float32)

    for name, f in unary.items():
        differentiated(name, f, [empty(0, 3)], "exact")
    for name, f in binary.items():
        differentiated(name, f, [empty(0, 3), np.ones(3, np.float32)], "exact")
    for name, f in {"sum": torch.sum, "mean": torch.mean}.items():
        differentiated(name, lambda x: f(x, 1), [empty(0, 3)], "sum", axes=[1], keepdim=False)
        differentiated(name, lambda x: f(x, 0), [empty(2, 0, 3)], "sum", axes=[0], keepdim=False)
    differentiated("sum", lambda x: x.sum(0), [empty(0, 3)], "sum", axes=[0], keepdim=False)
    for name, f in {"softmax": torch.softmax, "log_softmax": torch.log_softmax, "cumsum": torch.cumsum}.items():
        for axis in (0, 1):
            differentiated(name, lambda x: f(x, axis), [empty(0, 3)], "sum", axis=axis)
    for axis in (0, 1):
        differentiated("sort_values", lambda x: torch.sort(x, axis)[0], [empty(0, 3)], "exact", axis=axis, descending=False)
    ones = np.ones((2, 3), np.float32)
    differentiated("index_select", lambda x: x[[]], [ones], "exact", axis=0, ids=[])
    ids = torch.zeros((0, 3), dtype=torch.int64)
    differentiated("gather", lambda x: x.gather(0, ids), [ones], "exact", axis=0, ids=[], ids_shape=[0, 3])
    differentiated("scatter_add", lambda x, y: x.scatter_add(0, ids, y), [ones, empty(0, 3)], "exact", axis=0, ids=[], ids_shape=[0, 3])
    differentiated("concat", lambda *x: torch.cat(x, 0), [empty(0, 3), ones], "exact", axis=0)
    differentiated("stack", lambda *x: torch.stack(x, 0), [empty(0, 3), empty(0, 3)], "exact", axis=0)
    for a, b in [((0, 3), (3, 2)), ((3, 0), (0, 2)), ((2, 0, 3, 4), (4, 5))]:
        differentiated("matmul", torch.matmul, [np.ones(a, np.float32), np.ones(b, np.float32)], "sum")
    for steps, f in [(["narrow", 1, 2, 0], lambda x: x.narrow(1, 2, 0)), (["slice", 0, 1, 1, 2], lambda x: x[1:1:2]), (["flip", 0], lambda x: x.flip(0)),
                     (["tril", 0], lambda x: x.tril()), (["broadcast", 0, 2, 3], lambda x: x.broadcast_to(0, 2, 3))]:
        differentiated("views", f, [ones], "exact", steps=[steps])


def cases(case, differentiated, functions, exact, absolute, trained, arithmetic):
    unary(case, functions, exact, absolute)
    with np.errstate(all="ignore"):
        binary(case, arithmetic)
    casts(case)
    reductions(case)
    scans(case)
    indexed(case)
    moved(case)
    products(case)
    gradients(differentiated, functions, trained)
