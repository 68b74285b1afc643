r"""Networks that do the same at every pixel: their images on one torus, with zeros around them.

A **stationary** map is $y_j = \sum_q K_q x_{s j + o_q}$ with matrices $K_q$ over the channels and offsets $o_q$: convolutions of any
stride, dilation and groups, transposed ones of stride 1, means over windows, factors and matrices on channels. Put on tori with enough
zeros around every image, it is a periodic map. Inside the images both make the same numbers. Outside, the periodic one may make something
else than 0; a value of which this is so is *dirty*. What stands outside is multiplied by 0 there: by the next activation, whose slopes are
made to hold 0, or, where the next map would read it, by a *mask*, which is a function of slopes in [0, 1].
So every increment of the network is one of the periodic network of the same length.

An activation with difference quotients in $[\alpha, \beta]$ is $\alpha y + v$ with $v (v - \delta y) \le 0$, $\delta = \beta -
\alpha$: an unknown v of its own. A maximum over windows is a tree of maxima of pairs, $\max(a, b) = b + v$ with $v = \max(a - b, 0)$.
Entries that a window at the border leaves out are chosen away, v = 0 or v = a - b, whatever stands there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import prod

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.rounding import UNIT
from sdplip.errors import NotProvable
from sdplip.network import (
    AbstractLinear,
    Activation,
    Average,
    Concatenate,
    Convolution,
    Diagonal,
    Maximum,
    Network,
    OnAxis,
    Operator,
    Sum,
    Transposed,
)
from sdplip.shapes import Float, Int

Pixels = tuple[int, ...]
Key = tuple[int, int]
"""An unknown: the value that it is a part of, and its number there."""
MOST = 1 << 22
"""Entries of the taps of one map, and points of a torus."""


@dataclass(frozen=True)
class View:
    """How a flat value is seen: channels first, then pixels, `spacing` pixels of the input apart."""

    channels: int
    pixels: Pixels
    spacing: Pixels

    @property
    def length(self) -> int:
        return self.channels * prod(self.pixels)


@dataclass(frozen=True, eq=False)
class Taps:
    r"""$y_j = 2^e \sum_q K_q x_{s j + o_q}$, the largest entry of `K` in [1/2, 1).

    Attributes:
        K: `(taps, out, in)`.
        exponent: e.
        offsets: `(taps, axes)`.
        stride: s.
        circular: whether the image closes to a circle.
    """

    K: Enclosure
    exponent: int
    offsets: Int[np.ndarray, "taps axes"]
    stride: Pixels
    circular: bool = False

    @staticmethod
    def of(
        K: "Enclosure | Float[np.ndarray, 'taps out in']",
        offsets: Int[np.ndarray, "taps axes"],
        stride: Pixels,
        *,
        circular: bool = False,
    ) -> "Taps":
        K = Enclosure.exact(K)
        e = int(np.frexp(abs(K.mid).max(initial=0.0))[1])
        return Taps(K.shifted(-e), e, offsets, stride, circular)

    def reads(self, outputs: int, axis: int) -> tuple[int, int]:
        """First and last position that the first `outputs` outputs on an axis read."""
        o = self.offsets[:, axis]
        return int(o.min()), int(o.max()) + self.stride[axis] * (outputs - 1)


@dataclass(frozen=True, eq=False)
class Unknown:
    r"""The part v of an activation or mask $\alpha y + v$, or of a maximum, with $v (v - \delta y) \le 0$."""

    alpha: Float[np.ndarray, " channels"]
    delta: Enclosure


@dataclass(frozen=True, eq=False)
class Plan:
    """A stationary network up to one of its cuts.

    Attributes:
        network, stop: which.
        views: of every value up to `stop`.
        taps: of every value that a stationary map makes.
        windows: of every value that is a maximum, the maps to each entry of its windows.
        coarsest: the largest spacing on each axis.
        points: points of the torus of that spacing; the torus of another value has as many more as its pixels are nearer.
        unknowns: in order; a mask is counted at the value that it masks.
    """

    network: Network
    stop: int
    views: Sequence[View]
    taps: Mapping[int, Taps]
    windows: Mapping[int, Sequence[Taps]]
    coarsest: Pixels
    points: Pixels
    unknowns: Mapping[Key, Unknown]

    def torus(self, value: int) -> Pixels:
        """Points on each axis of the torus of a value."""
        return _torus(self.views[value], self.coarsest, self.points)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each unknown: the lengths of the multipliers of a proof."""
        return tuple(len(u.alpha) for u in self.unknowns.values())

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The values at which the network is cut into segments, from the input to `stop`."""
        found = [0]
        for k in self.network.cuts:
            users = self.network.users[k]
            alone = len(users) == 1 and isinstance(self.network.made(users[0]).op, Activation)
            joins = k > 0 and isinstance(self.network.made(k).op, Sum | Concatenate)
            ends = (k, 0) in self.unknowns or ((joins or k in self.windows) and not alone)
            if 0 < k < self.stop and ends:
                found.append(k)
        return (*found, self.stop)

    @property
    def segments(self) -> tuple[tuple[int, int], ...]:
        """Start and end of each segment, in order."""
        return tuple(pairwise(self.ends))


def plan(network: Network, stop: int) -> Plan:
    """The network up to value `stop`, one of its cuts, as a stationary one.

    Raises:
        NotProvable: it is none; the message says which layer is not.
    """
    if stop not in network.cuts or not stop:
        raise NotProvable(f"Not everything passes through value {stop} of the network.")
    views, taps, windows = [_first(network)], dict[int, Taps](), dict[int, Sequence[Taps]]()
    for k, node in enumerate(network.nodes[:stop], 1):
        try:
            made, seen = stationary(node.op, [views[i] for i in node.inputs], network.shape(k))
        except NotProvable as error:
            raise NotProvable(
                f"Layer {k}, a {node.title}, does not do the same at every pixel: {error}"
            ) from None
        views.append(seen)
        if isinstance(made, Taps):
            taps[k] = made
        elif made is not None:
            windows[k] = made
    coarsest = tuple(max(v.spacing[axis] for v in views) for axis in range(len(views[0].spacing)))
    if any(c % s for v in views for c, s in zip(coarsest, v.spacing, strict=True)):
        raise NotProvable("The strides of the branches of the network do not divide one another.")
    every = [*taps.items(), *((k, T) for k, entries in windows.items() for T in entries)]
    points = _points(network, views, every, coarsest)
    tori = [_torus(view, coarsest, points) for view in views]
    if prod(tori[0]) > MOST:
        raise NotProvable(
            f"A torus of {tori[0]} points has more frequencies than the {MOST} that are proven."
        )
    unknowns = _unknowns(network, stop, views, taps, windows, tori)
    return Plan(network, stop, views, taps, windows, coarsest, points, unknowns)


def stationary(
    op: Operator, views: Sequence[View], shape: Pixels
) -> tuple[Taps | Sequence[Taps] | None, View]:
    """The taps of an operator, several of a maximum, None of an activation or sum, and how its result is seen.

    `shape` is a hint for windows.

    Raises:
        NotProvable: it does not do the same at every pixel.
    """
    view = views[0]
    if isinstance(op, Activation):
        return None, view
    if isinstance(op, Sum):
        if any(v != view for v in views):
            raise NotProvable("it adds images of different shapes.")
        return None, view
    if isinstance(op, Concatenate):
        if any((v.pixels, v.spacing) != (view.pixels, view.spacing) for v in views):
            raise NotProvable("it joins images of different shapes.")
        return None, View(sum(v.channels for v in views), view.pixels, view.spacing)
    if isinstance(op, Convolution):
        _same(view, op.channels, op.image_size)
        spacing = tuple(a * s for a, s in zip(view.spacing, op.stride, strict=True))
        return _of_convolution(op), View(len(op.K), op.output_size, spacing)
    if isinstance(op, Transposed) and isinstance(op.of, Convolution):
        of = op.of
        if set(of.stride) != {1} or of.circular:
            raise NotProvable("transposed convolutions have stride 1 and zeros around the image here.")
        _same(view, len(of.K), of.output_size)
        there = _of_convolution(of)
        return Taps(there.K.T, there.exponent, -there.offsets, of.stride), View(
            of.channels, of.image_size, view.spacing
        )
    one = (1,) * len(view.pixels)
    here = np.zeros((1, len(one)), np.intp)
    if isinstance(op, Diagonal):
        d = op.d.reshape(view.channels, -1) if op.inputs == view.length else np.zeros((1, 0))
        if not d.size or (d != d[:, :1]).any():
            raise NotProvable("its factors differ from pixel to pixel.")
        return Taps.of(Enclosure.of(np.diag(d[:, 0])[None], op.error), here, one), view
    if (
        isinstance(op, OnAxis)
        and op.before == 1
        and (op.W.shape[1], op.after) == (view.channels, prod(view.pixels))
    ):
        return Taps.of(op.W[None], here, one), View(len(op.W), view.pixels, view.spacing)
    if isinstance(op, Average):
        return _of_average(op, view, shape)
    if isinstance(op, Maximum):
        offsets, stride, seen = _moved(op.index, view, shape)
        return [Taps.of(np.eye(view.channels)[None], o[None], stride) for o in offsets], seen
    kind = "linear map" if isinstance(op, AbstractLinear) else "function"
    raise NotProvable(f"this kind of {kind} is not covered. Use 'product', or prove parts of the network.")


def _first(network: Network) -> View:
    """How the input is seen: as the first convolution takes it, or as its shape says."""
    found = (node.op for node in network.nodes if isinstance(node.op, Convolution))
    op = next((op for op in found if op.inputs == network.inputs), None)
    shape = network.input_shape if op is None else (op.channels, *op.image_size)
    if len(shape) < 2:
        raise NotProvable("The input of the network is no image: no convolution takes it.")
    return View(shape[0], tuple(shape[1:]), (1,) * (len(shape) - 1))


def _same(view: View, channels: int, pixels: Pixels) -> None:
    if (view.channels, view.pixels) != (channels, tuple(pixels)):
        raise NotProvable(
            f"it takes {channels} channels of {pixels} pixels, but is given {view.channels} of {view.pixels}."
        )


def _of_convolution(op: Convolution) -> Taps:
    axes, (out, into) = len(op.stride), op.K.shape[:2]
    places = np.array(list(product(*map(range, op.K.shape[2:]))), np.intp).reshape(-1, axes)
    if len(places) * out * op.channels > MOST:
        raise NotProvable(f"its taps have more than {MOST} entries.")
    K = np.zeros((len(places), out, op.channels))
    for g in range(op.groups):
        rows = slice(g * (out // op.groups), (g + 1) * (out // op.groups))
        K[:, rows, g * into : (g + 1) * into] = (
            op.K[rows].reshape(out // op.groups, into, -1).transpose(2, 0, 1)
        )
    offsets = places * np.array(op.dilation) - np.array([before for before, _ in op.pads])
    return Taps.of(K, offsets, op.stride, circular=op.circular)


def _of_average(op: Average, view: View, shape: Pixels) -> tuple[Taps, View]:
    if (op.divisor != op.divisor[0]).any():
        raise NotProvable("its windows at the border have another number of pixels. Count the padding.")
    offsets, stride, seen = _moved(op.index, view, shape)
    K = np.broadcast_to(np.eye(view.channels) / op.divisor[0], (len(offsets), view.channels, view.channels))
    return Taps.of(Enclosure.of(K, 2 * UNIT), offsets, stride), seen


def _moved(
    index: Int[np.ndarray, "outputs size"], view: View, shape: Pixels
) -> tuple[Int[np.ndarray, "size axes"], Pixels, View]:
    """Offsets and stride of windows, and how the values of the windows are seen: read off some, and checked on all of them."""
    pixels, n = tuple(shape[1:]), view.channels
    if len(shape) != len(view.pixels) + 1 or shape[0] != n or len(index) != prod(shape):
        raise NotProvable("its windows are not on the images of one channel.")
    index = index.reshape(n, prod(pixels), -1)
    area, inside = prod(view.pixels), index >= 0
    if (index[0] >= area).any() or not inside[0].any(0).all() or index.shape[2] * n * n > MOST:
        raise NotProvable("its windows are not one window moved over the image of each channel.")
    at = np.stack(np.unravel_index(np.where(inside[0], index[0], 0), view.pixels), -1)
    place = np.array(list(np.ndindex(*pixels)))
    stride = np.where(
        np.array(pixels) == 1, view.pixels, 1
    )  # a single window may be moved as far as one likes
    for axis in range(len(pixels)):  # by two neighbouring windows that see the same of their pixels
        step = prod(pixels[axis + 1 :])
        near = np.reshape(np.equal(place[:-step, axis] + 1, place[step:, axis]), (-1, 1))
        both = np.argwhere(inside[0][:-step] & inside[0][step:] & near)
        if len(both):
            w, q = both[0]
            stride[axis] = max(1, at[w + step, q, axis] - at[w, q, axis])
    first = inside[0].argmax(0)
    offsets = at[first, np.arange(at.shape[1])] - place[first] * stride
    there = place[:, None] * stride + offsets
    within = np.asarray(((there >= 0) & (there < np.array(view.pixels))).all(-1))
    flat = np.ravel_multi_index(tuple(np.moveaxis(np.where(within[..., None], there, 0), -1, 0)), view.pixels)
    every = (np.arange(n) * area)[:, None, None] * within + np.where(within, flat, -1)
    if (every != index).any():
        raise NotProvable("its windows are not one window moved over the image of each channel.")
    spacing = tuple(int(a * s) for a, s in zip(view.spacing, stride, strict=True))
    return offsets, tuple(map(int, stride)), View(n, pixels, spacing)


def _torus(view: View, coarsest: Pixels, points: Pixels) -> Pixels:
    return tuple(n * c // s for n, c, s in zip(points, coarsest, view.spacing, strict=True))


def _points(
    network: Network, views: Sequence[View], taps: Sequence[tuple[int, Taps]], coarsest: Pixels
) -> Pixels:
    """The smallest torus on which nothing reads around it into the image, and circular maps fit."""
    found = []
    for axis, c in enumerate(coarsest):
        least, fixed = 1, set[int]()

        def room(view: View, n: int, axis: int = axis, c: int = c) -> int:
            return -(-n * view.spacing[axis] // c)

        for view in views:
            least = max(least, room(view, view.pixels[axis]))
        for k, T in taps:
            view = views[network.made(k).inputs[0]]
            if T.circular:
                fixed.add(view.pixels[axis] * view.spacing[axis])
                continue
            first, last = T.reads(views[k].pixels[axis], axis)
            least = max(least, room(view, max(view.pixels[axis] - min(first, 0), last + 1)))
        if len(fixed) > 1 or any(n % c or n // c < least for n in fixed):
            raise NotProvable(
                "Images that close to a circle and images with zeros around them do not fit on one torus."
            )
        found.append(fixed.pop() // c if fixed else least)
    return tuple(found)


def _unknowns(
    network: Network,
    stop: int,
    views: Sequence[View],
    taps: Mapping[int, Taps],
    windows: Mapping[int, Sequence[Taps]],
    tori: Sequence[Pixels],
) -> dict[Key, Unknown]:
    found, dirty = dict[Key, Unknown](), {0: False}
    for k in range(1, stop + 1):
        node, view = network.made(k), views[k]
        source = node.inputs[0]
        zero, one = np.zeros(view.channels), enclose(np.ones(view.channels), 0.0)
        if isinstance(node.op, Activation):
            alpha, beta = _channels(node.op, view)
            if dirty[source]:
                alpha, beta = np.minimum(alpha, 0.0), np.maximum(beta, 0.0)
            dirty[k] = False
            if (alpha < beta).any():
                found[k, 0] = Unknown(alpha, enclose(beta, 0.0) - alpha)
        elif k in taps or k in windows:
            maps = windows.get(k) or [taps[k]]
            ends = views[source], view, tori[source], tori[k]
            dirty[k] = any(_is_dirty(T, *ends, dirty=dirty[source]) for T in maps)
            found |= {(k, j): Unknown(zero, one) for j in range(1, len(maps))}
        else:
            dirty[k] = any(dirty[i] for i in node.inputs)
        reading = [u for u in network.users[k] if u in taps and u <= stop]
        if dirty[k] and any(_reads_outside(taps[u], view, views[u]) for u in reading):
            found[k, 0] = Unknown(zero, one)
            dirty[k] = False
    return found


def _channels(
    op: Activation, view: View
) -> tuple[Float[np.ndarray, " channels"], Float[np.ndarray, " channels"]]:
    """Slopes that hold at every pixel of a channel."""
    return op.alpha.reshape(view.channels, -1).min(1), op.beta.reshape(view.channels, -1).max(1)


def _reads_outside(T: Taps, view: View, made: View) -> bool:
    """Whether the outputs inside the image read anything outside of it."""
    if T.circular:
        return False
    ends = [T.reads(n, axis) for axis, n in enumerate(made.pixels)]
    return any(first < 0 or last >= n for (first, last), n in zip(ends, view.pixels, strict=True))


def _is_dirty(T: Taps, view: View, made: View, torus: Pixels, after: Pixels, *, dirty: bool) -> bool:
    """Whether the map makes something outside of its image: of what is inside of its input, or of something dirty."""
    if made.pixels == after:
        return False
    if dirty:
        return True
    for axis, (n, N, h, H) in enumerate(zip(made.pixels, after, view.pixels, torus, strict=True)):
        there = (np.arange(n, N)[:, None] * T.stride[axis] + T.offsets[:, axis]) % H
        if (there < h).any():
            return True
    return False
