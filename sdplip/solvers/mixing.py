"""Low-rank dual ascent: the scaling of least trace for so many columns that matrices of that order no longer pay."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.errors import SolverUnavailable
from sdplip.solvers._hkm import Vector, minus
from sdplip.solvers._limits import Limits
from sdplip.solvers._lowrank import Rows, ascent, unit_rows
from sdplip.solvers._steps import cholesky, least_eigenvalues, random_vectors
from sdplip.solvers._units import Units
from sdplip.solvers.problems import MinTrace, Problem
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

CHECKED_ORDER = 4096
"""Up to this order feasibility is decided by a Cholesky factorization, above it estimated by Lanczos iteration."""


@dataclass(frozen=True)
class Mixing(AbstractSolver):
    r"""Low-rank method for `MinTrace`: ascent on $X = V V^\top$, then $t_i = \lVert(GV)_i\rVert / \lVert v_i\rVert$, lifted.

    The dual point comes first; `t` is made and lifted to feasibility whenever the gradient has become a third. A step costs
    one product of G with V; no matrix of order n is formed for a W of more than 4096 columns and not more rows. Above that
    order Lanczos iteration says how far to lift, which is accurate but no proof: `certify` has the last word. It is fast also
    for small n and gaps down to 1e-8, but, unlike `InteriorPoint`, has no bound on its number of steps. `start` is not used.

    Attributes:
        rank: columns of V; by default the least with rank (rank + 1) / 2 > n, which excludes generic local maxima.
        tolerance: `objective - lower` to reach, relative to the objective.
        max_sweeps: steps of the ascent.
        time_limit: in seconds, looked at after every step.
    """

    rank: int | None = None
    tolerance: float = 1e-4
    max_sweeps: int = 1000
    time_limit: float | None = None

    def run(
        self,
        problem: Problem,
        *,
        start: Any = None,  # noqa: ARG002
        progress: Callable[[Progress], None] | None = None,
    ) -> Solution:
        """The scaling of least cost, and the low-rank dual point `(n, rank)`.

        Raises:
            SolverUnavailable: the problem is not a `MinTrace`.
        """
        if not isinstance(problem, MinTrace):
            raise SolverUnavailable(
                f"`Mixing` does not solve {type(problem).__name__}. Use `InteriorPoint()` or `CVXPY()`."
            )
        begin = time.perf_counter()
        units = Units.of(problem.W[None])
        cost = torch.from_numpy(units.cost(problem.cost))
        gram = Gram.of(torch.from_numpy(units.columns(problem.W)) * cost.sqrt())  # now every cost is 1
        first = _first(gram, self.rank)
        limits = Limits(self.tolerance, self.max_sweeps, self.time_limit, begin)
        steps = brackets(gram, first, self.tolerance)
        unit = math.ldexp(1.0, min(units.top, 1023))  # squares of weights may overflow
        best, status, count = limits.run(steps, first, progress, unit)
        if status is not Status.OPTIMAL:  # the last check of feasibility may be many steps old
            best = best.lifted(gram, self.tolerance)
            status = Status.OPTIMAL if best.gap <= self.tolerance else status
        t = units.outside((best.t / cost).numpy())
        dual = np.zeros((len(t), best.V.shape[1]))
        dual[units.keep] = best.V.numpy() * (1 - 1e-14) * np.sqrt(problem.cost[units.keep])[:, None]
        return Solution(
            t=t,
            status=status,
            objective=problem.objective(t),
            lower=problem.lower(dual),
            dual=dual,
            iterations=count,
            seconds=time.perf_counter() - begin,
            solver="Mixing",
        )


@dataclass(frozen=True, eq=False)
class Gram:
    """The Gram matrix of W, formed only where that is cheaper."""

    W: Float[Tensor, "m n"]
    G: Float[Tensor, "n n"] | None
    diagonal: Vector

    @classmethod
    def of(cls, W: Float[Tensor, "m n"]) -> "Gram":
        m, n = W.shape
        return cls(W, W.mT @ W if n <= max(m - 1, CHECKED_ORDER) else None, (W * W).sum(0))

    def apply(self, V: Rows) -> Rows:
        """G V."""
        return self.W.mT @ (self.W @ V) if self.G is None or 2 * len(self.W) < len(self.G) else self.G @ V

    def lift(self, t: Vector, step: float) -> Vector:
        """A small multiple of `t` that is feasible, overshooting by about `step`."""
        if self.G is not None and len(t) <= CHECKED_ORDER:
            factor = 1.0
            while cholesky(minus(factor * t, self.G[None])) is None:
                factor, step = 1 + step, 2 * step
            return factor * t
        s = t.rsqrt()[:, None]
        theta, rho = least_eigenvalues(
            lambda v: -(s * self.apply(s * v[0]))[None],
            random_vectors(self.diagonal[None, :, None].expand(1, -1, len(t))),
            tolerance=step,
            steps=300,
        )
        return t * float(rho - theta)


@dataclass(frozen=True, eq=False)
class Bracket:
    """Unit rows V, whose value is `lower`, and the best feasible `t` so far; `new` is the `t` that V asks for."""

    V: Rows
    new: Vector
    t: Vector
    lower: float

    @property
    def objective(self) -> float:
        """Cost of `t`."""
        return float(self.t.sum())

    @property
    def gap(self) -> float:
        """Relative."""
        return 1 - self.lower / self.objective if self.objective else 0.0

    def lifted(self, gram: Gram, tolerance: float) -> "Bracket":
        """With the `t` that V asks for, lifted, if that is better."""
        t = gram.lift(self.new, tolerance / 4) if len(self.t) else self.t
        return Bracket(self.V, self.new, min(t, self.t, key=lambda t: float(t.sum())), self.lower)


def brackets(gram: Gram, first: Bracket, tolerance: float) -> Iterator[Bracket]:
    """Ever better brackets; ends where rounding allows no ascent."""
    best, check = first, tolerance
    if not len(gram.diagonal):
        yield first
        return
    for point in ascent(gram.apply, first.V, gram.diagonal):
        new = torch.maximum(torch.linalg.vector_norm(point.GV, dim=-1), gram.diagonal)
        best = Bracket(point.V, new, best.t, point.value)
        if point.slope <= check:
            best, check = best.lifted(gram, tolerance), point.slope / 3
        yield best


def _first(gram: Gram, rank: int | None) -> Bracket:
    r"""Random rows, and $t_i = \lVert w_i\rVert \sum_j \lVert w_j\rVert \ge \sum_j |G_{ij}|$."""
    n = len(gram.diagonal)
    generator = torch.Generator().manual_seed(0)
    rank = rank or math.isqrt(2 * n) + 1
    V = unit_rows(torch.randn(n, rank, dtype=torch.float64, generator=generator))
    norms = gram.diagonal.sqrt()
    t = norms * norms.sum()
    return Bracket(V, t, t, 0.0)
