"""Rules of sums, multiples, matrix products and sums over axes."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from sdplip.network.operators import Concatenate, Scatter, Sort
from sdplip.network.read.arrays import (
    Array,
    added,
    broadcast,
    entries,
    mapped,
    noted,
    own,
    reshape,
    same_place,
    scale,
    shift,
    together,
)
from sdplip.network.read.maps import (
    activation,
    divided,
    matmul,
    negated,
    on_axis,
    reduced,
    sorted_along,
)
from sdplip.network.read.torch.functions import largest, product_known, smallest
from sdplip.network.read.torch.table import POSITIONS, PRODUCT, Call, rule


@rule("add", "sub", "subtract", "rsub")
def _(c: Call) -> Array:
    x, y, alpha = c["x"], c["other"], c.get("alpha", 1)
    if c.name.startswith("rsub"):
        x, y = y, x
    return plus(c, x, y, alpha if c.name.startswith("add") else -alpha)


def plus(c: Call, x: Any, y: Any, factor: float) -> Array:
    """$x + \\mathrm{factor} \\cdot y$ of arrays and constants, at least one of them an array."""
    factor = float(c.numbers(factor))
    if not isinstance(y, Array):
        assert isinstance(x, Array)
        return shift(x, factor * c.numbers(y))
    if isinstance(x, Array) and x.value == y.value and x.shape == y.shape and x.batch == y.batch:
        return scale(x, np.array(1.0 + factor))
    if abs(factor) != 1:
        y, factor = scale(y, np.array(float(factor))), 1
    if not isinstance(x, Array):
        return shift(y if factor == 1 else negated(y), c.numbers(x))
    return added((x, y), (1, int(factor)))


@rule("mul", "multiply")
def _(c: Call) -> Array:
    return times(c, c["x"], c["other"])


def times(c: Call, x: Any, y: Any) -> Array:
    """The product entry by entry of two arguments."""
    if isinstance(x, Array) and isinstance(y, Array):
        known = product_known(x, y)
        if known is None:
            raise c.tape.refusal(f"multiplies two arrays that come from the input: {PRODUCT}")
        return known
    x, y = (x, y) if isinstance(x, Array) else (y, x)
    return scale(x, c.numbers(y))


@rule("div", "divide", "true_divide")
def _(c: Call) -> Array:
    if c.get("rounding_mode") is not None:
        raise c.tape.refusal("rounds a quotient, which jumps.")
    if isinstance(c["other"], Array):
        raise c.tape.refusal(f"divides by what comes from the input: {PRODUCT}")
    return divided(c["x"], c.numbers(c["other"]))


@rule("neg", "negative")
def _(c: Call) -> Array:
    return negated(c["x"])


@rule("pow")
def _(c: Call) -> Array:
    if (
        isinstance(c["x"], Array)
        and not isinstance(c["exponent"], Array)
        and np.all(np.asarray(c["exponent"]) == 1)
    ):
        return c["x"]
    raise c.tape.refusal("raises to a power, whose slopes have no finite bound on the whole line.")


@rule("positive")
def _(c: Call) -> Array:
    return c["x"]


@rule("lerp")
def _(c: Call) -> Array:
    w = c["weight"]
    if isinstance(w, Array):
        raise c.tape.refusal(f"weighs by what comes from the input: {PRODUCT}")
    w = c.numbers(w)
    parts = [scale(v, f) if isinstance(v, Array) else v * f for v, f in ((c["x"], 1 - w), (c["end"], w))]
    return plus(c, parts[0], parts[1], 1)


@rule("addcmul", "addcdiv")
def _(c: Call) -> Array:
    a, b = c["tensor1"], c["tensor2"]
    if c.name == "addcmul" and (isinstance(a, Array) or isinstance(b, Array)):
        inner: Any = times(c, a, b)
    elif isinstance(b, Array):
        raise c.tape.refusal(f"divides by what comes from the input: {PRODUCT}")
    elif isinstance(a, Array):
        inner = divided(a, b)
    else:
        inner = a * b if c.name == "addcmul" else a / b
    return plus(c, c["x"], inner, c["value"])


@rule("mm", "bmm", "mv", "dot", "vdot", "matmul")
def _(c: Call) -> Array:
    x, names = c["x"], ("mat2", "vec", "tensor", "other")
    return product(c, x, next(c[name] for name in names if name in c.given))


@rule("addmm", "baddbmm", "addbmm", "addmv")
def _(c: Call) -> Array:
    if c.name.startswith("addbmm"):
        raise c.tape.refusal("adds up products over a batch, which mixes what it holds.")
    names = (("mat1", "mat2"), ("batch1", "batch2"), ("mat", "vec"))
    a, b = next((c[p], c[q]) for p, q in names if p in c.given)
    bias, beta, alpha = c["x"], c.get("beta", 1), c.get("alpha", 1)
    y: Any = product(c, a, b) if isinstance(a, Array) or isinstance(b, Array) else np.matmul(a, b)
    if alpha != 1:
        y = scale(y, c.numbers(alpha)) if isinstance(y, Array) else y * alpha
    return y if beta == 0 else plus(c, y, bias, float(beta))


@rule("linear")
def _(c: Call) -> Array:
    x, W, b = c["input"], c["weight"], c["bias"]
    if isinstance(W, Array) or not isinstance(x, Array):
        raise c.tape.refusal(f"has a weight that comes from the input: {PRODUCT}")
    y = on_axis(x, W, -1)
    return y if b is None else plus(c, y, b, 1)


def product(c: Call, x: Any, y: Any) -> Array:
    """A matrix product of which one side is constant."""
    if isinstance(x, Array) and isinstance(y, Array):
        raise c.tape.refusal(f"multiplies two arrays that come from the input: {PRODUCT}")
    left = isinstance(y, Array)
    array, M = (y, x) if left else (x, y)
    M = np.asarray(M, np.float64)
    if M.ndim > 2 and (M[(0,) * (M.ndim - 2)] == M).all():
        shape = M.shape[:-2]
        array = broadcast(array, (*together(array, array.full[:-2], shape), *array.full[-2:]))
        M = M[(0,) * (M.ndim - 2)]
    return matmul(array, M, left=left)


@rule("sum", "mean", "amax", "amin")
def _(c: Call) -> Array:
    x = c.array("x")
    how = {"sum": "sum", "mean": "mean", "amax": "max", "amin": "min"}[c.name]
    return reduced(x, axes_of(c, x), how, keepdims=bool(c.get("keepdim", False)))


def axes_of(c: Call, x: Array, key: str = "dim") -> Sequence[int]:
    """The axes of a reduction: all of them if none is named."""
    dim = c.get(key)
    if dim is None or (isinstance(dim, list) and not dim):
        return range(x.rank)
    return dim if isinstance(dim, list) else [dim]


@rule("max", "min")
def _(c: Call) -> Any:
    x = c.array("x")
    if "dim" not in c.given:
        return reduced(x, range(x.rank), c.name)
    return reduced(x, [c["dim"]], c.name, keepdims=bool(c["keepdim"])), POSITIONS


@rule("maximum", "minimum", "fmax", "fmin")
def _(c: Call) -> Array:
    x, y, most = c["x"], c["other"], c.name in ("maximum", "fmax")
    if isinstance(x, Array) and isinstance(y, Array):
        return ordered(x, y, most)
    x, y = (x, y) if isinstance(x, Array) else (y, x)
    return (largest if most else smallest)(x, c.numbers(y))


def ordered(x: Array, y: Array, most: bool) -> Array:
    """The larger or the smaller of two arrays, entry by entry: half of what sorting each pair gives, which is 1-Lipschitz.

    Asked for both, the same sorted value serves.
    """
    tape, shape = x.tape, together(x, x.full, y.full)
    x, y = broadcast(x, shape), broadcast(y, shape)
    if x.value == y.value and x.shape == y.shape:
        return x
    pairs = sorted_pair(x, y)
    half = entries(x) + (x.size if most else 0)
    return replace(mapped(pairs, half), batch=x.batch, tape=tape)


def sorted_pair(x: Array, y: Array) -> Array:
    """All smaller entries of two arrays, then all larger ones; written down once for the same two."""
    same_place((x, y))
    tape = x.tape
    first, second = sorted((x.value, y.value))
    (a, i), (b, j) = tape.read_through(first), tape.read_through(second)
    if (
        a == b
        and i is not None
        and j is not None
        and min(*i, *j) >= 0
        and len(np.unique([*i, *j])) == 2 * x.size
    ):
        source, groups, back = a, np.stack([i, j], -1), np.concatenate([i, j])
    else:
        source = tape.add(Concatenate((x.size, x.size)), first, second, shape=(2 * x.size,))
        groups, back = np.arange(2 * x.size).reshape(2, -1).T, np.arange(2 * x.size)
    flat = Array(tape, source, (tape.length(source),), None)
    for k, node in enumerate(tape.builder.nodes, 1):
        if node.inputs == (source,) and isinstance(node.op, Sort) and np.array_equal(node.op.groups, groups):
            found = Array(tape, k, flat.shape, None)
            break
    else:
        found = noted(flat, Sort(groups, flat.size))
    return (
        replace(found, shape=flat.shape)
        if np.array_equal(back, np.arange(flat.size))
        else mapped(found, back)
    )


@rule("sort", "msort")
def _(c: Call) -> Any:
    y = along(c.array("x"), c.get("dim", -1), bool(c.get("descending", False)))
    return (y, POSITIONS) if isinstance(c.out, tuple | list) else y


def along(x: Array, dim: int, descending: bool) -> Array:
    """Sorted along an axis."""
    y = sorted_along(x, dim)
    return mapped(y, np.flip(entries(y), dim)) if descending else y


@rule("topk", "kthvalue", "median")
def _(c: Call) -> Any:
    x, dim = c.array("x"), c.get("dim", None)
    if dim is None:
        raise c.tape.refusal("takes the median of all numbers of a batch.")
    y = along(x, dim, descending=c.name == "topk" and bool(c["largest"]))
    n = x.shape[dim]
    if c.name == "topk":
        chosen: Any = np.arange(c["k"])
    else:
        chosen = [(n - 1) // 2 if c.name == "median" else c["k"] - 1]
    z = mapped(y, np.take(entries(y), chosen, dim))
    if c.name != "topk" and not c["keepdim"]:
        z = reshape(z, tuple(c.out[0].shape))
    return z, POSITIONS


@rule("linalg_vector_norm", "norm", "frobenius_norm")
def _(c: Call) -> Array:
    x, order = c.array("x"), c.get("ord", c.get("p", 2))
    axes, keep = axes_of(c, x), bool(c.get("keepdim", False))
    order = 2 if order is None else order
    if order in (1, float("inf")):
        return reduced(activation(x, "abs"), axes, "sum" if order == 1 else "max", keepdims=keep)
    if order != 2:
        raise c.tape.refusal(f"takes a norm of order {order}. Known are 1, 2 and infinity.")
    return reduced(x, axes, "l2", keepdims=keep)


@rule("logsumexp")
def _(c: Call) -> Array:
    x = c.array("x")
    return reduced(x, axes_of(c, x), "logsumexp", keepdims=bool(c.get("keepdim", False)))


@rule("index_add")
def _(c: Call) -> Array:
    """Adds slices at constant places along an axis."""
    source, index = c.array("source"), c.constant("index")
    (dim,) = own(source, c["dim"])
    assert index is not None
    place = np.asarray(np.take(_places(c, source), index.astype(np.intp), dim))
    return _added_at(c, source, place)


@rule("scatter_add")
def _(c: Call) -> Array:
    """Adds entries at constant places along an axis, the same in every sample."""
    source, index = c.array("src"), c.constant("index")
    (dim,) = own(source, c["dim"])
    assert index is not None
    if index.shape != source.full:
        raise c.tape.refusal(
            f"adds at places of shape {index.shape}, but entries of shape {source.full}. Use one shape."
        )
    if source.batch is not None:
        first = np.take(index, [0], source.batch.axis)
        if source.batch.lead != 1 or (index != first).any():
            raise c.tape.refusal("adds at other places in every sample. Use the same ones.")
        index = first
    return _added_at(c, source, np.take_along_axis(_places(c, source), index.astype(np.intp), dim))


def _places(c: Call, source: Array) -> np.ndarray:
    """The numbers of the entries of what comes out, in its shape for one sample."""
    if source.batch is not None and source.batch.lead != 1:
        raise c.tape.refusal(
            "adds at places of an axis that the samples share. Keep the batch an axis of its own."
        )
    shape = [
        1 if source.batch is not None and axis == source.batch.axis else n
        for axis, n in enumerate(c.out.shape)
    ]
    return np.arange(prod(shape)).reshape(shape)


def _added_at(c: Call, source: Array, place: np.ndarray) -> Array:
    """What entries make that are added at places of an array or a constant."""
    sums = noted(source, Scatter(place.reshape(-1), prod(_places(c, source).shape)), _places(c, source).shape)
    return plus(c, c["x"], sums, c.get("alpha", 1))


@rule("cumsum")
def _(c: Call) -> Array:
    x = c.array("x")
    return on_axis(x, np.tril(np.ones((x.shape[c["dim"]],) * 2)), c["dim"])
