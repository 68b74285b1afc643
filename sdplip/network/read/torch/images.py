"""Rules of convolutions, pooling, and what else images need."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sdplip.network.operators import LARGEST, Average, Maximum, Norms, Scatter, pooling_windows
from sdplip.network.read import images
from sdplip.network.read.arrays import Array, Tape, mapped, noted, own, reshape
from sdplip.network.read.maps import on_axis
from sdplip.network.read.torch.table import POSITIONS, PRODUCT, Call, function, rule

Size = tuple[int, ...]


@rule("convolution", "_convolution", "mkldnn_convolution", "conv1d", "conv2d", "conv3d", "cudnn_convolution")
def _(c: Call) -> Array:
    x, K, b = c["input"], c["weight"], c.get("bias")
    if isinstance(K, Array) or isinstance(b, Array) or not isinstance(x, Array):
        raise c.tape.refusal(f"has a kernel that comes from the input: {PRODUCT}")
    axes = K.ndim - 2
    stride, dilation = each(c.get("stride", 1), axes), each(c.get("dilation", 1), axes)
    pads = _pads(c.get("padding", 0), K.shape[2:], dilation)
    more = {"stride": stride, "pads": pads, "dilation": dilation, "groups": int(c.get("groups", 1))}
    note_padding(x)
    if c.get("transposed", False):
        return images.transposed_convolution(x, K, b, **more, output_size=tuple(c.out.shape[2:]))
    return images.convolution(x, K, b, **more)


def _pads(padding: Any, taps: Size, dilation: Size) -> images.Pads:
    """Pixels before and after each axis; an odd one of "same" goes last."""
    if padding == "valid":
        return ((0, 0),) * len(taps)
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        return tuple((r // 2, r - r // 2) for r in reach)
    return tuple((p, p) for p in each(padding, len(taps)))


def note_padding(x: Array) -> None:
    """Finds out whether an index map in front of a convolution is padding: zeros around, or the other side of the image."""
    tape = x.tape
    source, index = tape.read_through(x.value)
    if index is None or x.shape[0] != 1 or x.value in tape.padded:
        return
    index = index.reshape(x.shape)
    zeros = tuple(_zeros(index, axis) for axis in range(2, x.rank))
    wraps = tuple(_wraps(index, axis) for axis in range(2, x.rank))
    for widths, mode in ((zeros, "constant"), (wraps, "wrap")):
        if not any(map(any, widths)):
            continue
        within = tuple(slice(a, n - b) for (a, b), n in zip(widths, x.shape[2:], strict=True))
        inner, every = index[:, :, *within], ((0, 0), (0, 0), *widths)
        again = (
            np.pad(inner, every, constant_values=-1)
            if mode == "constant"
            else np.pad(inner, every, mode="wrap")
        )
        if (again == index).all():
            flat = Array(tape, source, (tape.length(source),), x.batch)
            tape.padded[x.value] = (replace(mapped(flat, inner), batch=x.batch), every, mode)
            return


def _zeros(index: np.ndarray, axis: int) -> tuple[int, int]:
    """How many entries of an axis are zero everywhere, at its front and at its end."""
    used = np.flatnonzero((index >= 0).any(tuple(k for k in range(index.ndim) if k != axis)))
    return (int(used[0]), int(index.shape[axis] - 1 - used[-1])) if len(used) else (0, 0)


def _wraps(index: np.ndarray, axis: int) -> tuple[int, int]:
    """How many entries of an axis repeat those of its other side, at its front and at its end."""
    parts = np.moveaxis(index, axis, 0).reshape(index.shape[axis], -1)
    length = len(parts)
    period = next((p for p in range(1, length) if (parts[p:] == parts[:-p]).all()), length)
    before = int(parts[:period].min(1).argmin())
    return (before, length - period - before) if before <= length - period else (0, 0)


def each(value: Any, axes: int) -> Size:
    """One number an axis."""
    values = tuple(int(v) for v in value) if isinstance(value, tuple | list) else (int(value),)
    return values * axes if len(values) == 1 else values


def pooled(c: Call, axes: int) -> tuple[Array, Size]:
    """The input of a pooling with all its leading axes as samples, and the shape that the output must have."""
    x = c.array("x")
    out = c.out[0] if isinstance(c.out, tuple | list) else c.out
    if x.rank == axes + 2:
        return x, tuple(out.shape)
    return reshape(x, (prod(x.full[: x.rank - axes]), 1, *x.full[x.rank - axes :])), tuple(out.shape)


@rule(
    "max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices", "max_pool1d", "max_pool2d", "max_pool3d",
    "mkldnn_max_pool2d", "mkldnn_max_pool3d",
)  # fmt: skip
def _(c: Call) -> Any:
    axes = next(n for n in (1, 2, 3) if f"{n}d" in c.name)
    x, shape = pooled(c, axes)
    window = each(c["kernel_size"], axes)
    y = images.maximum_pool(
        x,
        window,
        stride=each(c["stride"], axes) if c["stride"] else window,
        pads=tuple((p, p) for p in each(c["padding"], axes)),
        dilation=each(c["dilation"], axes),
        output_size=shape[-axes:],
    )
    y = reshape(y, shape)
    return (y, POSITIONS) if isinstance(c.out, tuple | list) else y


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _(c: Call) -> Array:
    axes = next(n for n in (1, 2, 3) if f"{n}d" in c.name)
    x, shape = pooled(c, axes)
    window = each(c["kernel_size"], axes)
    y = images.average_pool(
        x,
        window,
        stride=each(c["stride"], axes) if c["stride"] else window,
        pads=tuple((p, p) for p in each(c["padding"], axes)),
        dilation=(1,) * axes,
        count_padding=bool(c["count_include_pad"]),
        output_size=shape[-axes:],
    )
    if (divisor := c.get("divisor_override")) is not None:
        node = x.tape.builder.nodes[y.value - 1]
        assert isinstance(node.op, Average)
        if divisor < 1:
            raise c.tape.refusal(f"divides window sums by {divisor}. Use a divisor of at least 1.")
        y = noted(x, Average(node.op.index, np.full(node.op.outputs, float(divisor)), x.size), y.shape)
    return reshape(y, shape)


@rule(
    "adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "mkldnn_adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
def _(c: Call) -> Any:
    axes = next(n for n in (1, 2, 3) if f"{n}d" in c.name)
    x, shape = pooled(c, axes)
    index = adaptive_windows(prod(x.shape[:2]), x.shape[2:], shape[-axes:])
    largest = "max" in c.name
    op = Maximum(index, x.size) if largest else Average(index, (index >= 0).sum(1).astype(np.float64), x.size)
    y = reshape(noted(x, op, (*x.shape[:2], *shape[-axes:])), shape)
    return (y, POSITIONS) if isinstance(c.out, tuple | list) else y


def adaptive_windows(channels: int, size: Size, out: Size) -> np.ndarray:
    """Entries of the windows from `floor(i h / n)` to `ceil((i + 1) h / n)` on each axis; -1 fills shorter windows."""
    flat = np.zeros((1, 1), np.intp)
    for h, n in zip(size, out, strict=True):
        first, last = np.arange(n) * h // n, -(-(np.arange(n) + 1) * h // n)
        at = first[:, None] + np.arange((last - first).max())
        at = np.where(at < last[:, None], at, -1)
        inner = flat[:, None, :, None] * h + at[None, :, None, :]
        inner = np.where((flat[:, None, :, None] < 0) | (at[None, :, None, :] < 0), -1, inner)
        flat = inner.reshape(len(flat) * n, -1)
    every = (np.arange(channels) * prod(size))[:, None, None] + flat
    return np.where(flat < 0, -1, every).reshape(channels * len(flat), -1)


LINEAR = (
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
)  # fmt: skip


@rule(*LINEAR)
def _(c: Call) -> Array:
    """Interpolation is a matrix on each axis, whose columns are what torch makes of the entries of an axis."""
    x = c.array("x" if "x" in c.given else "input")
    axes, out = x.rank - 2, tuple(c.out.shape[2:])
    scales = c.get("scale_factors") or [
        c.get(key) for key in ("scales", "scales_d", "scales_h", "scales_w") if key in c.given
    ]
    scales = [None] * axes if not scales or len(scales) != axes else scales
    name = next(key for key in ("bilinear", "trilinear", "bicubic", "linear") if f"_{key}" in c.name)
    dtype = torch.float64 if c.out.dtype == torch.float64 else torch.float32
    for axis, (n, m, scale_) in enumerate(zip(x.full[2:], out, scales, strict=True)):
        if n * m > LARGEST:
            raise c.tape.refusal(
                f"interpolates from {n} to {m} pixels: a matrix with more than {LARGEST} entries."
            )
        ones = (1,) * (axes - 1)  # every axis is treated alike
        basis = torch.eye(n, dtype=dtype).reshape(1, n, *ones, n)
        size, factor = (None, (*map(float, ones), float(scale_))) if scale_ else ((*ones, m), None)
        columns = F.interpolate(
            basis, size, factor, name, bool(c.get("align_corners", False)), antialias="_aa" in c.name
        )
        x = on_axis(x, columns.reshape(n, m).T.double().numpy(), axis + 2)
    return x


@rule("col2im")
def _(c: Call) -> Array:
    """Folding adds up what unfolding copies."""
    x = c.array("x")
    size = tuple(int(n) for n in c["output_size"])
    if x.rank != 3 or x.batch is None or x.batch.axis or x.batch.lead != 1 or x.shape[0] != 1:
        raise c.tape.refusal(f"folds patches of shape {x.full}. Use (batch, channels of patches, patches).")
    channels = c.out.shape[1]
    numbers = torch.arange(1.0, channels * prod(size) + 1, dtype=torch.float64).reshape(1, channels, *size)
    index = F.unfold(numbers, c["kernel_size"], c["dilation"], c["padding"], c["stride"])
    op = Scatter(index.reshape(-1).numpy().astype(np.intp) - 1, channels * prod(size))
    return noted(x, op, (1, channels, *size))


@function(F.lp_pool1d, F.lp_pool2d)
def _(
    tape: Tape, input: Array, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Array:
    axes = input.rank - 2
    window = (kernel_size,) * axes if isinstance(kernel_size, int) else tuple(kernel_size)
    steps = window if not stride else (stride,) * axes if isinstance(stride, int) else tuple(stride)
    if norm_type != 2 or ceil_mode or axes not in (1, 2):
        raise tape.refusal(
            f"pools by a norm of order {norm_type}. Known is 2, of images with a batch, without `ceil_mode`."
        )
    own(input, *range(1, input.rank))
    index = pooling_windows(prod(input.shape[:2]), input.shape[2:], window, steps, ((0, 0),) * axes)
    every = mapped(input, index.reshape(1, -1))
    size = tuple((h - k) // s + 1 for h, k, s in zip(input.shape[2:], window, steps, strict=True))
    return noted(
        every, Norms(np.arange(index.size).reshape(index.shape), index.size), (*input.shape[:2], *size)
    )
