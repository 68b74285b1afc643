r"""On which sides of its hinges a network can be: ends of their arguments on a region, and patterns that no point has.

**Ends.** Layer by layer, every $y_i$ is bounded by putting in for earlier hinges, from the last layer back, lines between which
$\max(0, y_j)$ lies for $l_j \le y_j \le u_j$: below $y_j$ or 0, above the chord $u_j (y_j - l_j) / (u_j - l_j)$; then it is affine in x.

**Empty patterns.** See `kernel.rules.patterns` for the rows. On all inputs: let A hold the coefficients of the k + 1 named rows in the k
columns in which any of them is not 0, p the row of these whose weight is set to 1, and B the others. Where $B^\top w = -A_p^\top$ has a solution
for every member of the enclosures, proven with an approximate inverse R by $\rho = \lVert I - R B^\top \rVert_\infty < 1$ and
$\lVert w - \hat w \rVert_\infty \le \lVert R (B^\top \hat w + A_p^\top) \rVert_\infty / (1 - \rho)$, and all of it is positive, the rows of any member
add up to a constant with these weights, and to one below 0 where that is proven.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import NotProvable
from sdplip.kernel.hinges import Hinges, Patterns, coarse, reduced
from sdplip.kernel.regions import Region
from sdplip.shapes import Bool, Float, Int

Vector = Float[np.ndarray, " n"]
KINDS = 6
"""Of rows that are named against a leaf, in the order of `kernel.rules.patterns`."""
Rows = Sequence[Int[np.ndarray, " k"]]
Weights = Sequence[Float[np.ndarray, " k"]]


@dataclass(frozen=True, eq=False)
class Sides:
    """What is known of the arguments of hinges.

    Attributes:
        region: None is every input.
        low, high: ends of y on the region; infinite without one.
        size: at least the absolute value of each input there.
    """

    region: Region | None
    low: Vector
    high: Vector
    size: Vector

    @property
    def open(self) -> Bool[np.ndarray, " hinges"]:
        """Which hinges have both sides, with finite ends."""
        return (self.low < 0) & (self.high > 0) & np.isfinite(self.low) & np.isfinite(self.high)

    def chords(self) -> tuple[Enclosure, Enclosure]:
        r"""Slope and constant of the chord above each open hinge; 0 of the others."""
        low, high = np.where(self.open, self.low, -1.0), np.where(self.open, self.high, 1.0)
        with np.errstate(all="ignore"):
            slope = high / (high - low)
        slope = Enclosure.of(np.where(np.isfinite(slope), slope, 1.0), 8 * UNIT)
        slope = slope * self.open
        return slope, slope * -low


def sides(hinges: Hinges, region: Region | None) -> Sides:
    """The ends of every hinge on a region.

    Raises:
        NotProvable: a region of another number of inputs.
    """
    N = hinges.order
    if region is None:
        return Sides(None, np.full(N, -np.inf), np.full(N, np.inf), np.full(hinges.inputs, np.inf))
    if region.inputs != hinges.inputs:
        raise NotProvable(f"The region has {region.inputs} coordinates, the network {hinges.inputs} inputs.")
    low, high = region.ends()
    known = Sides(region, np.full(N, -np.inf), np.full(N, np.inf), np.maximum(abs(low), abs(high)))
    for k, layer in enumerate(hinges.layers):
        y = hinges.y[layer]
        known.high[layer] = _above(hinges, known, y, k)
        known.low[layer] = -_above(hinges, known, -y, k)
    return known


def _above(hinges: Hinges, known: Sides, rows: Enclosure, layers: int) -> Vector:
    """At least the largest value of rows that use the hinges of the first `layers` layers."""
    n = hinges.inputs
    slope, constant = known.chords()
    for layer in reversed(hinges.layers[:layers]):
        y, C = hinges.y[layer], rows[:, n + layer]
        if not (np.isfinite(known.low[layer]) & np.isfinite(known.high[layer])).all():
            return np.full(len(rows), np.inf)
        positive, negative = _parts(C)
        open_, on = known.open[layer], known.low[layer] >= 0
        below = np.where(open_, known.high[layer] > -known.low[layer], on)
        S = Enclosure(np.where(open_, slope.mid[layer], on), np.where(open_, slope.radius()[layer], 0.0))
        passed = positive * S + negative * below.astype(float)
        mid, rad = rows.mid.copy(), np.array(rows.radius())
        mid[:, n + layer], rad[:, n + layer] = 0.0, 0.0
        rows = Enclosure(mid, rad) + passed @ y
        lifted = positive @ constant[layer][:, None]
        mid, rad = np.zeros(rows.shape), np.zeros(rows.shape)
        mid[:, -1:], rad[:, -1:] = lifted.mid, lifted.radius()
        rows = rows + Enclosure(mid, rad)
    return _largest(known, rows[:, :n], rows[:, -1])


def _parts(C: Enclosure) -> tuple[Enclosure, Enclosure]:
    """Nonnegative P and nonpositive Q with $C = P + Q$ for every member: the errors go to the first."""
    rad = C.radius()
    P = Enclosure(np.maximum(C.mid, 0.0), np.zeros((1, 1)))
    Q = Enclosure(np.minimum(C.mid, 0.0), np.zeros((1, 1)))
    if rad.any():
        P = P + rad  # of a member C' = C + r with |r| <= rad, P + rad >= C' - Q entry by entry, and v >= 0
    return P, Q


def _largest(known: Sides, L: Enclosure, c: Enclosure) -> Vector:
    """At least the largest value of $L x + c$ on the region."""
    assert known.region is not None
    found = known.region.above(L.mid)
    lost = (L.radius() @ known.size) * GENEROUS + 4 * TINY * (1 + float(known.size.sum()))
    top = c.ends()[1]
    total = found + top + lost
    total = total + 4 * UNIT * (abs(found) + abs(top) + lost + abs(total)) + 4 * TINY
    return np.where(np.isfinite(total), total, np.inf)


@np.errstate(all="ignore")
def empty(
    hinges: Hinges,
    where: Sides,
    patterns: Patterns,
    base: Int[np.ndarray, " leaves"],
    rows: Rows,
    weights: Weights | None,
) -> Bool[np.ndarray, " leaves"]:
    """Of which patterns it is proven that no point of the region has them, by the rows named for each of the coarser pattern
    that forgets which hinges of the first `base` layers are on.

    Rows that are not at least 0 there (of a hinge that is open or decided when it should not be) prove nothing.
    """
    if not len(patterns):
        return np.zeros(0, bool)
    patterns = coarse(hinges.depth, patterns, base)
    y = reduced(hinges, patterns)[0]
    if where.region is None:
        return np.array(
            [_cancels(*_named(hinges, y[k], patterns[k], at, where)) for k, at in enumerate(rows)]
        )
    assert weights is not None
    return _negative(hinges, where, y, patterns, rows, weights)


def _negative(
    hinges: Hinges, where: Sides, y: Enclosure, patterns: Patterns, rows: Rows, weights: Weights
) -> Bool[np.ndarray, " leaves"]:
    """Whether the weighted sum of rows is below 0 on the region and for the values that open hinges have there."""
    n, N = hinges.inputs, hinges.order
    kinds, good = np.zeros((len(rows), KINDS, N)), np.ones(len(rows), bool)
    for k, (at, own) in enumerate(zip(rows, weights, strict=True)):
        good[k] = _allowed(patterns[k], at, where).all() and len(np.unique(at)) == len(at)
        kinds[k, at // N, at % N] = own
    slope, constant = where.chords()
    signed = np.where(patterns == 1, 1.0, -1.0) * kinds[:, 0]
    on_y = Enclosure.exact(signed) - kinds[:, 2] + slope * kinds[:, 3] + kinds[:, 4] - kinds[:, 5]
    on_v = Enclosure.exact(kinds[:, 1]) + kinds[:, 2] - kinds[:, 3]
    total = (Enclosure(on_y.mid[:, None], on_y.radius()[:, None]) @ y)[:, 0]
    most = np.maximum((total[:, n:-1] + on_v).ends()[1], 0.0)
    values = np.where(most > 0, most * np.where(most > 0, np.maximum(where.high, 0.0), 0.0), 0.0).sum(1)
    values = values * (1 + gamma(N + 4)) + 4 * (N + 2) * TINY
    low, high = (np.where(np.isfinite(end), end, 0.0) for end in (where.low, where.high))
    lifted = constant * kinds[:, 3] - Enclosure.exact(kinds[:, 4]) * low + Enclosure.exact(kinds[:, 5]) * high
    c = total[:, -1] + (lifted @ np.ones((N, 1)))[:, 0]
    found = _largest(where, total[:, :n], c)
    found = found + values + 4 * UNIT * (abs(found) + values)
    return good & (found < 0)


def _allowed(pattern: Int[np.ndarray, " hinges"], rows: Int[np.ndarray, " k"], where: Sides) -> np.ndarray:
    """Which of the rows are at least 0 at every point of the region that has the pattern."""
    kind, i = rows // len(pattern), rows % len(pattern)
    decided = pattern[i] >= 0
    of_open = ~decided & ((kind < 3) | where.open[i])
    finite = np.where(kind == 4, np.isfinite(where.low[i]), np.isfinite(where.high[i]))
    return np.where(kind == 0, decided, np.where(kind < 4, of_open, finite))


def _named(
    hinges: Hinges,
    y: Enclosure,
    pattern: Int[np.ndarray, " hinges"],
    rows: Int[np.ndarray, " k"],
    where: Sides,
) -> tuple[Enclosure, bool]:
    """The rows, and whether all of them may be used."""
    kind, i = rows // hinges.order, rows % hinges.order
    unit = np.zeros((len(rows), y.shape[1]))
    unit[np.arange(len(rows)), hinges.inputs + i] = kind > 0
    sign = np.where(kind == 0, np.where(pattern[i] == 1, 1.0, -1.0), np.where(kind == 2, -1.0, 0.0))
    return y[i] * sign[:, None] + unit, bool(_allowed(pattern, rows, where).all())


def _cancels(rows: Enclosure, good: bool) -> bool:
    """Whether positive weights are proven to exist with which all coefficients cancel, and the constant is below 0."""
    used = ((rows.mid != 0) | (rows.radius() != 0)).any(0)[:-1]
    columns = np.flatnonzero(used)
    if not good or len(rows) != len(columns) + 1:
        return False
    A, c = rows[:, columns], rows[:, -1]
    if not len(columns):
        return bool(c.ends()[1][0] < 0)
    with np.errstate(all="ignore"):
        try:
            guess = np.linalg.svd(A.mid.T)[2][-1]
            p = int(np.argmax(abs(guess)))
            others = np.flatnonzero(np.arange(len(rows)) != p)
            R = np.linalg.inv(A.mid[others].T)
        except np.linalg.LinAlgError:
            return False
    w = guess[others] / guess[p]
    if not (np.isfinite(R).all() and np.isfinite(w).all() and (w > 0).all()):
        return False
    B = A[others].T
    shrink = float((np.eye(len(w)) - R @ B).magnitude().sum(1).max()) * GENEROUS
    away = float((R @ (B @ w + A[p])).magnitude().max())
    error = away / (1 - shrink) * GENEROUS + TINY if shrink < 0.5 else np.inf
    if not (np.isfinite(error) and (w * (1 - 4 * UNIT) > error).all()):
        return False
    weight = Enclosure(w[None], np.full((1, len(w)), error))
    constant = (weight @ c[others][:, None])[0] + c[p : p + 1]
    return bool(constant.ends()[1][0] < 0)
