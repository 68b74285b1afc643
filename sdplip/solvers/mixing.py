"""Low-rank dual ascent: the scaling of least trace for so many columns that matrices of that order no longer pay."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.condition import Array
from sdplip.convolution.kernels import namespace
from sdplip.errors import SolverUnavailable
from sdplip.solvers._limits import Limits
from sdplip.solvers._lowrank import Rows, ascent, lengths, unit_rows
from sdplip.solvers._units import Units
from sdplip.solvers.problems import MinTrace, Problem
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

Vector = Float[Array, " n"]

SMALL = 1024
"""Up to so many rows and columns NumPy does it, and torch need not be imported; above, torch with all of its threads."""

FINE, COARSE, FINE_ORDER = 1e-8, 1e-4, 6000
"""Relative gap to reach by default, up to this many columns and above."""

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
        tolerance: `objective - lower` to reach, relative to the objective; by default 1e-8, and 1e-4 above 6000 columns.
        max_sweeps: steps of the ascent.
        time_limit: in seconds, looked at after every step.
    """

    rank: int | None = None
    tolerance: float | None = None
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
        like = np.asarray if max(problem.W.shape) <= SMALL else _tensor()
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = FINE if problem.W.shape[1] <= FINE_ORDER else COARSE
        begin = time.perf_counter()
        units = Units.of(problem.W[None])
        cost = units.cost(problem.cost)
        gram = Gram.of(like(units.columns(problem.W) * cost**0.5))  # now every cost is 1
        first = _first(gram, self.rank, like)
        limits = Limits(tolerance, self.max_sweeps, self.time_limit, begin)
        steps = brackets(gram, first, tolerance)
        unit = math.ldexp(1.0, min(units.top, 1023))  # squares of weights may overflow
        best, status, count = limits.run(steps, first, progress, unit)
        if status is not Status.OPTIMAL:  # the last check of feasibility may be many steps old
            best = best.lifted(gram, tolerance)
            status = Status.OPTIMAL if best.gap <= tolerance else status
        t = units.outside(np.asarray(best.t) / cost)
        dual = np.zeros((len(t), best.V.shape[1]))
        dual[units.keep] = np.asarray(best.V) * (1 - 1e-14) * np.sqrt(problem.cost[units.keep])[:, None]
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

    W: Float[Array, "m n"]
    G: Float[Array, "n n"] | None
    diagonal: Vector

    @classmethod
    def of(cls, W: Float[Array, "m n"]) -> "Gram":
        m, n = W.shape
        return cls(W, W.mT @ W if n <= max(m - 1, CHECKED_ORDER) else None, (W * W).sum(0))

    def apply(self, V: Rows) -> Rows:
        """G V."""
        return self.W.mT @ (self.W @ V) if self.G is None or 2 * len(self.W) < len(self.G) else self.G @ V

    def lift(self, t: Vector, step: float) -> Vector:
        """A small multiple of `t` that is feasible, overshooting by about `step`."""
        if self.G is not None and len(t) <= CHECKED_ORDER:
            factor = 1.0
            while not _definite(factor * t, self.G):
                factor, step = 1 + step, 2 * step
            return factor * t
        return t * _largest(self, t, step)


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
        new = namespace(point.GV).maximum(lengths(point.GV), gram.diagonal)
        best = Bracket(point.V, new, best.t, point.value)
        if point.slope <= check:
            best, check = best.lifted(gram, tolerance), point.slope / 3
        yield best


def _first(gram: Gram, rank: int | None, like: "Callable[[np.ndarray], Array]") -> Bracket:
    r"""Random rows, and $t_i = \lVert w_i\rVert \sum_j \lVert w_j\rVert \ge \sum_j |G_{ij}|$."""
    n = len(gram.diagonal)
    rank = rank or math.isqrt(2 * n) + 1
    V = unit_rows(like(np.random.default_rng(0).standard_normal((n, rank))))
    norms = gram.diagonal**0.5
    t = norms * norms.sum()
    return Bracket(V, t, t, 0.0)


def _tensor() -> "Callable[[np.ndarray], Array]":
    import torch

    return torch.from_numpy


def _definite(t: Vector, G: Float[Array, "n n"]) -> bool:
    """Whether diag(t) - G has a Cholesky factor."""
    if not isinstance(G, np.ndarray):
        from sdplip.solvers._hkm import minus
        from sdplip.solvers._steps import cholesky

        return cholesky(minus(t, G[None])) is not None
    try:
        np.linalg.cholesky(np.diag(t) - G)
    except np.linalg.LinAlgError:
        return False
    return True


def _largest(gram: Gram, t: Vector, tolerance: float) -> float:
    r"""The largest eigenvalue of $T^{-1/2} G T^{-1/2}$ by Lanczos iteration, plus its residual and `tolerance`: at the optimum it is multiple."""
    import torch

    from sdplip.solvers._steps import least_eigenvalues, random_vectors

    s = (t**-0.5)[:, None]

    def apply(v: "torch.Tensor") -> "torch.Tensor":
        return -torch.as_tensor(s * gram.apply(s * v[0].numpy() if isinstance(s, np.ndarray) else s * v[0]))[
            None
        ]

    begin = random_vectors(torch.empty(1, len(t), 1, dtype=torch.float64))
    theta, rho = least_eigenvalues(apply, begin, tolerance=tolerance, steps=300)
    return float(rho - theta) * (1 + tolerance)
