"""Operators that act along axes by rules of their own: Resize, Einsum, CumSum, Trilu, GatherND."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sdplip.network.read import maps
from sdplip.network.read.arrays import (
    Array,
    Constant,
    axis_of,
    entries,
    mapped,
    own,
    reshape,
    scale,
    transpose,
)
from sdplip.network.read.onnx.operators.entry import Operator
from sdplip.network.read.onnx.step import Step
from sdplip.shapes import Float

Places = Float[np.ndarray, " out"]

ROUND: Mapping[str, Callable[[Places], Places]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _places(step: Step, how: str, n: int, out: int, factor: float) -> Places:
    """Where each pixel of the result lies on an axis of n pixels."""
    x = np.arange(out, dtype=np.float64)
    half = (x + 0.5) / factor - 0.5
    if how == "half_pixel" or (how == "pytorch_half_pixel" and out > 1):
        return half
    if how == "pytorch_half_pixel":
        return 0 * x
    if how == "asymmetric":
        return x / factor
    if how == "align_corners":
        return x * (n - 1) / (out - 1) if out > 1 else 0 * x
    if how == "half_pixel_symmetric":
        return n / 2 * (1 - out / (factor * n)) + half
    return step.refuse(f"has the coordinates {how}, which are not covered.")


def _resize(step: Step) -> Array:
    x, options = step.array(), step.options
    mode = options.get("mode", "nearest")
    plain = step.kind == "Upsample" or step.version < 11
    how = "asymmetric" if plain else options.get("coordinate_transformation_mode", "half_pixel")
    ties = "floor" if plain else options.get("nearest_mode", "round_prefer_floor")
    if (
        mode not in ("nearest", "linear")
        or options.get("antialias")
        or options.get("exclude_outside")
        or options.get("keep_aspect_ratio_policy", "stretch") != "stretch"
        or ties not in ROUND
    ):
        step.refuse(
            f"resizes by {mode} with {dict(options)}. Covered are nearest and linear without antialiasing."
        )
    for axis, out, factor in _sizes(step, x, plain):
        n = x.full[axis]
        if out == n and factor == 1:
            continue
        (axis,) = own(x, axis)
        x.tape.need(out * max(n, x.size // n))
        at = _places(step, how, n, out, factor)
        if mode == "nearest":
            index = np.clip(ROUND[ties](at), 0, n - 1).astype(np.intp)
            x = mapped(x, entries(x).take(index, axis))
        else:
            x = maps.on_axis(x, _between(np.clip(at, 0, n - 1), n), axis)
    return x


def _sizes(step: Step, x: Array, plain: bool) -> list[tuple[int, int, float]]:
    """Of each axis that is resized its new size and the factor."""
    axes = [axis_of(x, int(k)) for k in step.options.get("axes", range(x.rank))]
    at = 1 if plain else 2
    factors = step.constant(at).reshape(-1) if step.has(at) else np.array(step.options.get("scales", ()))
    if factors.size == len(axes):
        return [(k, int(np.floor(x.full[k] * f)), float(f)) for k, f in zip(axes, factors, strict=True)]
    sizes = step.numbers(3, "sizes") or ()
    if len(sizes) != len(axes):
        step.refuse("has neither scales nor sizes of its axes.")
    return [(k, n, n / x.full[k]) for k, n in zip(axes, sizes, strict=True)]


def _between(at: Places, n: int) -> Float[np.ndarray, "out n"]:
    """The matrix that interpolates at places between 0 and n - 1."""
    low = np.floor(at).astype(np.intp)
    W = np.zeros((len(at), n))
    W[np.arange(len(at)), np.minimum(low + 1, n - 1)] = at - low
    W[np.arange(len(at)), low] += 1 - (at - low)
    return W


def _einsum(step: Step) -> Array:
    """Sums of products of one array and at most one constant, by the letters of their axes."""
    left, _, right = str(step.options["equation"]).replace(" ", "").partition("->")
    letters = left.split(",")
    if "->" not in step.options["equation"]:
        right = "".join(sorted(k for k in set(left) - {","} if left.count(k) == 1))
    if (
        "." in left
        or len(letters) != len(step.values)
        or len(letters) > 2
        or any(len(set(part)) < len(part) for part in (*letters, right))
    ):
        step.refuse(
            f"has the equation {step.options['equation']}. Covered are one array and at most one constant."
        )
    place = 0 if not step.is_constant(0) else 1
    x, of_x = step.array(place), letters[place]
    if len(letters) == 1:
        return _arranged(*_summed(x, of_x, right), right)
    c, of_c = step.constant(1 - place), letters[1 - place]
    x, of_x = _summed(x, of_x, right + of_c)
    gone = tuple(k for k, letter in enumerate(of_c) if letter not in right + of_x)
    c, of_c = c.sum(gone), "".join(letter for letter in of_c if letter in right + of_x)
    return _arranged(*_multiplied(x, of_x, c, of_c, right), right)


def _summed(x: Array, letters: str, kept: str) -> tuple[Array, str]:
    """Without the axes that appear nowhere else."""
    gone = [k for k, letter in enumerate(letters) if letter not in kept]
    if not gone:
        return x, letters
    return maps.reduced(x, gone, "sum"), "".join(letter for letter in letters if letter in kept)


def _multiplied(x: Array, of_x: str, c: Constant, of_c: str, right: str) -> tuple[Array, str]:
    """The product, with axes (shared and kept, of the array, of the constant)."""
    shared = [k for k in of_x if k in of_c and k in right]
    summed = [k for k in of_x if k in of_c and k not in right]
    rest, new = [k for k in of_x if k not in of_c], [k for k in of_c if k not in of_x]
    sizes = dict(zip(of_x, x.full, strict=True)) | dict(zip(of_c, c.shape, strict=True))

    def size(group: Sequence[str]) -> int:
        return int(np.prod([sizes[k] for k in group], dtype=np.int64))

    x = transpose(x, [of_x.index(k) for k in (*shared, *rest, *summed)])
    M = c.transpose([of_c.index(k) for k in (*shared, *summed, *new)])
    if not summed and not new:
        along = M.reshape(*M.shape, *(1,) * len(rest))
        return scale(x, along), "".join((*shared, *rest))
    wide = reshape(x, (*(sizes[k] for k in shared), size(rest), size(summed)))
    y = maps.matmul(wide, M.reshape(*(sizes[k] for k in shared), size(summed), size(new)))
    order = (*shared, *rest, *new)
    return reshape(y, [sizes[k] for k in order]), "".join(order)


def _arranged(x: Array, letters: str, right: str) -> Array:
    return transpose(x, [letters.index(k) for k in right])


def _cumsum(step: Step) -> Array:
    x = step.array()
    (axis,) = own(x, int(step.raw(1).reshape(())))
    x.tape.need(x.shape[axis] ** 2)
    n, exclusive = x.shape[axis], int(bool(step.options.get("exclusive", 0)))
    W = np.tril(np.ones((n, n)), -exclusive)
    return maps.on_axis(x, W.T if step.options.get("reverse", 0) else W, axis)


def _trilu(step: Step) -> Array:
    x = step.array()
    own(x, -1, -2)
    k = int(step.raw(1).reshape(())) if step.has(1) else 0
    keep = np.ones(x.full[-2:])
    return scale(x, np.triu(keep, k) if step.options.get("upper", 1) else np.tril(keep, k))


def _gather_nd(step: Step) -> Array:
    x, index = step.array(0), step.raw(1)
    depth = index.shape[-1]
    if step.options.get("batch_dims", 0) or not index.size or depth > x.rank:
        step.refuse("has `batch_dims`, or indices that do not fit.")
    axes = own(x, *range(depth))
    for k in axes:
        if index[..., k].min() < -x.shape[k] or index[..., k].max() >= x.shape[k]:
            step.refuse(f"reads entries outside of an axis of {x.shape[k]}.")
    place = None if x.batch is None else x.batch.axis - depth + index.ndim - 1
    return mapped(x, entries(x)[tuple(np.moveaxis(index, -1, 0))], place)


_RESIZE = (
    "antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value",
    "keep_aspect_ratio_policy", "mode", "nearest_mode", "scales",
)  # fmt: skip

AXES: Mapping[str, Operator] = {
    "Resize": Operator(_resize, _RESIZE, "nearest and linear, without antialiasing"),
    "Upsample": Operator(_resize, ("mode", "scales"), "nearest and linear"),
    "Einsum": Operator(_einsum, ("equation",), "one array and at most one constant"),
    "CumSum": Operator(_cumsum, ("exclusive", "reverse")),
    "Trilu": Operator(_trilu, ("upper",)),
    "GatherND": Operator(_gather_nd, ("batch_dims",), "by constant indices"),
}
