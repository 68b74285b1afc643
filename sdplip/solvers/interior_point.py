"""The workhorse: primal-dual interior-point methods that use the structure of the three scaling problems."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sdplip.errors import SolverUnavailable
from sdplip.solvers._limits import Limits
from sdplip.solvers._points import aol_point, points
from sdplip.solvers.devices import why_not
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Problem
from sdplip.solvers.solution import AbstractSolver, Progress, Solution


@dataclass(frozen=True)
class InteriorPoint(AbstractSolver):
    """Interior-point method for `MinTrace`, `MaxVolume` and `ConvolutionMinTrace`: a dozen iterations to full accuracy.

    Every point is strictly feasible as far as a floating-point Cholesky factorization can tell. A solve that is interrupted
    (`KeyboardInterrupt`, also from `progress`) returns a scaling, with status `INTERRUPTED`; one that double precision carries
    no further returns `STOPPED`. It computes in float64, with as many threads as torch has, in about ten matrices of the order
    of `t`. A `start` is lifted to feasibility first; it saves few iterations (none, if it is far from optimal).

    Attributes:
        device: where torch computes.
        gap: `objective - lower` to reach, relative to the objective; for `MaxVolume`, to n: it is that of the mean log t.
        max_iterations: counted over all rounds of a convolution.
        time_limit: in seconds, looked at after every iteration.
    """

    device: str = "cpu"
    gap: float = 1e-8
    max_iterations: int = 200
    time_limit: float | None = None

    def run(
        self, problem: Problem, *, start: Any = None, progress: Callable[[Progress], None] | None = None
    ) -> Solution:
        """The scaling of least cost, and a dual point within `gap` of it.

        Raises:
            SolverUnavailable: no such device, or a problem of another kind.
            InvalidScaling: `start` is not a vector of the length of `t`, positive on nonzero columns.
        """
        if not isinstance(problem, MinTrace | MaxVolume | ConvolutionMinTrace):
            raise SolverUnavailable(
                f"`InteriorPoint` does not solve {type(problem).__name__}. Use `CVXPY()`, which solves all."
            )
        begin = time.perf_counter()
        limits = Limits(self.gap, self.max_iterations, self.time_limit, begin)
        steps = points(problem, start, self.gap, device_named(self.device))
        best, status, count = limits.run(steps, aol_point(problem), progress)
        t, dual = best.t(), best.dual()
        return Solution(
            t=t,
            status=status,
            objective=problem.objective(t),
            lower=problem.lower(dual),
            dual=dual,
            iterations=count,
            seconds=time.perf_counter() - begin,
            solver=f"InteriorPoint({self.device})",
        )


def device_named(name: str) -> torch.device:
    """The torch device of that name, once it has held a number of double precision.

    Raises:
        SolverUnavailable: it cannot.
    """
    try:
        place = torch.zeros(1, dtype=torch.float64, device=name)
        place.item()
        return place.device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError):
        raise SolverUnavailable(f'`device="{name}"` cannot be used: {why_not(name)}. Use "cpu".') from None
