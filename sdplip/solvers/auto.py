"""Choosing a solver."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from sdplip.solvers.problems import (
    ConvolutionMinTrace,
    MaxVolume,
    MinTrace,
    Nearest,
    Problem,
    ResidualLMI,
)
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

DENSE_ORDER, GENERAL_ORDER = 6000, 300
"""Up to so many columns an interior-point method, and CVXPY, finish what the mixing method does not."""


@dataclass(frozen=True)
class MixingThenInteriorPoint(AbstractSolver):
    """`Mixing`, which is several times faster where it converges; `InteriorPoint` from where it stopped, if it does not.

    For `Nearest`, which `InteriorPoint` does not solve, CVXPY takes its place.

    Attributes:
        gap: `objective - lower` to reach, relative to the objective (`MaxVolume`: to n); None is what `Mixing` takes by itself.
    """

    gap: float | None = None

    def run(
        self, problem: Problem, *, start: Any = None, progress: Callable[[Progress], None] | None = None
    ) -> Solution:
        """The solution of whichever of the two reached the gap; its `solver` says which.

        Raises:
            SolverUnavailable: a problem that `Mixing` does not take.
        """
        from sdplip.solvers.mixing import Mixing

        dense = not isinstance(problem, MinTrace | MaxVolume | Nearest) or problem.W.shape[1] <= DENSE_ORDER
        first = Mixing(tolerance=self.gap, max_sweeps=400 if dense else 2000).run(
            problem, start=start, progress=progress
        )
        if first.status is not Status.STOPPED or not dense:
            return first
        if isinstance(problem, Nearest):
            if problem.W.shape[1] > GENERAL_ORDER:
                return first
            from sdplip.solvers.cvxpy import CVXPY

            second = CVXPY().run(problem)
        else:
            from sdplip.solvers.interior_point import InteriorPoint  # loads torch

            second = InteriorPoint(gap=self.gap or 1e-8).run(problem, start=first.t, progress=progress)
        best = second if second.objective <= first.objective else first
        return replace(best, seconds=first.seconds + second.seconds)


def solve(
    problem: Problem,
    solver: AbstractSolver | Literal["auto"] = "auto",
    *,
    start: Any = None,
    progress: Callable[[Progress], None] | None = None,
) -> Solution:
    """The untrusted solution of a problem by a solver, or by the one that suits it.

    "auto" is

    - `MixingThenInteriorPoint()` for `MinTrace`, `MaxVolume` and `Nearest`; above 6000 columns only the first of the two;
    - `InteriorPoint()` for `ConvolutionMinTrace`;
    - `CVXPY()`, which is SCS, for `ResidualLMI`.

    Args:
        problem: one of `sdplip.solvers.problems`.
        solver: a solver object, with its options as fields.
        start: a vector `t` to begin from, for solvers that can.
        progress: called with a `Progress` at every iteration, by solvers that can.

    Raises:
        SolverUnavailable: the solver is not installed, or refuses a problem of this kind or size.
    """
    chosen = suitable(problem) if isinstance(solver, str) else solver
    return chosen.run(problem, start=start, progress=progress)


def suitable(problem: Problem) -> AbstractSolver:
    """The solver that "auto" means for this problem; its module is imported only now."""
    if isinstance(problem, ResidualLMI):
        from sdplip.solvers.cvxpy import CVXPY

        return CVXPY()
    if isinstance(problem, ConvolutionMinTrace):
        from sdplip.solvers.interior_point import InteriorPoint

        return InteriorPoint()
    return MixingThenInteriorPoint()
