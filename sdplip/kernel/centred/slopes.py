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
Sides = Float[np.ndarray, "sides n"]
Points = Float[np.ndarray, "points sides n"]

PARTS = 8
"""Of each side, where the function is not piecewise linear."""
SMALL, LOST = 2.0**-900, 2.0**-110
"""Shorter ways are not divided by; what underflows in products with longer ones is less than that share of them."""


@np.errstate(all="ignore")
def secants(op: Activation, near: tuple[Vector, Vector], low: Vector, high: Vector) -> tuple[Vector, Vector]:
    r"""Ends of the slopes of secants from a point of `near` to one of [low, high], which contains `near`."""
    if not op.name or not len(low):
        return quotients(op, low, high)
    points = _points(op, np.array([near[1], near[0]]), np.array([high, low]))
    first, last = np.minimum(points[:-1], points[1:]), np.maximum(points[:-1], points[1:])
    n = len(low)
    a, b = quotients(
        op,
        np.concatenate([[low, near[0]], first.reshape(-1, n)]),
        np.concatenate([[high, near[1]], last.reshape(-1, n)]),
    )  # all at once: a call costs more than a row
    least, most, here = a[0], b[0], (a[1], b[1])
    below, above, size = _means(
        a[2:].reshape(first.shape), b[2:].reshape(first.shape), last - first, near[1] - near[0], here
    )
    pad = 4 * (2 * len(first) + 16) * UNIT * size + LOST
    low_ends, high_ends = below - pad, above + pad
    alpha = np.fmin(np.fmin(here[0], low_ends[0]), low_ends[1])
    beta = np.fmax(np.fmax(here[1], high_ends[0]), high_ends[1])
    known = np.isfinite(low) & np.isfinite(high)
    alpha, beta = (
        np.where(known, np.maximum(alpha, least), least),
        np.where(known, np.minimum(beta, most), most),
    )
    return np.minimum(alpha, beta), np.maximum(alpha, beta)


def _means(
    a: Points, b: Points, way: Points, near: Vector, here: tuple[Vector, Vector]
) -> tuple[Sides, Sides, Sides]:
    """Of both sides the least lower and the largest upper mean, of all numbers of parts, without and with the interval of the
    centre; the largest size.

    Parts of the lengths `way` have quotients in [a, b], the interval of the length `near` has those of `here`.
    """
    total, sums = np.cumsum(way, 0), [np.cumsum(way * part, 0) for part in (a, b)]
    ends = np.fmin(np.minimum.accumulate(a), here[0]), np.fmax(np.maximum.accumulate(b), here[1])
    weight = np.array([np.zeros_like(near), near])[:, None, None]
    whole = weight + total
    means = [(weight * own + part) / whole for own, part in zip(here, sums, strict=True)]
    bad = ~((whole > SMALL) & np.isfinite(means[0]) & np.isfinite(means[1]))
    size = np.maximum(np.maximum(abs(a), abs(b)).max(0), np.maximum(abs(here[0]), abs(here[1])))
    below, above = (np.where(bad, end, mean) for end, mean in zip(ends, means, strict=True))
    return below.min((0, 1)), above.max((0, 1)), size


def _points(op: Activation, start: Sides, end: Sides) -> Points:
    """From `start` to `end`, with the knots between, or at equal distances."""
    function = FUNCTIONS[op.name]
    low, high = np.minimum(start, end), np.maximum(start, end)
    if function.pieces is not None:
        steps = [np.zeros(low.shape) + knot for knot in function.pieces(**op.parameters)[0]]
    else:
        steps = [start + (end / PARTS - start / PARTS) * k for k in range(1, PARTS)]
    between = np.clip(steps, low, high)
    if len(between) > 1:
        between = np.sort(between, 0)
        between = np.where(start <= end, between, between[::-1])
    return np.concatenate([start[None], between, end[None]]) if len(between) else np.array([start, end])
