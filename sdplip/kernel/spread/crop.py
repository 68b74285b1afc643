r"""Parts of images: what a few neighbouring pixels of one value depend on, through convolutions and activations, as a small network.

Statement. Where zeros stand outside of an image, the pixels in a window of a convolution's output read a window of its input, in all
channels, and are the output of the same kernel there, with the zeros that the window touches. Entries of an activation are its own.
So through a chain of both, a window of a value is a network of a window of the input. What is known of each value entry by entry holds
in its window, and $\lVert z_J - \hat z_J \rVert \le \lVert z - \hat z \rVert$: the radius of the whole is one of the window J.

Rows that stand on few pixels come back through that network, not as zeros through the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sdplip.kernel.reach.linear import Linear
from sdplip.kernel.reach.relaxed import Lines, Relaxed
from sdplip.kernel.regions import Ball
from sdplip.kernel.spread.offset import Cap
from sdplip.kernel.spread.walk import Spread
from sdplip.network import INPUT, Activation, Convolution, Network, Node
from sdplip.shapes import Float, Int

Vector = Float[np.ndarray, " n"]
Index = Int[np.ndarray, " n"]
Shape = tuple[int, ...]
Window = tuple[tuple[int, int], ...]
"""First pixel, and the one behind the last, on each axis."""


@dataclass(frozen=True, eq=False)
class Part:
    """A window of one value as the output of a network.

    Attributes:
        region: of its inputs; the rest is what `Downward` takes.
    """

    network: Network
    region: Ball
    linear: dict[int, Linear]
    relaxed: dict[int, Relaxed]
    caps: dict[int, Cap]
    size: list[Vector]


@dataclass(frozen=True, eq=False)
class Chain:
    """Convolutions and activations from the input to one value, which a convolution makes.

    Attributes:
        values: their numbers, from the input on.
        shapes: channels and pixels of each.
    """

    values: tuple[int, ...]
    shapes: tuple[Shape, ...]

    @staticmethod
    def of(network: Network, value: int) -> "Chain | None":
        """None where something else stands in front of the value."""
        values, shapes = [value], list[Shape]()
        while values[-1] != INPUT:
            node = network.made(values[-1])
            op = node.op
            if isinstance(op, Convolution) and _plain(op) and (not shapes or shapes[-1] == op.shape):
                shapes = shapes or [op.shape]
                shapes.append((op.channels, *op.image_size))
            elif isinstance(op, Activation) and shapes:
                shapes.append(shapes[-1])
            else:
                return None
            values.append(node.inputs[0])
        return Chain(tuple(values[::-1]), tuple(shapes[::-1])) if shapes else None

    def tiles(self, edge: int) -> list[Window]:
        """Windows of so many pixels on each axis that cover the value."""
        pixels = self.shapes[-1][1:]
        counts = [-(-n // edge) for n in pixels]
        return [
            tuple((edge * t, min(edge * (t + 1), n)) for t, n in zip(tile, pixels, strict=True))
            for tile in np.ndindex(*counts)
        ]

    def entries(self, window: Window) -> Index:
        """The entries of the value in a window."""
        return _entries(self.shapes[-1], window)

    def part(self, spread: Spread, window: Window) -> Part:
        """The network that makes a window of the value on the ball."""
        network, windows, pads = spread.front.network, [window], list[Window]()
        for k in self.values[:0:-1]:
            op = network.made(k).op
            read, outside = _read(op, windows[-1]) if isinstance(op, Convolution) else (windows[-1], ())
            windows.append(read)
            pads.append(outside)
        at = [_entries(shape, w) for shape, w in zip(self.shapes, windows[::-1], strict=True)]
        sizes = [tuple(b - a for a, b in w) for w in windows[::-1]]
        nodes, linear, relaxed, caps = [], {}, {}, {}
        for n, (k, outside) in enumerate(zip(self.values[1:], pads[::-1], strict=True), 1):
            op = network.made(k).op
            if isinstance(op, Convolution):
                op = replace(
                    op, image_size=sizes[n - 1], pads=outside, b=None if op.b is None else op.b[at[n]]
                )
                linear[n] = Linear(op)
            else:
                relaxed[n], caps[n] = _relaxed(spread.relaxed[k], at[n]), _cap(spread.caps[k], at[n])
                left, right = caps[n].left, caps[n].right
                op = Activation("", len(at[n]), {}, np.minimum(left, right), np.maximum(left, right))
            nodes.append(Node(op, (n - 1,), (self.shapes[n][0], *sizes[n])))
        size = [spread.size[k][entries] for k, entries in zip(self.values, at, strict=True)]
        small = Network((self.shapes[0][0], *sizes[0]), tuple(nodes))
        region = Ball(spread.region.center[at[0]], spread.region.radius)
        return Part(small, region, linear, relaxed, caps, size)


def _plain(op: Convolution) -> bool:
    """Zeros outside, and no output pixel reads them alone."""
    return not op.circular and all(max(pad) <= reach for pad, reach in zip(op.pads, op.reach, strict=True))


def _read(op: Convolution, window: Window) -> tuple[Window, Window]:
    """The pixels that a window of the output reads, and how many lie outside before and after."""
    read, outside = [], []
    axes = zip(window, op.image_size, op.stride, op.pads, op.reach, strict=True)
    for (start, end), pixels, stride, (before, _), reach in axes:
        low, high = start * stride - before, (end - 1) * stride - before + reach + 1
        inside = max(low, 0), min(high, pixels)
        read.append(inside)
        outside.append((inside[0] - low, high - inside[1]))
    return tuple(read), tuple(outside)


def _entries(shape: Shape, window: Sequence[tuple[int, int]]) -> Index:
    """The entries of a window, in all channels."""
    axes = np.ix_(np.arange(shape[0]), *(np.arange(a, b) for a, b in window))
    return np.ravel_multi_index(axes, shape).ravel()


def _cap(cap: Cap, at: Index) -> Cap:
    free = np.zeros(len(cap.low), bool)
    free[cap.free] = True
    return Cap(
        cap.center[at],
        cap.radius,
        cap.low[at],
        cap.high[at],
        cap.left[at],
        cap.right[at],
        np.flatnonzero(free[at]),
    )


def _relaxed(found: Relaxed, at: Index) -> Relaxed:
    assert found.index is None and found.pairs is None, "activations read their own entries"
    lines = tuple(Lines(own.lower[at], own.floor[at], own.upper[at], own.ceiling[at]) for own in found.lines)
    least, most = found.least[at], found.most[at]
    return Relaxed(None, found.slope[at], found.bottom[at], found.top[at], least, most, lines)
