"""L-BFGS with backtracking for smooth functions on a domain, which is where they have a value."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " p"]

SHORT = 1e-4
"""Share of a step at which its direction is given up."""


@dataclass(frozen=True, eq=False)
class Point:
    """Where a function has a value, the value, and the gradient there."""

    x: Vector
    value: float
    gradient: Vector


def lbfgs(
    function: Callable[[Vector], Point | None], start: Point, steps: int, accuracy: float, memory: int = 30
) -> Iterator[Point]:
    """Points of L-BFGS with backtracking; it ends when a step gains less than `accuracy`, or none is found."""
    here, pairs = start, list[tuple[Vector, Vector]]()
    for _ in range(steps):
        q, kept = here.gradient.copy(), []
        for s, y in reversed(pairs):
            a = (s @ q) / (s @ y)
            q -= a * y
            kept.append(a)
        if pairs:
            s, y = pairs[-1]
            q *= (s @ y) / (y @ y)
        else:
            q /= max(1.0, abs(q).max())
        for (s, y), a in zip(pairs, reversed(kept), strict=True):
            q += (a - (y @ q) / (s @ y)) * s
        slope, c = float(q @ here.gradient), min(1.0, 2.0 / max(abs(q).max(), 1e-300))
        if slope <= 0:
            pairs.clear()
            continue
        shortest = SHORT if pairs else 1e-9
        there = function(here.x - c * q)
        while there is None or there.value > here.value - 1e-4 * c * slope:
            c /= 3
            if c < shortest:
                break
            there = function(here.x - c * q)
        if c < shortest or there is None:
            if not pairs:
                return
            pairs.clear()  # what they say of the curvature leads nowhere
            continue
        s, y = there.x - here.x, there.gradient - here.gradient
        if s @ y > 1e-10 * ((s @ s) * (y @ y)) ** 0.5:
            pairs = [*pairs, (s, y)][-memory:]
        gain, here = here.value - there.value, there
        yield here
        if gain < accuracy:
            return
