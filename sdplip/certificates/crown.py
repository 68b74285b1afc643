r"""Backward linear bounds of values inside a network on a region (CROWN: Zhang et al., NeurIPS 2018), rounding included.

A row L of numbers with $y \le L z + c$ for all values z behind some layer is carried to the front: through a matrix it becomes
$L W$; through activations each entry of L takes the line above where it is positive and the line below where it is negative. At
the input, $\max L x$ over the region is known. What products and sums round is at most $\gamma$ of their absolute values times
the largest $|z|$ there, which the intervals know; it is added up beside c. `docs/rounding-systems.md`, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sdplip.certificates.bands import Band
from sdplip.certificates.regions import Region
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.certificates.system import Map

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Rows:
    r"""$y \le L z + c + e$ with e at most `lost`; `flat` says which of two lines is taken where there is a choice."""

    L: Matrix
    c: Vector
    lost: Vector
    flat: bool = False

    def plus(self, L: Matrix, c: Vector, lost: Vector) -> "Rows":
        """With another matrix, and with constants and losses (not yet enlarged) added."""
        total = self.c + c
        lost = (self.lost + lost + UNIT * abs(total)) * GENEROUS + TINY
        return Rows(L, total, lost, self.flat)


@dataclass(frozen=True, eq=False)
class Linear:
    """A matrix, for values of at most `size`."""

    layer: Map
    size: Vector

    def back(self, rows: Rows) -> Rows:
        W, L = np.asarray(self.layer.W, np.float64), rows.L
        n, relative = W.shape[0], gamma(len(W) + 6) + self.layer.error * (1 + gamma(len(W) + 6))
        lost = relative * (abs(L) @ (abs(W) @ self.size)) + _underflow(L, self.size)
        if self.layer.b is None:
            return rows.plus(L @ W, np.zeros(len(L)), lost)
        b = np.asarray(self.layer.b, np.float64)
        return rows.plus(L @ W, L @ b, lost + gamma(n + 6) * (abs(L) @ abs(b)) + _underflow(L, abs(b)))


@dataclass(frozen=True, eq=False)
class Lines:
    r"""$a x + b \le f(x) \le c x + d$ for $|x| \le$ `size`: `lower`, `floor`, `upper`, `ceiling`.

    `flat` holds other slopes below and above that are as good.
    """

    lower: Vector
    floor: Vector
    upper: Vector
    ceiling: Vector
    size: Vector
    flat: tuple[Vector, Vector]

    def back(self, rows: Rows) -> Rows:
        up, down = np.maximum(rows.L, 0.0), np.minimum(rows.L, 0.0)
        lower, upper = self.flat if rows.flat else (self.lower, self.upper)
        L = up * upper + down * lower
        lost = UNIT * (abs(L) @ self.size) + _underflow(L, self.size)
        lost += gamma(2 * L.shape[1] + 6) * (up @ abs(self.ceiling) - down @ abs(self.floor))
        lost += _underflow(L, np.maximum(abs(self.ceiling), abs(self.floor)))
        return rows.plus(L, up @ self.ceiling + down @ self.floor, lost)


@dataclass(frozen=True, eq=False)
class Forgotten:
    """Entries of which only the interval is known; the others pass."""

    low: Vector
    high: Vector
    entries: np.ndarray

    def back(self, rows: Rows) -> Rows:
        part, low, high = rows.L[:, self.entries], self.low[self.entries], self.high[self.entries]
        size = np.maximum(abs(low), abs(high))
        c = np.maximum(part, 0.0) @ high + np.minimum(part, 0.0) @ low
        lost = gamma(2 * part.shape[1] + 6) * (abs(part) @ size) + _underflow(part, size)
        L = rows.L.copy()
        L[:, self.entries] = 0.0
        return rows.plus(L, c, lost)


@dataclass(frozen=True, eq=False)
class Beside:
    """$x + f(x)$ for $|x| \\le$ `size`."""

    branch: "tuple[Step, ...]"
    size: Vector

    def back(self, rows: Rows) -> Rows:
        after = back(self.branch, rows)
        L = after.L + rows.L
        return replace(after, L=L, lost=(after.lost + UNIT * (abs(L) @ self.size)) * GENEROUS + TINY)


Step = Linear | Lines | Forgotten | Beside


def back(steps: Sequence[Step], rows: Rows) -> Rows:
    """Rows on the values behind `steps`, as rows on those in front."""
    for step in reversed(steps):
        rows = step.back(rows)
    return rows


def lines(found: Band, low: Vector, high: Vector) -> Lines:
    """The lines of a band; where one slope is free, the one of the smaller area, or that of the left side."""
    size = np.maximum(abs(low), abs(high))
    near = np.where(high > -low, 1.0, found.left)
    below, above = found.free & (found.left <= 1), found.free & (found.left > 1)
    return Lines(
        lower=np.where(below, near, found.slope),
        floor=np.where(below, 0.0, found.bottom),
        upper=np.where(above, near, found.slope),
        ceiling=np.where(above, 0.0, found.top),
        size=size,
        flat=(np.where(below, found.left, found.slope), np.where(above, found.left, found.slope)),
    )


@np.errstate(over="ignore", invalid="ignore")
def between(
    steps: Sequence[Step], region: Region, low: Vector, high: Vector, wanted: np.ndarray
) -> tuple[Vector, Vector]:
    """`low` and `high`, narrowed by backward bounds where `wanted`."""
    chosen, n = np.flatnonzero(wanted), len(low)
    if not len(chosen):
        return low, high
    one = np.zeros((2 * len(chosen), n))
    one[np.arange(len(chosen)), chosen] = 1.0
    one[len(chosen) + np.arange(len(chosen)), chosen] = -1.0
    found = above(steps, region, one)
    most, least = found[: len(chosen)], -found[len(chosen) :]
    low, high = low.copy(), high.copy()
    low[chosen] = np.where(least > low[chosen], least, low[chosen])
    high[chosen] = np.where(most < high[chosen], most, high[chosen])
    return np.minimum(low, high), np.maximum(low, high)  # crossed by rounding: both are the value


def above(steps: Sequence[Step], region: Region, L: Matrix) -> Vector:
    """At least the largest value of each row of `L` times the values behind `steps`; infinite where doubles do not reach."""
    zero, best = np.zeros(len(L)), np.full(len(L), np.inf)
    for flat in (False, True):
        rows = back(steps, Rows(L, zero, zero, flat))
        start = region.above(rows.L)
        found = start + rows.c
        found = found + (rows.lost + 4 * UNIT * (abs(start) + abs(rows.c))) * GENEROUS + TINY
        found = found + 2 * UNIT * abs(found)
        best = np.where(np.isfinite(found) & np.isfinite(rows.L).all(1) & (found < best), found, best)
    return best


def _underflow(L: Matrix, size: Vector) -> float:
    """What products that leave the range downward lose, times values of this size."""
    return 4 * L.shape[1] * TINY * (1 + float(np.sum(size)))
