r"""Slopes of secants of an activation from the value at a centre to values on a ball.

A secant from z to v has the mean of the difference quotients between them. With points $z_+ = p_0 < p_1 < \dots$ on one side and
quotients in $[a_k, b_k]$ between neighbours, a secant to a v in the k-th part is a mean of the first k - 1 parts and some of the
k-th, hence between the means $A_{k-1}, A_k$ below and $B_{k-1}, B_k$ above. The centre is known to lie in $[z_-, z_+]$ only: with
any share of that interval in front, the mean lies between those without it and with all of it.
"""

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.rounding import UNIT
from sdplip.kernel.reach.activations import quotients
from sdplip.network import Activation
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Points = Float[np.ndarray, "points n"]

PARTS = 8
"""Of each side, where the function is not piecewise linear."""
SMALL, LOST = 2.0**-900, 2.0**-110
"""Shorter ways are not divided by; what underflows in products with longer ones is less than that share of them."""


@np.errstate(all="ignore")
def secants(op: Activation, near: tuple[Vector, Vector], low: Vector, high: Vector) -> tuple[Vector, Vector]:
    r"""Ends of the slopes of secants from a point of `near` to one of [low, high], which contains `near`."""
    least, most = quotients(op, low, high)
    if not op.name or not len(low):
        return least, most
    here = quotients(op, *near)
    alpha, beta = here[0].copy(), here[1].copy()
    for start, end in ((near[1], high), (near[0], low)):
        a, b, size = _means(op, start, end, near, here)
        pad = 4 * (len(a) + 16) * UNIT * size + LOST
        alpha, beta = np.fmin(alpha, a.min(0) - pad), np.fmax(beta, b.max(0) + pad)
    known = np.isfinite(low) & np.isfinite(high)
    alpha, beta = (
        np.where(known, np.maximum(alpha, least), least),
        np.where(known, np.minimum(beta, most), most),
    )
    return np.minimum(alpha, beta), np.maximum(alpha, beta)


def _means(
    op: Activation, start: Vector, end: Vector, near: tuple[Vector, Vector], here: tuple[Vector, Vector]
) -> tuple[Points, Points, Vector]:
    """Lower and upper means on one side, of all numbers of parts, without and with the interval `near`; and the largest size."""
    points = _points(op, start, end)
    first, last = np.minimum(points[:-1], points[1:]), np.maximum(points[:-1], points[1:])
    a, b = quotients(op, first, last)
    way = last - first
    found = list[tuple[Points, Points]]()
    for weight in (np.zeros(len(start)), near[1] - near[0]):
        total = weight + np.cumsum(way, 0)
        means = [
            (weight * own + np.cumsum(way * part, 0)) / total for own, part in zip(here, (a, b), strict=True)
        ]
        short = ~(total > SMALL)
        ends = np.fmin(np.minimum.accumulate(a), here[0]), np.fmax(np.maximum.accumulate(b), here[1])
        bad = short | ~(np.isfinite(means[0]) & np.isfinite(means[1]))
        found.append((np.where(bad, ends[0], means[0]), np.where(bad, ends[1], means[1])))
    size = np.maximum(np.maximum(abs(a), abs(b)).max(0), np.maximum(abs(here[0]), abs(here[1])))
    return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found]), size


def _points(op: Activation, start: Vector, end: Vector) -> Points:
    """From `start` to `end`, with the knots between, or at equal distances."""
    function = FUNCTIONS[op.name]
    low, high = np.minimum(start, end), np.maximum(start, end)
    if function.pieces is not None:
        knots = [
            np.clip(np.zeros(len(low)) + knot, low, high) for knot in function.pieces(**op.parameters)[0]
        ]
        between = np.sort(knots, 0)
        between = np.where(start <= end, between, between[::-1])
        return np.array([start, *between, end])
    steps = [start + (end / PARTS - start / PARTS) * k for k in range(1, PARTS)]
    between = np.clip(np.sort(steps, 0), low, high)
    between = np.where(start <= end, between, between[::-1])
    return np.array([start, *between, end])
