"""ONNX nodes of images: convolutions, pooling, batch normalisation, and constant factors and shifts in front of them."""

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.networks.diagonal import Diagonal, batch_norm
from sdplip.networks.trail import Trail
from sdplip.weights.onnx_nodes import Known, attributes, conv


def _convolution(trail: Trail, node: Any, known: Known, path: Path) -> None:
    options = attributes(node)
    (weight,) = conv(node, known, path)
    K = weight.array
    axes = K.ndim - 2
    bias = known.arrays[node.input[2]][1] if len(node.input) > 2 and node.input[2] else None
    stride, dilation = (tuple(options.get(name, (1,) * axes)) for name in ("strides", "dilations"))
    reach = tuple(d * (k - 1) for d, k in zip(dilation, K.shape[2:], strict=True))
    geometry = Geometry(
        stride=stride,
        padding=_padding(node, options, axes, reach, stride, path),
        dilation=dilation,
        groups=options.get("group", 1),
    )
    trail.convolution(K, geometry, bias)


def _padding(
    node: Any, options: dict[str, Any], axes: int, reach: tuple[int, ...], stride: tuple[int, ...], path: Path
) -> tuple[int, ...] | None:
    """Padded pixels on each side; None is "same", an odd pixel last."""
    auto = options.get("auto_pad", "NOTSET")
    pads = options.get("pads", (0,) * 2 * axes)
    begin, end = tuple(pads[:axes]), tuple(pads[axes:])
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        if set(stride) != {1} or (auto == "SAME_LOWER" and any(r % 2 for r in reach)):
            raise _refused(node, path, f"with `auto_pad` {auto} and a stride or an even kernel")
        return None
    if auto == "VALID":
        return (0,) * axes
    if begin == end:
        return begin
    if (
        begin == tuple(r // 2 for r in reach)
        and tuple(a + b for a, b in zip(begin, end, strict=True)) == reach
    ):
        return None
    raise _refused(node, path, f"with padding {begin} before and {end} behind the image")


def _window(node: Any, path: Path) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Window, stride and padding of a pooling node."""
    options = attributes(node)
    window = tuple(options["kernel_shape"])
    axes = len(window)
    stride = tuple(options.get("strides", (1,) * axes))
    if options.get("ceil_mode", 0) or set(options.get("dilations", (1,))) != {1} or len(node.output) > 1:
        raise _refused(node, path, "with `ceil_mode`, dilation or indices")
    padding = _padding(node, options, axes, tuple(k - 1 for k in window), stride, path)
    if padding is None:
        if any(k % 2 == 0 for k in window):
            raise _refused(node, path, "with unequal padding")
        padding = tuple(k // 2 for k in window)
    return window, stride, padding


def _average(trail: Trail, node: Any, known: Known, path: Path) -> None:  # noqa: ARG001
    trail.average(*_window(node, path), bool(attributes(node).get("count_include_pad", 0)))


def _maximum(trail: Trail, node: Any, known: Known, path: Path) -> None:  # noqa: ARG001
    trail.maximum(*_window(node, path))


def _average_all(trail: Trail, node: Any, known: Known, path: Path) -> None:  # noqa: ARG001
    trail.average_all(len(trail.shape or (0, 0, 0)) - 1)


def _mean(trail: Trail, node: Any, known: Known, path: Path) -> None:
    """ReduceMean over all image axes; the axes are an attribute or, from opset 18, an input."""
    options = attributes(node)
    axes = options.get("axes")
    if axes is None and len(node.input) > 1:
        axes = known.arrays[node.input[1]][1].tolist()
    rank = len(trail.shape or ()) + 1
    if axes is None or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        raise _refused(node, path, f"over the axes {axes}")
    trail.average_all(rank - 2)
    if not options.get("keepdims", 1):
        trail.flatten()


def _batch_norm(trail: Trail, node: Any, known: Known, path: Path) -> None:
    options = attributes(node)
    if options.get("training_mode", 0) or len(node.output) > 1:
        raise _refused(node, path, "in training mode")
    if trail.shape is None:
        trail.image(2, "Batch normalisation")
    vectors = [known.arrays[name][1] for name in node.input[1:]]
    scale, shift, mean, variance = vectors
    pixels = prod((trail.shape or (1,))[1:])
    trail.normalise(batch_norm(scale, shift, mean, variance, float(options.get("epsilon", 1e-5)), pixels))


def _constant(trail: Trail, node: Any, known: Known, path: Path) -> None:
    """Sub, Add, Mul and Div with a constant, as input normalisation is exported."""
    place = next(i for i, name in enumerate(node.input) if name in known.arrays)
    c = np.asarray(known.arrays[node.input[place]][1], np.float64)
    if trail.shape is None:
        raise _refused(node, path, "on samples of unknown shape")
    if c.ndim > len(trail.shape) and set(c.shape[: c.ndim - len(trail.shape)]) != {1}:
        raise _refused(node, path, f"with a constant of shape {c.shape}")
    c = c.reshape(c.shape[max(0, c.ndim - len(trail.shape)) :])
    try:
        v = np.broadcast_to(c, trail.shape).reshape(-1)
    except ValueError:
        raise _refused(node, path, f"with a constant of shape {c.shape}") from None
    ones = np.ones_like(v)
    if node.op_type == "Div" and (place == 0 or not v.all()):
        raise _refused(node, path, "by the network or by zero")
    if node.op_type in ("Mul", "Div"):
        d = v if node.op_type == "Mul" else 1 / v
        trail.normalise(Diagonal(d, error=0.0 if node.op_type == "Mul" else 2.0**-52))
    elif node.op_type == "Add":
        trail.normalise(Diagonal(ones, v))
    else:
        trail.normalise(Diagonal(ones, -v) if place == 1 else Diagonal(-ones, v))


def _refused(node: Any, path: Path, how: str) -> InvalidWeight:
    return InvalidWeight(
        f"Node {node.op_type} `{node.name or node.output[0]}` of `{path}` {how} is not covered. Export the network with plain"
        " layers, or save its weights as matrices and kernels."
    )


IMAGES: Mapping[str, Callable[[Trail, Any, Known, Path], None]] = {
    "Conv": _convolution,
    "AveragePool": _average,
    "GlobalAveragePool": _average_all,
    "ReduceMean": _mean,
    "MaxPool": _maximum,
    "BatchNormalization": _batch_norm,
    "Add": _constant,
    "Sub": _constant,
    "Mul": _constant,
    "Div": _constant,
}
