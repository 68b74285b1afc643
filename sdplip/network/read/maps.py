"""What graphs do with arrays besides moving entries: matrices on an axis, sums and means over axes, functions, maxima, orders."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from sdplip.errors import Misfit
from sdplip.network.operators import (
    Activation,
    Average,
    Convolution,
    Dense,
    Diagonal,
    Grouped,
    Maximum,
    Norms,
    OnAxis,
    Scatter,
    Sort,
)
from sdplip.network.read.arrays import (
    Array,
    Constant,
    axis_of,
    broadcast,
    concatenated,
    entries,
    fitted,
    mapped,
    noted,
    own,
    reshape,
    same_place,
    scale,
    share,
    together,
    transpose,
)
from sdplip.network.read.normalisation import ERROR, normalisation
from sdplip.shapes import Float, Int

Matrix = Float[np.ndarray, "m n"]


def on_axis(x: Array, W: Matrix, axis: int, b: Float[np.ndarray, " m"] | None = None) -> Array:
    """The matrix `W (out, in)` on one axis, and a shift along it."""
    (axis,) = own(x, axis)
    if W.ndim != 2 or W.shape[1] != x.shape[axis]:
        raise Misfit(
            f"{x.tape.subject} multiplies axis {axis} of {x.full} by a matrix of shape {W.shape[::-1]}."
        )
    before, after = prod(x.shape[:axis]), prod(x.shape[axis + 1 :])
    x.tape.need(before * len(W) * after)
    shift_ = None if b is None else np.tile(np.repeat(np.asarray(b, np.float64), after), before)
    op = Dense(W, shift_) if before == after == 1 else OnAxis(W, before, after, shift_)
    return noted(x, op, (*x.shape[:axis], len(W), *x.shape[axis + 1 :]))


def matmul(x: Array, M: Constant, *, left: bool = False) -> Array:
    """`x @ M`, or `M @ x`, as NumPy does it: vectors, matrices, stacks of matrices."""
    if not x.rank or not M.ndim:
        raise Misfit(f"{x.tape.subject} multiplies shapes {x.full} and {M.shape}.")
    if x.rank == 1:
        wide = reshape(x, (*x.full, 1) if left else (1, *x.full))
        y = matmul(wide, M, left=left)
        return reshape(y, y.full[:-1] if left else (*y.full[:-2], y.full[-1]))
    if M.ndim == 1:
        y = matmul(x, M[None] if left else M[:, None], left=left)
        return reshape(y, (*y.full[:-2], y.full[-1]) if left else y.full[:-1])
    W = M if left else M.swapaxes(-1, -2)
    if (
        W.shape[-1] != x.full[-2 if left else -1]
    ):  # before anything is said of samples: the graph does not run so
        raise Misfit(f"{x.tape.subject} multiplies shapes {x.full} and {M.shape}.")
    if prod(W.shape[:-2]) == 1:
        y = on_axis(x, W.reshape(W.shape[-2:]), -2 if left else -1)
        new = max(0, W.ndim - y.rank)
        return reshape(y, (1,) * new + y.full)
    if left:
        return _stacked(x, W)
    swap = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    y = _stacked(transpose(x, swap), W)
    return transpose(y, [*range(y.rank - 2), y.rank - 1, y.rank - 2])


def _stacked(x: Array, W: Float[np.ndarray, "*stack m n"]) -> Array:
    """Each matrix of a stack on its part of `x (*stack n p)`: a convolution of groups along p, with one tap."""
    own(x, -2)
    x = broadcast(x, (*together(x, x.full[:-2], W.shape[:-2]), *x.full[-2:]))
    m, n = W.shape[-2:]
    if n != x.shape[-2]:
        raise Misfit(f"{x.tape.subject} multiplies shapes {W.shape} and {x.full}.")
    last = x.batch is not None and x.batch.axis == x.rank - 1  # the matrices are those of every sample then
    like = replace(x, shape=(*x.shape[:-2], m, n), batch=None if last else x.batch)
    stack = share(like, W).reshape(-1, n, 1)
    op = Convolution(stack, x.shape[-1:], (1,), ((0, 0),), (1,), len(stack) // m)
    return noted(x, op, (*x.shape[:-2], m, x.shape[-1]))


def activation(x: Array, name: str, **parameters: float | Constant) -> Array:
    """The elementwise function of that name; parameters are numbers or constants that repeat to the shape of `x`."""
    vectors = {key: _parameter(x, c) for key, c in parameters.items()}
    return noted(x, Activation(name, x.size, vectors))


def _parameter(x: Array, c: float | Constant) -> float | Float[np.ndarray, " n"]:
    c = np.asarray(c, np.float64)
    if c.size and (c == c.flat[0]).all():
        return float(c.flat[0])
    if together(x, c.shape, x.full) != x.full:
        raise Misfit(f"{x.tape.subject} has parameters of shape {c.shape} for an array of shape {x.full}.")
    return np.ascontiguousarray(share(x, c)).reshape(-1)


def batch_norm(
    x: Array, scale_: Constant, b: Constant, mean: Constant, variance: Constant, eps: float, axis: int = 1
) -> Array:
    r"""$\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$ with one entry of each constant a channel, and its roundings.

    Raises:
        InvalidWeight: a variance below zero.
    """
    (axis,) = own(x, axis)
    vectors = [np.asarray(v, np.float64).reshape(-1) for v in (scale_, b, mean, variance)]
    if any(len(v) != x.shape[axis] for v in vectors):
        raise Misfit(f"{x.tape.subject} normalises {x.shape[axis]} channels by {len(vectors[0])} factors.")
    found = normalisation(*vectors, eps=eps)
    along = (-1, *(1,) * (x.rank - axis - 1))
    parts = (found.d, found.b, found.slack)
    d, b, slack = (np.broadcast_to(v.reshape(along), x.shape).reshape(-1) for v in parts)
    return noted(x, Diagonal(d, b, ERROR, slack))


def groups_of(x: Array, axes: Sequence[int]) -> tuple[Int[np.ndarray, "count size"], tuple[int, ...]]:
    """The entries that lie side by side along axes, one row each of the rest, and the axes counted from the front."""
    axes = tuple(sorted(set(own(x, *axes))))
    rest = [k for k in range(x.rank) if k not in axes]
    index = entries(x).transpose(*rest, *axes)
    return index.reshape(-1, prod(x.shape[k] for k in axes)), axes


def reduced(x: Array, axes: Sequence[int], how: str, *, keepdims: bool = False) -> Array:
    """`how` ("sum", "mean", "max", "min", "l2", "logsumexp") over axes."""
    if how == "min":
        return scale(reduced(negated(x), axes, "max", keepdims=keepdims), np.array(-1.0))
    groups, axes = groups_of(x, axes)
    kept = tuple(1 if k in axes else n for k, n in enumerate(x.full))
    if groups.shape[1] == 1 and how != "l2":
        y = x
    else:
        if how == "logsumexp":
            x, how = noted(x, Grouped("shared_logsumexp", groups, x.size)), "sum"
        place = np.empty(x.size, np.intp)
        place[groups] = np.arange(len(groups))[:, None]
        op = {
            "sum": lambda: Scatter(place, len(groups)),
            "mean": lambda: Average(groups, np.full(len(groups), float(groups.shape[1])), x.size),
            "max": lambda: Maximum(groups, x.size),
            "l2": lambda: Norms(groups, x.size),
        }[how]()
        y = noted(x, op, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))
    return y if keepdims else reshape(y, [n for k, n in enumerate(kept) if k not in axes])


def divided(x: Array, c: Constant) -> Array:
    """$x / c$ by a constant; the factors 1 / c are rounded unless c is a power of two.

    Raises:
        InvalidWeight: a division by zero, or by a number whose inverse underflows.
    """
    c = np.asarray(c, np.float64)
    if not (abs(c) > 2.0**-1000).all() or not (abs(c) < 2.0**1000).all():
        raise x.tape.refusal("divides by zero, or by a number that has no inverse in double precision.")
    return scale(x, 1 / c, error=0.0 if (abs(np.frexp(c)[0]) == 0.5).all() else 2.0**-53)


def negated(x: Array) -> Array:
    return scale(x, np.array(-1.0))


def maximum_with(x: Array, c: Constant) -> Array:
    """$\\max(x, c)$ with a constant."""
    x, c = fitted(x, c)
    return activation(x, "maximum", floor=c) if c.any() else activation(x, "relu")


def minimum_with(x: Array, c: Constant) -> Array:
    """$\\min(x, c)$ with a constant."""
    x, c = fitted(x, c)
    return activation(x, "minimum", ceiling=c)


def silu(x: Array, k: float) -> Array:
    """$x\\,\\mathrm{sigmoid}(k x)$."""
    if k == 0:
        return scale(x, np.array(0.5))
    if k < 0:
        return negated(silu(negated(x), -k))
    return activation(x, "silu") if k == 1 else activation(x, "silu", beta=k)


def clip(x: Array, low: float, high: float) -> Array:
    """$\\min(\\mathrm{high}, \\max(x, \\mathrm{low}))$; either limit may be infinite."""
    if not low <= high:
        raise x.tape.refusal(f"limits its values to [{low}, {high}], which is empty.")
    if np.isfinite(low) and np.isfinite(high):
        return activation(x, "hardtanh", low=low, high=high)
    if low == 0.0:
        return activation(x, "relu")
    return (
        maximum_with(x, np.array(low))
        if np.isfinite(low)
        else minimum_with(x, np.array(high))
        if np.isfinite(high)
        else x
    )


def maximum(arrays: Sequence[Array]) -> Array:
    """The largest of several arrays, entry by entry, repeated to the shape that they have together."""
    return _end(arrays, slice(-1, None))


def minimum(arrays: Sequence[Array]) -> Array:
    """The smallest of several arrays. With the largest of the same arrays it is one sort, as in MaxMin."""
    return _end(arrays, slice(0, 1))


def _end(arrays: Sequence[Array], end: slice) -> Array:
    shape = together(arrays[0], *(x.full for x in arrays))
    arrays = [broadcast(x, shape) for x in arrays]
    same_place(arrays)
    tape, rows = arrays[0].tape, {x.value: x for x in arrays}
    if len(rows) == 1:
        return arrays[0]
    key = (shape, *sorted(rows))
    if key not in tape.sorts:
        stack = concatenated([reshape(rows[k], (1, *shape)) for k in sorted(rows)], 0)
        tape.sorts[key] = sorted_along(stack, 0)
    y = tape.sorts[key]
    return reshape(mapped(y, entries(y)[end]), shape)


def sorted_along(x: Array, axis: int) -> Array:
    """Sorted in ascending order along one axis."""
    groups, _ = groups_of(x, (axis,))
    return noted(x, Sort(groups, x.size)) if groups.shape[1] > 1 else x


def grouped(x: Array, name: str, axes: Sequence[int], **parameters: float | Constant) -> Array:
    """A function of the entries along axes by its name in `sdplip.arithmetic.groups.GROUPED`: softmax, layer normalisation."""
    groups, _ = groups_of(x, axes)
    vectors = {key: np.asarray(c, np.float64) if np.ndim(c) else c for key, c in parameters.items()}
    return noted(x, Grouped(name, groups, x.size, vectors))


def last_axes(x: Array, axis: int) -> tuple[int, ...]:
    """The axes from one on to the last."""
    return tuple(range(axis_of(x, axis), x.rank))
