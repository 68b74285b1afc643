"""Softmax, layer normalisation and its kind, written out as several nodes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sdplip.arithmetic.groups import GROUPED
from sdplip.network.read import maps
from sdplip.network.read.arrays import Array
from sdplip.weights.onnx_constants import attributes

Makers = Mapping[str, Any]
Constants = Mapping[str, np.ndarray]
Layer = tuple[str, Callable[[Array], Array]]


def normalisation(node: Any, makers: Makers, constants: Constants) -> Layer | None:
    """The value that a node normalises, and how: x / sqrt(mean(x^2) + eps), of x or x - mean(x), or exp(x) / sum(exp(x))."""
    for top, below in _quotients(node, constants):
        root = _root(below, makers, constants) if below[0] == "1/" else _sqrt(below[1], makers, constants)
        if root is not None:
            found = _mean_square(top, *root, makers, constants)
            if found is not None:
                return found
        if below[0] == "/":
            found = _softmax(top, below[1], makers, constants) or _normalized(
                top, below[1], makers, constants
            )
            if found is not None:
                return found
    return None


def _quotients(node: Any, constants: Constants) -> Iterator[tuple[str, tuple[str, str]]]:
    """Pairs of what is divided and by what: ("/", value), or ("1/", value that is an inverse)."""
    if node.op_type == "Div" and node.input[0] not in constants and node.input[1] not in constants:
        yield node.input[0], ("/", node.input[1])
    if node.op_type == "Mul" and not set(node.input) & set(constants):
        a, b = node.input
        yield a, ("1/", b)
        yield b, ("1/", a)


def _root(below: tuple[str, str], makers: Makers, constants: Constants) -> tuple[str, float] | None:
    """v and eps, where the value is 1 / sqrt(v + eps)."""
    node = makers.get(below[1])
    if node is None:
        return None
    if node.op_type == "Reciprocal":
        return _sqrt(node.input[0], makers, constants)
    if node.op_type == "Div" and _scalar(node.input[0], constants) == 1.0:
        return _sqrt(node.input[1], makers, constants)
    if node.op_type == "Pow" and _scalar(node.input[1], constants) == -0.5:
        return _shifted(node.input[0], makers, constants)
    return None


def _sqrt(name: str, makers: Makers, constants: Constants) -> tuple[str, float] | None:
    """v and eps, where the value is sqrt(v + eps)."""
    node = makers.get(name)
    if node is None:
        return None
    half = node.op_type == "Pow" and _scalar(node.input[1], constants) == 0.5
    return _shifted(node.input[0], makers, constants) if half or node.op_type == "Sqrt" else None


def _shifted(name: str, makers: Makers, constants: Constants) -> tuple[str, float] | None:
    node = makers.get(name)
    if node is None or node.op_type != "Add":
        return None
    for v, c in (node.input, node.input[::-1]):
        eps = _scalar(c, constants)
        if eps is not None and eps > 0 and v not in constants:
            return v, eps
    return None


def _scalar(name: str, constants: Constants) -> float | None:
    c = constants.get(name)
    return float(c.reshape(())) if c is not None and c.size == 1 else None


def _axes(node: Any, constants: Constants) -> tuple[int, ...] | None:
    """Of a reduction that keeps its axes."""
    options = attributes(node)
    axes = options.get("axes")
    if axes is None and len(node.input) > 1 and node.input[1] in constants:
        axes = constants[node.input[1]].reshape(-1)
    return tuple(int(k) for k in axes) if axes is not None and options.get("keepdims", 1) else None


def _square(name: str, makers: Makers, constants: Constants) -> str | None:
    """d, where the value is d^2."""
    node = makers.get(name)
    if node is None:
        return None
    if node.op_type == "Pow" and _scalar(node.input[1], constants) == 2.0:
        return node.input[0]
    return node.input[0] if node.op_type == "Mul" and node.input[0] == node.input[1] else None


def _mean_square(top: str, v: str, eps: float, makers: Makers, constants: Constants) -> Layer | None:
    mean = makers.get(v)
    if mean is None or mean.op_type != "ReduceMean":
        return None
    axes, d = _axes(mean, constants), _square(mean.input[0], makers, constants)
    if axes is None or d is None or not _same(d, top, makers):
        return None
    x = _centred(top, axes, makers, constants)
    name = "rms_norm" if x is None else "layer_norm"
    if name not in GROUPED:
        return None
    return (top if x is None else x), lambda array: maps.grouped(array, name, axes, eps=eps)


def _centred(d: str, axes: tuple[int, ...], makers: Makers, constants: Constants) -> str | None:
    """x, where the value is x - mean(x) over the axes."""
    node = makers.get(d)
    mean = makers.get(node.input[1]) if node is not None and node.op_type == "Sub" else None
    if node is None or mean is None or mean.op_type != "ReduceMean" or mean.input[0] != node.input[0]:
        return None
    return node.input[0] if _axes(mean, constants) == axes else None


def _same(a: str, b: str, makers: Makers, depth: int = 4) -> bool:
    """Whether two values are made by the same operation of the same values."""
    if a == b:
        return True
    m, n = makers.get(a), makers.get(b)
    if m is None or n is None or not depth or m.op_type != n.op_type or len(m.input) != len(n.input):
        return False
    return attributes(m) == attributes(n) and all(
        _same(i, j, makers) for i, j in zip(m.input, n.input, strict=True)
    )


def _softmax(top: str, below: str, makers: Makers, constants: Constants) -> Layer | None:
    total, e = makers.get(below), makers.get(top)
    if (
        total is None
        or e is None
        or total.op_type != "ReduceSum"
        or e.op_type != "Exp"
        or total.input[0] != top
    ):
        return None
    axes, u = _axes(total, constants), e.input[0]
    if axes is None:
        return None
    node = makers.get(u)
    most = makers.get(node.input[1]) if node is not None and node.op_type == "Sub" else None
    if (
        node is not None
        and most is not None
        and most.op_type == "ReduceMax"
        and most.input[0] == node.input[0]
    ):
        u = node.input[0] if _axes(most, constants) == axes else u
    return u, lambda array: maps.grouped(array, "softmax", axes)


def _normalized(x: str, below: str, makers: Makers, constants: Constants) -> Layer | None:
    """x over its length, or over eps where that is larger, possibly spread to the shape of x."""
    node = makers.get(below)
    if node is not None and node.op_type == "Expand":
        below, node = node.input[0], makers.get(node.input[0])
    if node is None or node.op_type not in ("Clip", "Max") or len(node.input) < 2 or any(node.input[2:]):
        return None
    length, eps = makers.get(node.input[0]), _scalar(node.input[1], constants)
    if length is None or length.op_type != "ReduceL2" or length.input[0] != x or eps is None or eps <= 0:
        return None
    axes = _axes(length, constants)
    return None if axes is None else (x, lambda array: maps.grouped(array, "normalize", axes, eps=eps))
