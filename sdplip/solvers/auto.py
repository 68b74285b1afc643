"""Choosing a solver."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from sdplip.solvers.problems import MinTrace, Nearest, Problem, ResidualLMI
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

MIXING_ORDER = 6000
"""Above this many columns dense matrices of that order no longer pay; the mixing method needs none."""


@dataclass(frozen=True)
class MixingThenInteriorPoint(AbstractSolver):
    """`Mixing`, which is several times faster where it converges; `InteriorPoint` from where it stopped, if it does not.

    Attributes:
        gap: `objective - lower` to reach, relative to the objective.
    """

    gap: float = 1e-8

    def run(
        self, problem: Problem, *, start: Any = None, progress: Callable[[Progress], None] | None = None
    ) -> Solution:
        """The solution of whichever of the two reached the gap; its `solver` says which.

        Raises:
            SolverUnavailable: the problem is not a `MinTrace`.
        """
        from sdplip.solvers.mixing import Mixing

        first = Mixing(tolerance=self.gap, max_sweeps=400).run(problem, start=start, progress=progress)
        if first.status is not Status.STOPPED:
            return first
        from sdplip.solvers.interior_point import InteriorPoint  # loads torch

        second = InteriorPoint(gap=self.gap).run(problem, start=first.t, progress=progress)
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

    - `MixingThenInteriorPoint()` for `MinTrace` up to 6000 columns, `Mixing()` with more;
    - `InteriorPoint()` for `MaxVolume` and `ConvolutionMinTrace`;
    - `CVXPY()`, which is SCS, for `Nearest` and `ResidualLMI`.

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
    if isinstance(problem, Nearest | ResidualLMI):
        from sdplip.solvers.cvxpy import CVXPY

        return CVXPY()
    if isinstance(problem, MinTrace):
        if problem.W.shape[1] <= MIXING_ORDER:
            return MixingThenInteriorPoint()
        from sdplip.solvers.mixing import Mixing

        return Mixing()
    from sdplip.solvers.interior_point import InteriorPoint

    return InteriorPoint()
