r"""How steep a piecewise linear network is at a point, proven from below.

Where no hinge has the argument 0 at a point x, f is affine around x, and its constant on every region with x inside is at least
$\lVert J v \rVert / \lVert v \rVert$ for every v, J its Jacobian. Arguments and J are computed with their errors.
"""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT
from sdplip.kernel.hinges import Hinges, Patterns, reduced
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]


def steepness(hinges: Hinges, region: Region | None, x: Vector) -> float:
    """A constant that f does not fall below around x; 0.0 where that is not proven, as outside of the region or on a kink."""
    if x.shape != (hinges.inputs,) or not np.isfinite(x).all() or not inside(region, x):
        return 0.0
    pattern = pattern_of(hinges, x)
    return 0.0 if pattern is None else jacobian_below(hinges, pattern)


def pattern_of(hinges: Hinges, x: Vector) -> Patterns | None:
    """The side of every hinge at x; None where one is not proven."""
    n, N = hinges.inputs, hinges.order
    mid, rad = np.zeros(n + N + 1), np.zeros(n + N + 1)
    mid[:n], mid[-1] = x, 1.0
    pattern = np.zeros((1, N), np.int8)
    for layer in hinges.layers:
        y = hinges.y[layer] @ Enclosure(mid[:, None], rad[:, None])
        low, high = (end[:, 0] for end in y.ends())
        if not ((low > 0) | (high < 0)).all():
            return None
        pattern[0, layer] = low > 0
        mid[n + layer] = np.where(low > 0, y.mid[:, 0], 0.0)
        rad[n + layer] = np.where(low > 0, y.radius()[:, 0], 0.0)
    return pattern


def jacobian_below(hinges: Hinges, pattern: Patterns) -> float:
    """At least this is the norm of the Jacobian of a complete pattern."""
    J = reduced(hinges, pattern)[1][0][:, : hinges.inputs]
    if not J.mid.any():
        return 0.0
    v = np.linalg.svd(J.mid)[2][0]
    v = np.where(abs(v) < 2.0**-200, 0.0, v)
    image = (J @ Enclosure(v[:, None], np.zeros((1, 1))))[:, 0]
    least = np.maximum(abs(image.mid) * (1 - 4 * UNIT) - image.radius() * GENEROUS, 0.0)
    n = len(least) + 8
    found = float(np.sqrt((least * least).sum())) * (1 - 2 * n * UNIT) - n * TINY
    found = found / float(lengths(v[None])[0]) * (1 - 4 * UNIT)
    return found if np.isfinite(found) and found > 0 else 0.0


def inside(region: Region | None, x: Vector) -> bool:
    """Whether x is proven to lie in a region all around which there are points of it: every side of a box is longer than 0."""
    if region is None:
        return True
    if isinstance(region, Cut):  # strictly inside of both, so that all around x is in the region
        box, ball = region.box, region.ball
        return bool(((box.lower < x) & (x < box.upper)).all()) and inside(ball, x)
    if isinstance(region, Box):
        return bool(((region.lower <= x) & (x <= region.upper) & (region.lower < region.upper)).all())
    assert isinstance(region, Ball)
    with np.errstate(all="ignore"):
        away = abs(x - region.center)
        away = away * (1 + 4 * UNIT) + 4 * TINY
        far = float(lengths(away[None])[0]) * GENEROUS
    return bool(far < region.radius)
