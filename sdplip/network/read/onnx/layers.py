"""Lengths, reflections and N-activations, as torch and our own layers are exported."""

from collections.abc import Callable, Mapping
from math import prod, sqrt
from typing import Any

import numpy as np

from sdplip.network.operators import Grouped, Norms, pooling_windows
from sdplip.network.read import maps
from sdplip.network.read.arrays import Array, concatenated, entries, mapped, noted, reshape, scale
from sdplip.weights.onnx_constants import attributes

Makers = Mapping[str, Any]
Constants = Mapping[str, np.ndarray]
Layer = tuple[tuple[str, ...], Callable[..., Array]]


def layer(node: Any, makers: Makers, constants: Constants) -> Layer | None:
    """The layer whose last node this is, and the values that it takes."""
    if node.op_type in ("Sqrt", "Pow", "Mul"):
        return _length(node, makers, constants)
    if node.op_type == "Sub":
        return _n_activation(node, makers, constants)
    return _reflection(node, makers, constants) if node.op_type == "Concat" else None


def _made(name: str, kind: str, makers: Makers) -> Any:
    """The node of that kind that makes a value; None where another one does."""
    node = makers.get(name)
    return node if node is not None and node.op_type == kind else None


def _scalar(name: str, constants: Constants) -> float | None:
    c = constants.get(name)
    return float(c.reshape(())) if c is not None and c.size == 1 else None


def _with_constant(node: Any, constants: Constants) -> tuple[str, np.ndarray] | None:
    """The value and the constant that a node of two inputs takes."""
    if node is None or len(node.input) != 2:
        return None
    a, b = node.input
    if (a in constants) == (b in constants):
        return None
    return (b, constants[a]) if a in constants else (a, constants[b])


def _length(node: Any, makers: Makers, constants: Constants) -> Layer | None:
    """$\\sqrt{c \\sum x^2}$ over axes or over windows that do not overlap."""
    total = _under_root(node, makers, constants)
    if total is None:
        return None
    factor, plain = 1.0, _made(total, "Mul", makers)
    pair = _with_constant(plain, constants)
    if pair is not None and pair[1].size == 1:
        total, factor = pair[0], float(pair[1].reshape(()))
    total = _not_negative(total, makers)
    of = makers.get(total)
    x = _square(of.input[0], makers, constants) if of is not None and of.input else None
    if of is None or x is None or not factor > 0:
        return None
    options = attributes(of)
    if of.op_type == "ReduceSum":
        axes = options.get("axes", constants.get(of.input[1]) if len(of.input) > 1 else None)
        if axes is None:
            return None
        keep, places = bool(options.get("keepdims", 1)), tuple(int(k) for k in np.reshape(axes, -1))
        return (x,), lambda y: _times_root(maps.reduced(y, places, "l2", keepdims=keep), factor)
    return _pooled_length(x, of, options, factor) if of.op_type == "AveragePool" else None


def _pooled_length(x: str, of: Any, options: Mapping[str, Any], factor: float) -> Layer | None:
    window = tuple(options["kernel_shape"])
    stride = tuple(options.get("strides", (1,) * len(window)))
    if (
        any(options.get("pads", ()))
        or options.get("ceil_mode", 0)
        or options.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        or any(s < k for s, k in zip(stride, window, strict=True))
        or set(options.get("dilations", (1,))) != {1}
        or len(of.input) != 1
    ):
        return None

    def make(y: Array) -> Array:
        none = ((0, 0),) * len(window)
        groups = pooling_windows(prod(y.shape[:2]), y.shape[2:], window, stride, none)
        size = [(h - k) // s + 1 for h, k, s in zip(y.shape[2:], window, stride, strict=True)]
        return _times_root(noted(y, Norms(groups, y.size), (*y.shape[:2], *size)), factor / prod(window))

    return (x,), make


def _times_root(y: Array, c: float) -> Array:
    return y if c == 1 else scale(y, np.array(sqrt(c)), error=2.0**-52)


def _under_root(node: Any, makers: Makers, constants: Constants) -> str | None:
    """The value s of which a node is the root, also masked where s is 0: sqrt(s + [s = 0]) * [s != 0]."""
    if node.op_type == "Sqrt":
        return node.input[0]
    if node.op_type == "Pow":
        return node.input[0] if _scalar(node.input[1], constants) == 0.5 else None
    for root, mask in (node.input, node.input[::-1]) if len(node.input) == 2 else ():
        rooted = _made(root, "Sqrt", makers)
        total = _made(rooted.input[0], "Add", makers) if rooted is not None else None
        for s, zero in (total.input, total.input[::-1]) if total is not None else ():
            if _is_zero(zero, makers, constants) == s and _is_zero(mask, makers, constants, other=True) == s:
                return s
    return None


def _is_zero(name: str, makers: Makers, constants: Constants, *, other: bool = False) -> str | None:
    """s, where the value is the number of [s = 0], or of its contrary."""
    node = _made(name, "Cast", makers)
    node = makers.get(node.input[0]) if node is not None else None
    if other:
        node = makers.get(node.input[0]) if node is not None and node.op_type == "Not" else None
    if node is None or node.op_type != "Equal" or _scalar(node.input[1], constants) != 0.0:
        return None
    return node.input[0]


def _not_negative(name: str, makers: Makers) -> str:
    """u, where the value is sign(u) relu(|u|), which torch writes around sums of squares."""
    node = _made(name, "Mul", makers)
    for a, b in (node.input, node.input[::-1]) if node is not None else ():
        sign, relu = _made(a, "Sign", makers), _made(b, "Relu", makers)
        size = _made(relu.input[0], "Abs", makers) if relu is not None else None
        if sign is not None and size is not None and size.input[0] == sign.input[0]:
            return sign.input[0]
    return name


def _square(name: str, makers: Makers, constants: Constants) -> str | None:
    node = makers.get(name)
    if node is None:
        return None
    if node.op_type == "Pow":
        return node.input[0] if _scalar(node.input[1], constants) == 2.0 else None
    return node.input[0] if node.op_type == "Mul" and node.input[0] == node.input[1] else None


def _n_activation(node: Any, makers: Makers, constants: Constants) -> Layer | None:
    """x - 2 min(max(x, low), high)."""
    x = node.input[0]
    twice = _with_constant(_made(node.input[1], "Mul", makers), constants)
    upper = _with_constant(_made(twice[0], "Min", makers), constants) if twice is not None else None
    lower = _with_constant(_made(upper[0], "Max", makers), constants) if upper is not None else None
    if twice is None or upper is None or lower is None or lower[0] != x or (twice[1] != 2).any():
        return None
    low, high = lower[1], upper[1]
    try:
        ordered = bool((low <= high).all())
    except ValueError:
        return None
    return ((x,), lambda y: maps.activation(y, "nactivation", low=low, high=high)) if ordered else None


def _reflection(node: Any, makers: Makers, constants: Constants) -> Layer | None:
    """Concat(a + v h, b + w h) with h = 2 relu(-v a - w b) and constant v, w: pairs reflected at a mirror."""
    if len(node.input) != 2:
        return None
    sides = [_made(name, "Add", makers) for name in node.input]
    if None in sides:
        return None
    first, second = (_side(side, makers, constants) for side in sides)
    if first is None or second is None or first[2] != second[2]:
        return None
    (a, v, h), (b, w, _) = first, second
    twice = _with_constant(_made(h, "Mul", makers), constants)
    relu = _made(twice[0], "Relu", makers) if twice is not None and (twice[1] == 2).all() else None
    inner = _made(relu.input[0], "Sub", makers) if relu is not None else None
    if inner is None:
        return None
    left, right = (_with_constant(_made(name, "Mul", makers), constants) for name in inner.input)
    if left is None or right is None or (left[0], right[0]) != (a, b):
        return None
    if not (_equal(left[1], -v) and _equal(right[1], w)):
        return None
    axis = int(attributes(node).get("axis", 1))
    return (a, b), lambda x, y: _mirrored(x, y, v, w, axis)


def _side(node: Any, makers: Makers, constants: Constants) -> tuple[str, np.ndarray, str] | None:
    for a, product in (node.input, node.input[::-1]):
        pair = _with_constant(_made(product, "Mul", makers), constants)
        if pair is not None:
            return a, pair[1], pair[0]
    return None


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _mirrored(x: Array, y: Array, v: np.ndarray, w: np.ndarray, axis: int) -> Array:
    if x.full != y.full or x.batch != y.batch:
        raise x.tape.refusal(f"pairs arrays of shapes {x.full} and {y.full}.")
    stack = concatenated([reshape(z, (1, *z.full)) for z in (x, y)], 0)
    groups = entries(stack).reshape(2, -1).T
    first, second = (np.broadcast_to(np.asarray(c, np.float64), x.shape).reshape(-1) for c in (v, w))
    z = noted(stack, Grouped("householder", groups, stack.size, {"a": first, "b": second}))
    halves = [reshape(mapped(z, entries(z)[k : k + 1]), x.full) for k in (0, 1)]
    return concatenated(halves, axis)
