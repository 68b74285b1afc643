r"""A path-following barrier method in the multipliers alone, for inequalities with cheap factorizations (`Shallow`).

Newton's method on $\rho / \mu - \log\det Z(y)$ for a decreasing $\mu$ (dual scaling: Benson, Ye, Zhang, SIAM J. Optim. 2000). With
$H_{ij} = \mathrm{tr}(A_i P A_j P)$ the step to any $\mu$ is $dy = H^{-1} A(P) - H^{-1} b / \mu$: one factorization of H serves the choice of
the next $\mu$ too. $X = \mu (P - P\,dZ\,P)$ obeys the equations of the dual; where $Z(y - dy) \succ 0$ it is positive definite, and

    rho - mu (n - A(P) dy)

is a lower value of the optimum. No matrix of the dual is formed: a step costs a fraction of one of `interior.py`, and more are needed.
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
FIRST = 1.0
"""The first mu, of that to which the start is nearest."""
NEAR = 0.9
"""The Newton decrement below which a point is near enough to the path: X is positive definite, and mu is made smaller."""
LONGEST = 0.95
"""Part of mu by which it goes down at once, at most."""
INSIDE, ROOM = 0.9, 0.8
"""Parts of the way to the boundary that a step along the path and a damped one of Newton may go; nearer to it the next are short."""


class Barrier(Protocol):
    """$Z(y) \\succeq 0$ with the derivatives of its barrier; the objective is $y_0$."""

    @property
    def order(self) -> int: ...

    def factor(self, y: Vector) -> Any:
        """A factor of Z; None where Z is not positive definite."""

    def logdet(self, y: Vector, factor: Any) -> float: ...
    def derivatives(self, y: Vector, factor: Any) -> tuple[Vector, Matrix]:
        r"""$\mathrm{tr}(A_i P)$ and the lower triangle of $\mathrm{tr}(A_i P A_j P)$."""
        ...


@dataclass(frozen=True, eq=False)
class _Step:
    """Newton's step to any mu from one point, and its decrement."""

    AP: Vector
    towards: Vector
    centre: Vector

    @staticmethod
    def of(AP: Vector, H: Matrix) -> "_Step | None":
        solve = factored(H)
        if solve is None:
            return None
        b = torch.zeros_like(AP)
        b[0] = 1
        return _Step(AP, solve(b), solve(AP))

    def __call__(self, mu: float) -> Vector:
        return self.centre - self.towards / mu

    def decrement(self, mu: float) -> float:
        a, b, c = self._squares()
        return max(a / mu**2 - 2 * b / mu + c, 0.0) ** 0.5

    @property
    def nearest(self) -> float:
        """The mu of the least decrement."""
        a, b, _ = self._squares()
        return a / b

    def missing(self, order: int, mu: float) -> float:
        """By how much the lower value of this mu is below rho."""
        return mu * (order - float(self.AP @ self(mu)))

    def _squares(self) -> tuple[float, float, float]:
        return float(self.towards[0]), float(self.centre[0]), float(self.AP @ self.centre)


def central(barrier: Barrier, y: Vector) -> Iterator[Iterate]:
    """Points near the central path from a strictly feasible `y`; it ends where double precision allows no further progress."""
    factor, mu, lower, part = barrier.factor(y), None, 0.0, LONGEST
    while factor is not None:
        step = _Step.of(*barrier.derivatives(y, factor))
        if step is None or not step.nearest > 0:
            return
        mu = FIRST * step.nearest if mu is None else mu
        if step.decrement(mu) > NEAR:
            moved = _corrected(barrier, y, step(mu), mu, factor)
        else:
            lower = max(lower, float(y[0]) - step.missing(barrier.order, mu))
            yield Iterate(y, lower)
            moved, part = _predicted(barrier, y + step(mu), step.towards / mu, part)
            mu *= 1 - part
        if moved is None:
            return
        y, factor = moved


Point = tuple[Vector, Any]


def _predicted(barrier: Barrier, y: Vector, along: Vector, part: float) -> tuple[Point | None, float]:
    """The point on the tangent of the path in front of the boundary, and the part of mu that it goes down; begins with a little
    more than the last `part`."""
    part = min(LONGEST, 1.5 * part)
    while part > 1e-4 and barrier.factor(y - part * along) is None:
        part *= 0.8
    part *= INSIDE
    there = y - part * along
    factor = barrier.factor(there)
    return (None if factor is None or part < 1e-4 else (there, factor)), part


def _corrected(barrier: Barrier, y: Vector, dy: Vector, mu: float, factor: Any) -> Point | None:
    """A point along Newton's step where the barrier function is less, well inside; None where none is found."""
    here, a = float(y[0]) / mu - barrier.logdet(y, factor), 1.0
    while a > 1e-6:
        there = y + a * dy
        found = barrier.factor(there)
        less = found is not None and float(there[0]) / mu - barrier.logdet(there, found) < here
        if less and (a == 1.0 or barrier.factor(y + a / ROOM * dy) is not None):
            return there, found
        a *= 0.7
    return None
