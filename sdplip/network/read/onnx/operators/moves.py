"""Operators that move, repeat or leave out entries."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from math import prod
from typing import get_args

import numpy as np

from sdplip.network.read import images
from sdplip.network.read.arrays import (
    Array,
    added,
    axis_of,
    broadcast,
    concatenated,
    entries,
    mapped,
    own,
    reshape,
    scale,
    shift,
    together,
    transpose,
)
from sdplip.network.read.onnx.operators.entry import Operator
from sdplip.network.read.onnx.step import Step

FLOATS = {10: 16, 16: 16, 1: 32, 11: 64}
"""Bits of the floating point types; two of 16 bits hold different numbers."""
LARGE = 1 << 62


def _transpose(step: Step) -> Array:
    x = step.array()
    return transpose(x, step.options.get("perm", range(x.rank)[::-1]))


def _reshape(step: Step) -> Array:
    x, shape = step.array(), [int(n) for n in step.raw(1).reshape(-1)]
    if not step.options.get("allowzero", 0):
        shape = [x.full[k] if n == 0 and k < x.rank else n for k, n in enumerate(shape)]
    return reshape(x, shape)


def _flatten(step: Step) -> Array:
    x = step.array()
    axis = int(step.options.get("axis", 1))
    axis = axis + x.rank if axis < 0 else axis
    if not 0 <= axis <= x.rank:
        step.refuse(f"flattens {x.full} at axis {axis}.")
    front = prod(x.full[:axis])
    return reshape(x, (front, prod(x.full[axis:])))


def _squeeze(step: Step) -> Array:
    x, axes = step.array(), step.numbers(1, "axes")
    full = x.full
    gone = {k for k, n in enumerate(full) if n == 1} if axes is None else {axis_of(x, k) for k in axes}
    if any(full[k] != 1 for k in gone):
        step.refuse(f"drops the axes {sorted(gone)} of an array of shape {full}.")
    return reshape(x, [n for k, n in enumerate(full) if k not in gone])


def _unsqueeze(step: Step) -> Array:
    x, axes = step.array(), step.numbers(1, "axes") or ()
    rank = x.rank + len(axes)
    new = {k % rank for k in axes if -rank <= k < rank}
    if len(new) != len(axes):
        step.refuse(f"inserts the axes {axes} into an array of shape {x.full}.")
    rest = iter(x.full)
    return reshape(x, [1 if k in new else next(rest) for k in range(rank)])


def _slice(step: Step) -> Array:
    x = step.array()
    starts, ends = step.numbers(1, "starts") or (), step.numbers(2, "ends") or ()
    axes = step.numbers(3, "axes") or tuple(range(len(starts)))
    strides = step.numbers(4, "steps") or (1,) * len(starts)
    index = entries(x)
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        axis, n = axis_of(x, axis), x.full[axis_of(x, axis)]
        stop = None if stride < 0 and end < -n else max(-LARGE, min(LARGE, end))
        part = slice(max(-LARGE, min(LARGE, start)), stop, max(-LARGE, min(LARGE, stride)))
        if part.indices(n) == (0, n, 1):
            continue
        own(x, axis)
        index = index[(slice(None),) * axis + (part,)]
    if not index.size:
        step.refuse("leaves nothing of its input.")
    return mapped(x, index)


def _split(step: Step) -> tuple[Array, ...]:
    x = step.array()
    (axis,) = own(x, int(step.options.get("axis", 0)))
    lengths, n = step.numbers(1, "split"), x.shape[axis]
    if lengths is None:
        size = -(-n // step.outputs)
        lengths = tuple(min(size, n - k * size) for k in range(step.outputs))
    if sum(lengths) != n or min(lengths) < 1 or len(lengths) != step.outputs:
        step.refuse(f"splits an axis of {n} entries into {lengths}.")
    ends = [0, *accumulate(lengths)]
    parts = (np.arange(a, b) for a, b in pairwise(ends))
    return tuple(mapped(x, entries(x).take(part, axis)) for part in parts)


def _concat(step: Step) -> Array:
    parts = [value if isinstance(value, Array) else step.constant(k) for k, value in enumerate(step.values)]
    return concatenated(parts, int(step.options.get("axis", 1)))


def _gather(step: Step) -> Array:
    x, index = step.array(0), step.raw(1)
    axis = axis_of(x, int(step.options.get("axis", 0)))
    n = x.full[axis]
    if index.size and not (index.min() >= -n and index.max() < n):
        step.refuse(f"reads entries from {index.min()} to {index.max()} of an axis of {n}.")
    own(x, axis)
    if not index.size:
        step.refuse("leaves nothing of its input.")
    x.tape.need(x.size // n * index.size)
    place = None
    if x.batch is not None and x.batch.axis > axis:
        place = x.batch.axis + index.ndim - 1
    return mapped(x, entries(x).take(index, axis), place)


def _expand(step: Step) -> Array:
    x = step.array()
    return broadcast(x, together(x, x.full, [int(n) for n in step.raw(1)]))


def _tile(step: Step) -> Array:
    x, times = step.array(), [int(n) for n in step.raw(1)]
    if len(times) != x.rank or min(times, default=1) < 1:
        step.refuse(f"repeats an array of shape {x.full} {times} times.")
    own(x, *(k for k, n in enumerate(times) if n > 1))
    x.tape.need(x.size * prod(times))
    return mapped(x, np.tile(entries(x), times))


def _cast(step: Step) -> Array:
    to, x = FLOATS.get(int(step.options.get("to", 0)), 0), step.array()
    of = FLOATS.get(step.types[0], 0)
    if not to or to < min(of, 32) or (to == of == 16 and step.types[0] != step.options["to"]):
        step.refuse(
            "casts the values of the network to a type that cannot hold them, which rounds. Only casts between floating point"
            " types that lose nothing are covered: export the network in one precision."
        )
    return x


def _dropout(step: Step) -> Array:
    if step.has(2) and (not step.is_constant(2) or step.raw(2).any()):
        step.refuse("is in training mode. Export the network in evaluation mode.")
    return step.array()


def _pad(step: Step) -> Array:
    x = step.array()
    mode = step.options.get("mode", "constant")
    if mode not in get_args(images.Mode):
        step.refuse(f"has the mode {mode}.")
    widths = step.numbers(1, "pads") or ()
    axes = step.numbers(3, "axes") or tuple(range(x.rank))
    if len(widths) != 2 * len(axes):
        step.refuse(f"has {len(widths)} widths for {len(axes)} axes.")
    both = [(0, 0)] * x.rank
    for k, axis in enumerate(axes):
        both[axis_of(x, axis)] = (widths[k], widths[len(axes) + k])
    c = float(step.constant(2).reshape(())) if step.has(2) else step.number("value", 0.0)
    return images.pad(x, both, mode, c)


def _where(step: Step) -> Array:
    """Entries of one or the other by a constant mask: each passes through a projection."""
    mask = step.raw(0).astype(np.float64)
    parts = list[Array]()
    fixed = np.zeros(())
    for k, keep in ((1, mask), (2, 1 - mask)):
        if step.is_constant(k):
            c = step.constant(k)
            fixed = fixed + np.where(keep != 0, np.where(np.isfinite(c), c, np.nan), 0.0)
        else:
            parts.append(scale(step.array(k), keep))
    return shift(added(parts) if len(parts) > 1 else parts[0], fixed)


def _depth_to_space(step: Step) -> Array:
    x, b = step.array(), int(step.options["blocksize"])
    n, c, h, w = x.full
    if step.options.get("mode", "DCR") == "DCR":
        y = transpose(reshape(x, (n, b, b, c // b**2, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = transpose(reshape(x, (n, c // b**2, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return reshape(y, (n, c // b**2, h * b, w * b))


def _space_to_depth(step: Step) -> Array:
    x, b = step.array(), int(step.options["blocksize"])
    n, c, h, w = x.full
    y = transpose(reshape(x, (n, c, h // b, b, w // b, b)), (0, 3, 5, 1, 2, 4))
    return reshape(y, (n, c * b**2, h // b, w // b))


def _same(step: Step) -> Array:
    return step.array()


MOVES: Mapping[str, Operator] = {
    "Transpose": Operator(_transpose, ("perm",)),
    "Reshape": Operator(_reshape, ("allowzero",), "to shapes that are constant or computed from shapes"),
    "Flatten": Operator(_flatten, ("axis",)),
    "Squeeze": Operator(_squeeze, ("axes",)),
    "Unsqueeze": Operator(_unsqueeze, ("axes",)),
    "Slice": Operator(_slice, ("axes", "ends", "starts"), "any step, not of the batch"),
    "Split": Operator(_split, ("axis", "num_outputs", "split"), "not of the batch"),
    "Concat": Operator(_concat, ("axis",), "constants and branches"),
    "Gather": Operator(_gather, ("axis",), "by constant indices"),
    "Expand": Operator(_expand),
    "Tile": Operator(_tile),
    "Identity": Operator(_same),
    "Cast": Operator(_cast, ("round_mode", "saturate", "to"), "between floating point types, without loss"),
    "Dropout": Operator(_dropout, ("ratio", "seed"), "evaluation mode"),
    "Pad": Operator(_pad, ("mode", "pads", "value"), "constant, reflect, edge, wrap; cropping"),
    "Where": Operator(_where, (), "by a constant mask"),
    "DepthToSpace": Operator(_depth_to_space, ("blocksize", "mode")),
    "SpaceToDepth": Operator(_space_to_depth, ("blocksize",)),
}
