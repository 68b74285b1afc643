r"""Functions of groups on a region: which share of its constant of all inputs each group has there.

The arguments of a group lie in a box, and so do those between two of them. There softmax has the Jacobian $\mathrm{diag}(p) - p p^\top$, with
absolute row sums $2 p_i (1 - p_i)$; its $p_i = 1 / (1 + \sum_{j \ne i} e^{x_j - x_i})$ lies between the values at two corners of the box.
Normalisations have one of norm at most $1 / s$ with their divisor s, which has a least value on the box: a length of its nearest point, or
$s^2 = \varepsilon + \frac1n \min_c g(c)$, $g(c) = \sum_i \mathrm{dist}(c, [l_i, u_i])^2$, for layer normalisation. g is convex: it is nowhere less than
its tangent at any c.
"""

from collections.abc import Callable, Mapping

import numpy as np

from sdplip.arithmetic.elementary import decay
from sdplip.arithmetic.rounding import GENEROUS, TINY, gamma
from sdplip.network import Grouped
from sdplip.shapes import Float

Vector = Float[np.ndarray, " count"]
Groups = Float[np.ndarray, "count size"]
ROOM = 2.0**-36
"""Relative room for the roundings of exponentials, whose arguments are at most `FAR`, and of a few operations with them."""
FAR = 700.0
LEAST = 2.0**-60
"""Of a share: so that none is 0."""
ENTRIES = 1 << 24
"""Differences of entries of one group that softmax looks at, at most; there are their squares."""


@np.errstate(all="ignore")
def shares(op: Grouped, low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> Vector:
    """At least the constant of each group on the box, over `op.constant`; 1 where nothing less is known."""
    find, ones = CONSTANTS.get(op.name), np.ones(len(op.groups))
    if find is None or not op.constant > 0:
        return ones
    found = find(low[op.groups], high[op.groups], **op.parameters) / op.constant * (1 + ROOM)
    return np.where(np.isfinite(found), np.clip(found, LEAST, 1.0), 1.0)


def _softmax(low: Groups, high: Groups) -> Vector:
    count, size = low.shape
    if count * size**2 > ENTRIES:
        return np.full(count, np.inf)
    others = ~np.eye(size, dtype=bool)
    most = 1 / (1 + (_exponential(low[:, None] - high[:, :, None], -1) * others).sum(-1))
    least = 1 / (1 + (_exponential(high[:, None] - low[:, :, None], 1) * others).sum(-1))
    least, most = least * (1 - size * ROOM), most * (1 + size * ROOM)
    nearest = np.clip(0.5, least, most)  # to the peak of p (1 - p)
    found = np.where(nearest == 0.5, 0.5, 2 * nearest * (1 - nearest) * (1 + ROOM) + 4 * TINY).max(-1)
    return np.where(np.isfinite(low).all(-1) & np.isfinite(high).all(-1), found, np.inf)


def _softmin(low: Groups, high: Groups) -> Vector:
    return _softmax(-high, -low)


def _exponential(t: Float[np.ndarray, "..."], side: int) -> Float[np.ndarray, "..."]:
    """Above $e^t$ (`side` 1) or below it (-1)."""
    t = np.clip(t, -2 * FAR, FAR) if side < 0 else t
    y = np.where(t <= 0, decay(np.maximum(-t, 0.0)), 1 / decay(np.maximum(t, 0.0)))
    y = np.where(t > FAR, np.inf, y)
    return np.maximum(y * (1 + side * ROOM) + side * 4 * TINY, 0.0)


def _layer_norm(low: Groups, high: Groups, eps: "float | Vector") -> Vector:
    n = low.shape[1]
    first, last = low.min(1), high.max(1)
    a, b = first, last
    for _ in range(60):  # where the derivative of g vanishes, about
        c = a / 2 + b / 2
        rises = _apart(low, high, c).sum(1) > 0
        a, b = np.where(rises, a, c), np.where(rises, c, b)
    c = a / 2 + b / 2
    apart = _apart(low, high, c)
    lost = gamma(n + 16) * abs(apart).sum(1)
    slope = 2 * (abs(apart.sum(1)) + lost) * np.maximum(last - c, c - first)
    square = (apart * apart).sum(1) * (1 - gamma(n + 16)) - slope * (1 + ROOM) - 8 * n * TINY
    return _inverse(np.maximum(square, 0.0) / n, eps)


def _apart(low: Groups, high: Groups, c: Vector) -> Groups:
    """How far c lies above each interval, or below it, which counts negative."""
    return np.maximum(c[:, None] - high, 0.0) - np.maximum(low - c[:, None], 0.0)


def _rms_norm(low: Groups, high: Groups, eps: "float | Vector") -> Vector:
    return _inverse(_squares(low, high) / low.shape[1], eps)


def _normalize(low: Groups, high: Groups, eps: "float | Vector") -> Vector:
    return (1 + ROOM) / np.maximum(np.sqrt(_squares(low, high)), np.asarray(eps, np.float64))


def _squares(low: Groups, high: Groups) -> Vector:
    """Below the squared length of every point."""
    near = np.maximum(np.maximum(low, -high), 0.0)
    n = low.shape[1]
    return np.maximum((near * near).sum(1) * (1 - gamma(n + 8)) / GENEROUS - 4 * n * TINY, 0.0)


def _inverse(square: Vector, eps: "float | Vector") -> Vector:
    """Above one over the root of `square` and `eps` together."""
    return (1 + ROOM) / np.sqrt(square + np.asarray(eps, np.float64))


CONSTANTS: Mapping[str, Callable[..., Vector]] = {
    "softmax": _softmax,
    "softmin": _softmin,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "normalize": _normalize,
}
"""By the name in `sdplip.arithmetic.groups.GROUPED`: at least the constant of each group on a box."""
