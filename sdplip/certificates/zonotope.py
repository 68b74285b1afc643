r"""Sets of values $\{c + G \xi + e\}$ and what layers make of them, rounding included.

The first columns of G belong to the input, with $\lVert \xi \rVert_2 \le 1$ of a ball and $\lVert \xi \rVert_\infty \le 1$ of
a box; the other columns are numbers in $[-1, 1]$ that stand for nonlinear neurons; $|e| \le$ `slop` takes what rounding left
out. Beside it runs plain interval arithmetic, and the narrower of the two counts. `docs/rounding-systems.md`, section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from sdplip.certificates.bands import Band
from sdplip.certificates.regions import Ball, Box, Region
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.certificates.system import Map, Sort
from sdplip.errors import InvalidProblem, InvalidWeight

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Zonotope:
    r"""Values $c + G \xi + e$ with $|e| \le$ `slop`, between `low` and `high`."""

    center: Vector
    G: Matrix
    slop: Vector
    low: Vector
    high: Vector
    round_inputs: int  # the columns in front that obey the Euclidean norm together; 0 of a box

    def reach(self, G: Matrix) -> Vector:
        """How far $G \\xi$ goes, rounded up."""
        n = self.round_inputs
        euclid = np.sqrt((G[:, :n] ** 2).sum(1)) * (1 + gamma(n + 4)) + n * 2.0**-500 if n else 0.0
        return (euclid + abs(G[:, n:]).sum(1) * (1 + gamma(G.shape[1] + 2))) * GENEROUS

    def narrowed(self) -> "Zonotope":
        """With intervals that respect the zonotope."""
        far = (self.reach(self.G) + self.slop) * GENEROUS
        low, high = self.center - far, self.center + far
        pad = 4 * UNIT * (abs(self.center) + far) + TINY
        low, high = np.maximum(self.low, low - pad), np.minimum(self.high, high + pad)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InvalidProblem(
                "The values of the network on this region leave the range of double precision."
            )
        return replace(self, low=low, high=high)


def start(region: Region) -> Zonotope:
    """The inputs of the region; a ball that a box cuts keeps its columns."""
    n, (low, high) = region.inputs, region.ends()
    if isinstance(region, Box):
        center = low / 2 + high / 2
        far = np.maximum(high - center, center - low) * (1 + 4 * UNIT) + TINY
        return Zonotope(center, np.diag(far), np.zeros(n), low, high, 0)
    ball = region if isinstance(region, Ball) else region.ball
    center = np.asarray(ball.center, np.float64)
    return Zonotope(center, float(ball.radius) * np.eye(n), np.zeros(n), low, high, n)


def affine(layer: Map, z: Zonotope) -> Zonotope:
    """The values after a matrix.

    Raises:
        InvalidWeight: a width that does not fit.
        InvalidProblem: a shift that is known up to its rounding only, values that leave the range of doubles.
    """
    W = np.asarray(layer.W, np.float64)
    if W.shape[1] != len(z.center):
        raise InvalidWeight(f"A weight of shape {W.shape} is given {len(z.center)} numbers.")
    b = np.zeros(len(W)) if layer.b is None else np.asarray(layer.b, np.float64)
    if layer.error and b.any():
        raise InvalidProblem(
            "The shift of a batch normalisation is known up to its rounding only, so it is not covered on a region. Fold it into"
            " the weights and biases of the layer before."
        )
    A, n = abs(W), W.shape[1]
    middle, half = z.low / 2 + z.high / 2, (z.high / 2 - z.low / 2) * (1 + 4 * UNIT) + TINY
    size = abs(z.center) + abs(z.G).sum(1)
    lost = 4 * (n + z.G.shape[1]) * TINY * (1 + float(A.max()))
    relative = gamma(n + 6) + layer.error * (1 + gamma(n + 6))
    slop = (A @ z.slop * (1 + layer.error) + relative * (A @ size + abs(b)) + lost) * GENEROUS
    around = W @ middle + b
    far = (
        A @ half + relative * (A @ (abs(middle) + half) + abs(b)) + abs(around) * 4 * UNIT + lost
    ) * GENEROUS
    after = Zonotope(W @ z.center + b, W @ z.G, slop, around - far, around + far, z.round_inputs)
    return after.narrowed()


def elementwise(found: Band, z: Zonotope) -> Zonotope:
    """The values after functions in this band."""
    return _linear_plus(z, found.slope, found.bottom, found.top, found.least, found.most)


def _linear_plus(
    z: Zonotope, slope: Vector, bottom: Vector, top: Vector, least: Vector, most: Vector
) -> Zonotope:
    """The set of `slope` z + [bottom, top], one new column a neuron with bottom < top, within [least, most]."""
    middle, half = bottom / 2 + top / 2, (top / 2 - bottom / 2) * (1 + 4 * UNIT)
    center = slope * z.center + middle
    G = slope[:, None] * z.G
    size = abs(slope) * (abs(z.center) + abs(z.G).sum(1)) + abs(middle) + half
    slop = (abs(slope) * z.slop + 8 * UNIT * size + (4 + z.G.shape[1]) * TINY) * GENEROUS
    new = np.flatnonzero(half > 0)
    extra = np.zeros((len(center), len(new)))
    extra[new, np.arange(len(new))] = half[new]
    return Zonotope(center, np.concatenate([G, extra], 1), slop, least, most, z.round_inputs).narrowed()


Apart = Mapping[tuple[int, int], tuple[float, float]]
"""Bounds of entry a minus entry b that are known from elsewhere."""


def sort(layer: Sort, z: Zonotope, apart: Apart) -> tuple[list[Map | Sort], Zonotope]:
    """The groups whose order is not fixed, then the permutation of the others; and the values."""
    groups = np.asarray(layer.groups)
    order = np.argsort(z.center[groups], 1) if groups.size else groups
    fixed = np.array([_fixed(z, row[by], apart) for row, by in zip(groups, order, strict=True)], bool)
    place = np.arange(len(z.center))
    for row, by in zip(groups[fixed], order[fixed], strict=True):
        place[row] = row[by]
    loose = groups[~fixed]
    after = replace(
        z, center=z.center[place], G=z.G[place], slop=z.slop[place], low=z.low[place], high=z.high[place]
    )
    if len(loose):
        after = _pairs(after, loose, apart) if loose.shape[1] == 2 else _ranks(after, loose)
    permutation = np.eye(len(place))[place]
    layers = list[Map | Sort]([Map(permutation)] if (place != np.arange(len(place))).any() else [])
    return [*layers, *([Sort(loose)] if len(loose) else [])], after


def _fixed(z: Zonotope, ascending: np.ndarray, apart: Apart) -> bool:
    """Whether the values stand in this order everywhere."""
    return all(difference(z, a, b, apart)[1] <= 0 for a, b in pairwise(ascending))


def difference(z: Zonotope, a: int, b: int, apart: Apart) -> tuple[float, float]:
    """Bounds of entry a minus entry b."""
    row = (z.G[a] - z.G[b])[None]
    far = float(z.reach(row)[0]) + 2 * UNIT * float((abs(z.G[a]) + abs(z.G[b])).sum()) + z.slop[a] + z.slop[b]
    middle = z.center[a] - z.center[b]
    far = (far + 4 * UNIT * (abs(z.center[a]) + abs(z.center[b]) + far)) * GENEROUS + TINY
    pad = 2 * UNIT * (abs(z.low[a]) + abs(z.high[a]) + abs(z.low[b]) + abs(z.high[b]))
    low, high = apart.get((a, b), (-np.inf, np.inf))
    low, high = (
        max(low, middle - far, z.low[a] - z.high[b] - pad),
        min(high, middle + far, z.high[a] - z.low[b] + pad),
    )
    return min(low, high), max(low, high)


def _pairs(z: Zonotope, groups: np.ndarray, apart: Apart) -> Zonotope:
    r"""Minimum and maximum as $(a + b \mp |a - b|) / 2$, with the chord of $|a - b|$ and a new column for what is above it."""
    center, slop, low, high = z.center.copy(), z.slop.copy(), z.low.copy(), z.high.copy()
    G = np.concatenate([z.G, np.zeros((len(center), len(groups)))], 1)
    for column, (a, b) in enumerate(groups, z.G.shape[1]):
        least, most = difference(z, a, b, apart)
        chord = min(1.0, max(-1.0, (most + least) / (most - least))) if most > least else 0.0
        top = (
            max((1 - chord) * most, (-1 - chord) * least, 0.0) + 16 * UNIT * max(abs(least), abs(most)) + TINY
        )
        for place, sign in ((a, -1.0), (b, 1.0)):
            wa, wb = (1 + sign * chord) / 2, (1 - sign * chord) / 2
            center[place] = wa * z.center[a] + wb * z.center[b] + sign * top / 4
            G[place, :column] = 0.0
            G[place, : z.G.shape[1]] = wa * z.G[a] + wb * z.G[b]
            G[place, column] = sign * top / 4
            size = sum(abs(z.center[i]) + abs(z.G[i]).sum() for i in (a, b)) + top
            slop[place] = (
                wa * z.slop[a] + wb * z.slop[b] + 16 * UNIT * size + z.G.shape[1] * TINY
            ) * GENEROUS
        low[a], low[b] = min(z.low[a], z.low[b]), max(z.low[a], z.low[b])
        high[a], high[b] = min(z.high[a], z.high[b]), max(z.high[a], z.high[b])
    return Zonotope(center, G, slop, low, high, z.round_inputs).narrowed()


def _ranks(z: Zonotope, groups: np.ndarray) -> Zonotope:
    """Sorted values by the sorted ends of their intervals; the zonotope forgets how they came about."""
    low, high = z.low.copy(), z.high.copy()
    for row in groups:
        low[row], high[row] = np.sort(z.low[row]), np.sort(z.high[row])
    rows = groups.reshape(-1)
    zero = np.zeros(len(low))
    slope, bottom, top = np.ones(len(low)), zero, zero.copy()
    slope[rows], bottom[rows], top[rows] = 0.0, low[rows], high[rows]
    return _linear_plus(z, slope, bottom, top, low, high)


def added(z: Zonotope, after: Zonotope) -> Zonotope:
    """A residual sum: columns of the branch that the input does not have count as zero there."""
    more = after.G.shape[1] - z.G.shape[1]
    G = np.concatenate([z.G, np.zeros((len(z.G), more))], 1) + after.G
    center = z.center + after.center
    size = abs(center) + abs(G).sum(1) + abs(after.center) + abs(after.G).sum(1)
    slop = (z.slop + after.slop + 2 * UNIT * size) * GENEROUS
    low, high = z.low + after.low, z.high + after.high
    pad = 2 * UNIT * (abs(low) + abs(high)) + TINY
    return Zonotope(center, G, slop, low - pad, high + pad, z.round_inputs).narrowed()
