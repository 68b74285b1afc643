r"""Ascent on low-rank factors of a dual, and the rank that it needs.

The mixing method (Wang, Chang and Kolter 2017) ascends row by row and converges linearly; L-BFGS on all rows at once costs
the same product with G a step, and needs a third of the steps for a gap of 1e-3, a tenth for 1e-6. Steps are several times
fewer once V has no more columns than the optimum: 13 of 45 for a Gaussian matrix of order 1000.
"""

import math
from collections.abc import Iterator

from jaxtyping import Float

from sdplip.condition import Array
from sdplip.solvers._landscapes import AbstractLandscape, Height, Rows, norm

MEMORY = 5
"""Pairs of L-BFGS; 10 or 20 need as many steps, and moving the pairs along the spheres saves none."""


def ascent(land: AbstractLandscape, V: Rows, noise: float) -> Iterator[Height]:
    """L-BFGS from V, preconditioned. It ends where rounding, of relative size `noise` in values, allows no ascent."""
    pairs: list[tuple[Rows, Rows, float]] = []
    at = land.at(V)
    while True:
        yield at
        if at.slope <= noise / 8:
            return
        found = None
        for memory in (pairs, []) if pairs else ([],):
            d = land.tangent(at.V, -_two_loops(memory, at.gradient, land.scale(at)))
            found = _search(land, at, d, noise)
            if found is not None:
                break
        if found is None:
            return
        s, y = found.V - at.V, found.gradient - at.gradient
        at, curvature = found, float((s * y).sum())
        if curvature > 1e-12 * norm(s) * norm(y):
            pairs = [*pairs, (s, y, 1 / curvature)][-MEMORY:]


def least_rank(n: int) -> int:
    """The least rank that excludes generic local maxima of n rows."""
    return math.isqrt(2 * n) + 1


def _search(land: AbstractLandscape, at: Height, d: Rows, noise: float) -> Height | None:
    """The first of the steps 1, 1/2, 1/4, ... along d that ascends enough (Armijo; where rounding hides that, by its slope as
    Hager and Zhang do)."""
    slope, step = 2 * float((d * at.gradient).sum()), 1.0
    while slope < 0 and step > 1e-3:
        new = land.at(land.domain(at.V + step * d))
        gain = land.gain(at, new)
        if gain >= -1e-4 * step * slope:
            return new
        if abs(gain) <= noise * abs(at.value) and abs(2 * float((d * new.gradient).sum())) <= -0.9 * slope:
            return new
        step /= 2
    return None


def _two_loops(
    pairs: list[tuple[Rows, Rows, float]], gradient: Rows, scale: Float[Array, "n 1"] | float
) -> Rows:
    """The inverse quasi-Newton matrix times the gradient (Nocedal and Wright, Algorithm 7.4)."""
    q, weights = gradient * 1.0, []
    for s, y, rho in reversed(pairs):
        weights.append(rho * float((s * q).sum()))
        q -= weights[-1] * y
    q *= scale
    if pairs:
        _, y, rho = pairs[-1]
        q /= rho * float((y * y * scale).sum())
    for (s, y, rho), weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - rho * float((y * q).sum())) * s
    return q
