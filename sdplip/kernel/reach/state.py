r"""Sets of values, an interval an entry and, where not too large, a zonotope $\{c + G^\top \xi + e\}$; what maps make of them.

Rows of G belong to where they came from: source 0 is the input, with $\lVert \xi \rVert_2 \le 1$ of a ball and $|\xi_j| \le 1$ of
a box; source k is what node k adds, $|\xi_j| \le 1$. $|e| \le$ `slop` takes what rounding left out. The narrower of interval and
zonotope counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sdplip.arithmetic.matrix import lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.kernel.reach.linear import Linear
from sdplip.kernel.reach.relaxed import Relaxed
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.shapes import Float, Int

Vector = Float[np.ndarray, " n"]
Rows = Float[np.ndarray, "k n"]

CLEAR = 2.0**-36
"""Bands lower than this share of the values go to `slop`; a row of G for each would only hold rounding."""
FAINT = 2.0**-900
"""So do bands lower than this: subnormal numbers are slow."""


@dataclass(frozen=True, eq=False)
class Zonotope:
    r"""Values $c + \sum_k G_k^\top \xi_k + e$ with $|e| \le$ `slop`."""

    center: Vector
    G: Mapping[int, Rows]
    slop: Vector
    round: bool  # whether source 0 obeys the Euclidean norm

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(map(len, self.G.values()))

    def size(self) -> Vector:
        """At least the absolute value of each entry without `slop`, but for rounding."""
        return abs(self.center) + sum((abs(G).sum(0) for G in self.G.values()), np.zeros(len(self.center)))

    def ends(self) -> tuple[Vector, Vector]:
        """The interval of each entry."""
        far = np.zeros(len(self.center))
        for source, G in self.G.items():
            far = far + _reach(G, self.round and source == 0)
        far = (far + self.slop) * GENEROUS
        pad = 4 * UNIT * (abs(self.center) + far) + 4 * (self.count + 2) * TINY
        return self.center - far - pad, self.center + far + pad


@dataclass(frozen=True, eq=False)
class State:
    """What is known of one value: its ends, infinite where nothing is, and a zonotope or None.

    `tight` says that the ends are those of a zonotope too, though that may have been too large to keep.
    """

    low: Vector
    high: Vector
    zonotope: Zonotope | None
    tight: bool = False

    @property
    def size(self) -> Vector:
        """At least the absolute value of each entry."""
        return np.maximum(abs(self.low), abs(self.high))

    def within(self, low: Vector, high: Vector) -> "State":
        """With these ends too. Ends that cross by rounding are both the value."""
        low, high = np.fmax(self.low, low), np.fmin(self.high, high)
        return replace(self, low=np.minimum(low, high), high=np.maximum(low, high))

    def narrowed(self, room: int) -> "State":
        """With the ends of the zonotope, which is dropped where it is not finite or has more than `room` numbers."""
        z = self.zonotope
        if z is None:
            return self
        low, high = z.ends()
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return replace(self, zonotope=None)
        kept = replace(self.within(low, high), tight=True)
        return kept if z.count * len(low) <= room else replace(kept, zonotope=None)


def start(region: Region, room: int) -> State:
    """The inputs of the region; a ball that a box cuts keeps its rows."""
    n, (low, high) = region.inputs, region.ends()
    if n * n > room:
        return State(low, high, None)
    if isinstance(region, Box):
        center = low / 2 + high / 2
        far = np.maximum(high - center, center - low) * (1 + 4 * UNIT) + 4 * TINY
        return State(low, high, Zonotope(center, {0: np.diag(far)}, np.zeros(n), False))
    ball = region.ball if isinstance(region, Cut) else region
    assert isinstance(ball, Ball)
    z = Zonotope(ball.center, {0: ball.radius * np.eye(n)}, np.full(n, 4 * TINY), True)
    return State(low, high, z)


def affine(layer: Linear, z: State, room: int, *, large: bool) -> State:
    """The values behind a linear map; `large`: also the ends of a zonotope that is too large to keep."""
    after, one = State(*layer.interval(z.low, z.high), None), z.zonotope
    if one is None or (not large and one.count * layer.op.outputs > room):
        return after
    center, lost = layer.values(one.center, one.size() + one.slop, one.count)
    slop = (layer.absolute.apply(one.slop) * (1 + layer.op.error) + lost) * GENEROUS
    if one.count * layer.op.outputs > room:
        return _passed(layer, one, replace(after, zonotope=Zonotope(center, {}, slop, one.round)), room)
    G = {source: layer.op.apply(rows) for source, rows in one.G.items()}
    return replace(after, zonotope=Zonotope(center, G, slop, one.round)).narrowed(room)


def _passed(layer: Linear, one: Zonotope, after: State, room: int) -> State:
    """The ends of a zonotope that is too large to keep, some rows at a time."""
    assert after.zonotope is not None
    far, step = after.zonotope.slop, max(1, room // (4 * layer.op.outputs))
    for source, rows in one.G.items():
        euclidean = one.round and source == 0
        parts = [_reach(layer.op.apply(rows[k : k + step]), euclidean) for k in range(0, len(rows), step)]
        far = far + _reach(np.array(parts), euclidean)
    low, high = replace(after.zonotope, slop=far).ends()
    pad = 4 * (one.count + 2) * TINY
    return replace(after.within(low - pad, high + pad), zonotope=None, tight=True)


def added(signs: Sequence[int], parts: Sequence[State], room: int) -> State:
    """A sum of values with signs."""
    lows = [z.low if s > 0 else -z.high for s, z in zip(signs, parts, strict=True)]
    highs = [z.high if s > 0 else -z.low for s, z in zip(signs, parts, strict=True)]
    pad = gamma(len(parts) + 4) * np.sum([z.size for z in parts], 0) + 4 * len(parts) * TINY
    low, high = _known(np.sum(lows, 0) - pad, np.sum(highs, 0) + pad)
    sets = [z.zonotope for z in parts]
    if any(one is None for one in sets):
        return State(low, high, None)
    known = [one for one in sets if one is not None]
    G = dict[int, Rows]()
    for s, one in zip(signs, known, strict=True):
        for source, rows in one.G.items():
            G[source] = G[source] + s * rows if source in G else s * rows
    count = sum(map(len, G.values()))
    rounded = gamma(len(parts) + 4) * np.sum([one.size() for one in known], 0)
    slop = np.sum([one.slop for one in known], 0) + rounded + 4 * len(parts) * (count + 1) * TINY
    slop = slop * GENEROUS
    center = np.sum([s * one.center for s, one in zip(signs, known, strict=True)], 0)
    return State(low, high, Zonotope(center, G, slop, known[0].round)).narrowed(room)


def beside(parts: Sequence[State], room: int) -> State:
    """Values one after the other."""
    low, high = np.concatenate([z.low for z in parts]), np.concatenate([z.high for z in parts])
    sets = [z.zonotope for z in parts]
    known = [one for one in sets if one is not None]
    sources = {source: len(rows) for one in known for source, rows in one.G.items()}
    if len(known) < len(sets) or sum(sources.values()) * len(low) > room:
        return State(low, high, None)
    G = {
        source: np.concatenate(
            [one.G.get(source, np.zeros((count, len(one.center)))) for one in known], axis=1
        )
        for source, count in sources.items()
    }
    z = Zonotope(
        np.concatenate([one.center for one in known]),
        G,
        np.concatenate([one.slop for one in known]),
        known[0].round,
    )
    return State(low, high, z).narrowed(room)


def relaxed(found: Relaxed, node: int, z: State, room: int) -> State:
    """The values behind a nonlinear operator between parallel bounds; each band that is not mere rounding is a new row."""
    after = State(found.least, found.most, None)
    before = z.zonotope
    if before is None or not (np.isfinite(found.bottom).all() and np.isfinite(found.top).all()):
        return after
    middle = found.bottom / 2 + found.top / 2
    half = np.maximum(found.top - middle, middle - found.bottom) * (1 + 4 * UNIT)
    reads = abs(found.slope)
    size = _gathered(found.index, reads, before.size()) + abs(middle) + half
    clear = half > np.maximum(CLEAR * size, FAINT)
    new = np.flatnonzero(clear)
    if (before.count + len(new)) * len(middle) > room:
        return after
    center = _gathered(found.index, found.slope, before.center) + middle
    G = {source: _gathered(found.index, found.slope, rows) for source, rows in before.G.items()}
    terms, n = found.slope.shape[1], before.count + 1
    lost = 4 * n * TINY * (reads.sum(1) + terms * (2 + _largest(before.size() + before.slop)))
    slop = _gathered(found.index, reads, before.slop) + gamma(terms + 8) * size + lost
    small = np.where(clear, 0.0, half)
    if len(new):
        G[node] = np.zeros((len(new), len(middle)))
        G[node][np.arange(len(new)), new] = half[new]
    made = Zonotope(center, G, (slop + small) * GENEROUS, before.round)
    if found.pairs is not None:
        made = _with_minima(made, before, found.pairs)
    return State(found.least, found.most, made).narrowed(room)


def _with_minima(z: Zonotope, before: Zonotope, pairs: Int[np.ndarray, "count 2"]) -> Zonotope:
    """Of each pair of entries the first is the sum of both as they were in front, less the second."""
    a, b = pairs.T
    size, count = z.size() + z.slop, z.count
    reads = before.size()
    z.center[a] = before.center[a] + before.center[b] - z.center[b]
    for source, G in z.G.items():
        G[:, a] = -G[:, b]
        if source in before.G:
            G[:, a] += before.G[source][:, a] + before.G[source][:, b]
    rounded = 4 * UNIT * (reads[a] + reads[b] + size[b]) + 16 * (count + 1) * TINY
    z.slop[a] = (before.slop[a] + before.slop[b] + z.slop[b] + rounded) * GENEROUS
    return z


def differences(
    z: State, a: Int[np.ndarray, " k"], b: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Ends of entry a minus entry b."""
    pad = 2 * UNIT * (z.size[a] + z.size[b]) + 4 * TINY
    low, high = _known(z.low[a] - z.high[b] - pad, z.high[a] - z.low[b] + pad)
    one = z.zonotope
    if one is None or not len(a):
        return low, high
    far, size = one.slop[a] + one.slop[b], abs(one.center[a]) + abs(one.center[b])
    for source, G in one.G.items():
        step = max(1, (1 << 22) // max(len(G), 1))
        for k in range(0, len(a), step):
            A, B = G[:, a[k : k + step]], G[:, b[k : k + step]]
            far[k : k + step] += _reach(A - B, one.round and source == 0)
            size[k : k + step] += (abs(A) + abs(B)).sum(0)
    middle = one.center[a] - one.center[b]
    far = (far + 8 * UNIT * (size + far) + 8 * (one.count + 2) * TINY) * GENEROUS
    low, high = np.fmax(low, middle - far), np.fmin(high, middle + far)
    return np.minimum(low, high), np.maximum(low, high)


def _reach(G: Rows, euclidean: bool) -> Vector:
    """How far $G^\\top \\xi$ goes, rounded up."""
    if euclidean:
        return lengths(G.T)
    return abs(G).sum(0) * (1 + gamma(len(G) + 2))


def _gathered(
    index: Int[np.ndarray, "m size"] | None,
    weights: Float[np.ndarray, "m size"],
    x: Float[np.ndarray, "*batch n"],
) -> Float[np.ndarray, "*batch m"]:
    """$\\sum_s w_{is} x_{\\mathrm{index}_{is}}$ for each i, with a rounding for each term."""
    if index is None:
        return weights[:, 0] * x
    return sum(weights[:, s] * x[..., index[:, s]] for s in range(index.shape[1]))  # type: ignore[return-value]


def _largest(x: Vector) -> float:
    return float(x.max(initial=0.0))


def _known(low: Vector, high: Vector) -> tuple[Vector, Vector]:
    """Ends that are no numbers are infinite."""
    return np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)
