r"""Lines below and above an activation on intervals, from its values and difference quotients there.

At points $p_0 < \dots < p_K$ of the interval the values lie in proven intervals; between two of them the function has difference
quotients in $[a, b]$. So $f(x) - \mu x$ leaves the larger (smaller) of its values at the two by at most $s t w / (s + t)$ with
$s = (b - \mu)_+$, $t = (\mu - a)_+$ and w their distance: the corner of the parallelogram with sides a and b. Where f is linear
between the points nothing is added. So each slope $\mu$ has a proven floor and ceiling, and the best of a few slopes are taken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS, Function
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT
from sdplip.kernel.reach.relaxed import Lines, Relaxed
from sdplip.network import Activation
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Points = Float[np.ndarray, "points n"]
Values = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

PARTS = 8
"""Into so many parts an interval is cut where the function is not piecewise linear."""


def on(op: Activation, low: Vector, high: Vector) -> tuple[Activation, Relaxed]:
    """The slopes that `op` has for arguments between `low` and `high`, which may be infinite, and lines around it there.

    The activation that comes back has no name: it is that of `op` on these intervals only.
    """
    if not op.name:
        unknown = np.full(op.length, np.inf)
        return op, Relaxed.within(-unknown, unknown)
    function = FUNCTIONS[op.name]
    alpha, beta = quotients(op, low, high)
    values = _values(function, op.parameters)
    least, most = values(low, high)
    known = np.isfinite(low) & np.isfinite(high)
    points = _points(function, op.parameters, np.where(known, low, 0.0), np.where(known, high, 0.0))
    found = _relaxed(_Curve.at(op, function, points, alpha, beta), function, op.parameters, alpha, beta)
    found = replace(found, least=least, most=most)
    return Activation("", op.length, {}, alpha, beta), found if known.all() else _widened(found, known)


def quotients(op: Activation, low: Vector, high: Vector) -> tuple[Vector, Vector]:
    """Ends of the difference quotients of `op` for arguments between `low` and `high`, within its slopes."""
    if not op.name:
        return op.alpha, op.beta
    least, most = FUNCTIONS[op.name].derivatives(low, high, **op.parameters)
    alpha, beta = np.fmax(op.alpha, least), np.fmin(op.beta, most)
    return np.minimum(alpha, beta), np.maximum(alpha, beta)


def bends(op: Activation, low: Vector, high: Vector) -> np.ndarray:
    """Where a narrower interval of arguments may give narrower slopes."""
    if not op.name:
        return np.zeros(op.length, bool)
    alpha, beta = quotients(op, low, high)
    return alpha < beta


@dataclass(frozen=True, eq=False)
class _Curve:
    """The function at points of each interval, and its difference quotients between neighbours."""

    points: Points
    low: Points
    high: Points
    a: Points | None  # None where it is linear between the points
    b: Points | None

    @staticmethod
    def at(op: Activation, function: Function, points: Points, alpha: Vector, beta: Vector) -> "_Curve":
        low, high = _values(function, op.parameters)(points, points)
        if function.pieces is not None:
            return _Curve(points, low, high, None, None)
        a, b = function.derivatives(points[:-1], points[1:], **op.parameters)
        a, b = np.fmax(a, alpha), np.fmin(b, beta)
        return _Curve(points, low, high, np.minimum(a, b), np.maximum(a, b))

    def ends(self, slope: Vector) -> tuple[Vector, Vector]:
        """Floor and ceiling of the function minus `slope` times its argument."""
        lines = slope * self.points
        pad = 4 * UNIT * (np.maximum(abs(self.low), abs(self.high)) + 2 * abs(lines))
        pad = pad + 4 * TINY * (2 + abs(slope) + abs(self.points))
        low, high = self.low - lines - pad, self.high - lines + pad
        if self.a is None or self.b is None:
            return low.min(0), high.max(0)
        s, t = np.maximum(self.b - slope, 0.0), np.maximum(slope - self.a, 0.0)
        wide = (self.points[1:] - self.points[:-1]) * GENEROUS
        corner = np.where((s > 0) & (t > 0), np.minimum(s, t) * (np.maximum(s, t) / (s + t)), 0.0)
        corner = corner * wide * GENEROUS + 4 * TINY * (2 + np.maximum(s, t) + wide)
        low = np.minimum(low[:-1], low[1:]) - corner
        high = np.maximum(high[:-1], high[1:]) + corner
        return low.min(0) - _ulps(low), high.max(0) + _ulps(high)


def _relaxed(curve: _Curve, function: Function, parameters: Mapping, alpha: Vector, beta: Vector) -> Relaxed:
    low, high = curve.points[0], curve.points[-1]
    middle = low / 2 + high / 2
    with np.errstate(all="ignore"):
        chord = (curve.high[-1] - curve.low[0]) / (high - low)
    chord = np.clip(np.where(np.isfinite(chord), chord, alpha / 2 + beta / 2), alpha, beta)
    bottom, top = curve.ends(chord)
    slopes = [chord, *_slopes(function, parameters, middle, alpha, beta)]
    ends = [(bottom, top), *(curve.ends(slope) for slope in slopes[1:])]
    below = _best(slopes, [slope * middle + floor for slope, (floor, _) in zip(slopes, ends, strict=True)])
    above = _best(
        slopes, [-slope * middle - ceiling for slope, (_, ceiling) in zip(slopes, ends, strict=True)]
    )
    best = Lines(below[:, None], _take(below, slopes, ends, 0), above[:, None], _take(above, slopes, ends, 1))
    return Relaxed(
        None, chord[:, None], bottom, top, bottom, top, (best, _second(best, slopes, ends, function))
    )


def _slopes(
    function: Function, parameters: Mapping, middle: Vector, alpha: Vector, beta: Vector
) -> list[Vector]:
    """Slopes that may be good for a line on one side: those of the pieces, or those at the middle and the ends."""
    if function.pieces is not None:
        _, slopes, _ = function.pieces(**parameters)
        return [
            np.clip(np.zeros(len(middle)) + slope, alpha, beta) for slope in np.asarray(slopes, np.float64)
        ]
    a, b = function.derivatives(middle, middle, **parameters)
    inside = np.clip(np.where(np.isfinite(a + b), a / 2 + b / 2, 0.0), alpha, beta)
    return [inside, alpha, beta]


def _best(slopes: list[Vector], scores: list[Vector]) -> Vector:
    score = np.where(np.isnan(scores), -np.inf, scores)
    return np.choose(score.argmax(0), slopes)


def _take(slope: Vector, slopes: list[Vector], ends: list[tuple[Vector, Vector]], side: int) -> Vector:
    """The floor or ceiling that belongs to a slope; equal slopes have equal ones."""
    found = ends[0][side]
    for one, both in zip(slopes[1:], ends[1:], strict=True):
        found = np.where(slope == one, both[side], found)
    return found


def _second(
    best: Lines, slopes: list[Vector], ends: list[tuple[Vector, Vector]], function: Function
) -> Lines:
    """Another choice: the parallel pair, or the slope of the left piece on the side where the choice is free."""
    if function.pieces is None:
        return Lines(slopes[0][:, None], ends[0][0], slopes[0][:, None], ends[0][1])
    left = slopes[1]
    convex = np.all(np.diff(np.array(slopes[1:]), axis=0) >= 0, axis=0)
    concave = np.all(np.diff(np.array(slopes[1:]), axis=0) <= 0, axis=0)
    lower, upper = (
        np.where(convex, left, best.lower[:, 0]),
        np.where(concave & ~convex, left, best.upper[:, 0]),
    )
    return Lines(lower[:, None], _take(lower, slopes, ends, 0), upper[:, None], _take(upper, slopes, ends, 1))


def _points(function: Function, parameters: Mapping, low: Vector, high: Vector) -> Points:
    """The ends and what lies between them: the knots, or points at equal distances."""
    if function.pieces is not None:
        knots = np.asarray(function.pieces(**parameters)[0], np.float64)
        between = [np.clip(np.zeros(len(low)) + knot, low, high) for knot in knots]
    else:
        between = [low + (high / PARTS - low / PARTS) * k for k in range(1, PARTS)]
        between = [np.clip(point, low, high) for point in between]
    return np.maximum.accumulate(np.array([low, *between, high]), axis=0)


def _values(function: Function, parameters: Mapping) -> Values:
    """Ends of the values; infinite where they are not finite."""

    def values(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        least, most = function.values(low, high, **parameters)
        least, most = np.zeros(np.shape(low)) + least, np.zeros(np.shape(low)) + most
        return np.where(np.isfinite(least), least, -np.inf), np.where(np.isfinite(most), most, np.inf)

    return values


def _widened(found: Relaxed, known: np.ndarray) -> Relaxed:
    """Only the ends of the outputs where the interval is infinite."""
    slope = np.where(known, found.slope[:, 0], 0.0)[:, None]
    bottom, top = np.where(known, found.bottom, found.least), np.where(known, found.top, found.most)

    def line(one: Lines) -> Lines:
        return Lines(
            np.where(known, one.lower[:, 0], 0.0)[:, None],
            np.where(known, one.floor, found.least),
            np.where(known, one.upper[:, 0], 0.0)[:, None],
            np.where(known, one.ceiling, found.most),
        )

    return replace(found, slope=slope, bottom=bottom, top=top, lines=tuple(map(line, found.lines)))


def _ulps(x: Points) -> Vector:
    """What the last subtraction or addition rounds."""
    return 4 * UNIT * abs(x).max(0) + 4 * TINY
