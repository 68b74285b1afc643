r"""A path-following barrier method in the multipliers alone, with a barrier of small parameter (`Shallow`).

Newton's method on $\rho / \mu - \log\det T(y)$ for a decreasing $\mu$. The step to any $\mu$ is $dy = H^{-1} g - H^{-1} b / \mu$ with minus the gradient g
and the Hessian H of the barrier: one factorization serves the choice of the next $\mu$ too, since $y(\mu)$ has the tangent $H^{-1} b /
\mu^2$. On the path $\rho$ is $\mu m$ above the optimum at most, m the order of T. Nearer to the path the tangent is truer, and
$\mu$ may fall by a larger factor. No matrix of the dual is formed: a step costs a fraction of one of `interior.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.interior import Iterate
from sdplip.bounds.numerics.linear import factored

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
NEAR = 0.8
"""The Newton decrement below which mu is made smaller."""
CENTRED = 1e-2
"""The decrement below which it must halve at each step, or rounding has the better of it."""
LONGEST = 0.9
"""Part of mu by which it goes down at once, at most."""
INSIDE = 0.9
"""Of the logarithm of what is possible along the tangent."""
LAST = 5e-9
"""Of rho: where mu times the order is below it, T is a difference of numbers that agree in most digits."""


class Barrier(Protocol):
    """$T(y) \\succ 0$ with the derivatives of its barrier; the objective is $y_0$."""

    @property
    def order(self) -> float: ...
    def point(self, y: Vector) -> Vector:
        """What an iterate reports."""
        ...

    def own(self, y: Vector) -> Vector:
        """The inverse of `point`."""
        ...

    def factor(self, y: Vector) -> Any:
        """A factor of T; None where y is not feasible."""

    def logdet(self, factor: Any) -> float: ...
    def lower(self, y: Vector, factor: Any) -> float:
        """The optimum is not below it."""
        ...

    def derivatives(self, y: Vector, factor: Any) -> tuple[Vector, Matrix]:
        """Minus the gradient of the barrier and the lower triangle of its Hessian."""
        ...


@dataclass(frozen=True, eq=False)
class _Step:
    """Newton's step to any mu from one point, and its decrement."""

    gradient: Vector
    towards: Vector
    centre: Vector

    @staticmethod
    def of(gradient: Vector, H: Matrix) -> "_Step | None":
        solve = factored(H)
        if solve is None:
            return None
        b = torch.zeros_like(gradient)
        b[0] = 1
        return _Step(gradient, solve(b), solve(gradient))

    def __call__(self, mu: float) -> Vector:
        return self.centre - self.towards / mu

    def decrement(self, mu: float) -> float:
        a, b = float(self.towards[0]), float(self.centre[0])
        return max(a / mu**2 - 2 * b / mu + float(self.gradient @ self.centre), 0.0) ** 0.5

    @property
    def nearest(self) -> float:
        """The mu of the least decrement."""
        return float(self.towards[0]) / float(self.centre[0])


def central(barrier: Barrier, y: Vector, gap: float = 0.0) -> Iterator[Iterate]:
    """Points near the central path from a strictly feasible `y`; it ends where double precision allows no further progress.

    Mu does not go below what the relative `gap` needs.
    """
    y, enough = barrier.own(y), max(LAST, gap / 2)
    factor, mu, lower, past = barrier.factor(y), None, 0.0, float("inf")
    while factor is not None:
        lower = max(lower, barrier.lower(y, factor))
        yield Iterate(barrier.point(y), lower)
        step = _Step.of(*barrier.derivatives(y, factor))
        if step is None or not step.nearest > 0:
            return
        mu = step.nearest if mu is None else mu
        least = enough * float(y[0]) / barrier.order
        decrement, last = step.decrement(mu), mu < 1.01 * least
        if last and past < CENTRED and decrement > past / 2:
            return
        if decrement < NEAR and not last:
            moved, part = _predicted(barrier, y + step(mu), step.towards / mu, least / mu)
            mu, past = mu * (1 - part), float("inf")
        else:
            moved, past = _corrected(barrier, y, step(mu), mu, factor), decrement
        if moved is None:
            return
        y, factor = moved


Point = tuple[Vector, Any]


def _predicted(barrier: Barrier, y: Vector, along: Vector, least: float) -> tuple[Point | None, float]:
    """The point on the tangent of the path in front of the boundary, and the part of mu that it goes down: `least` may be left."""
    rest = 1 - LONGEST
    while rest < 1 - 1e-4 and barrier.factor(y - (1 - rest) * along) is None:
        rest **= 0.7
    part = 1 - max(rest**INSIDE, least)
    there = y - part * along
    factor = barrier.factor(there)
    return (None if factor is None else (there, factor)), part


def _corrected(barrier: Barrier, y: Vector, dy: Vector, mu: float, factor: Any) -> Point | None:
    """A point along Newton's step where the function is not larger; None where none is found."""
    here, a = float(y[0]) / mu - barrier.logdet(factor), 1.0
    here += 1e-9 * abs(here)
    while a > 1e-6:
        there = y + a * dy
        found = barrier.factor(there)
        if found is not None and float(there[0]) / mu - barrier.logdet(found) < here:
            return there, found
        a *= 0.6
    return None
