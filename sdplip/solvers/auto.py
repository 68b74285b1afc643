"""Choosing a solver."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from sdplip.solvers.problems import (
    ConvolutionMinTrace,
    Nearest,
    Problem,
    ResidualLMI,
)
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

DENSE_ORDER, FREQUENCIES_ORDER, GENERAL_ORDER = 6000, 128, 300
"""Up to so many columns an interior-point method (of matrices, of convolutions) and CVXPY finish what `Mixing` does not."""

SWEEPS = 2000
"""Steps of `Mixing` before another solver takes over; of a convolution, as many as it takes by itself."""


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

        most = _most(problem)
        sweeps = None if isinstance(problem, ConvolutionMinTrace) else SWEEPS
        first = Mixing(tolerance=self.gap, max_sweeps=sweeps).run(problem, start=start, progress=progress)
        if first.status is not Status.STOPPED or len(first.t) > most:
            return first
        if isinstance(problem, Nearest):
            from sdplip.solvers.cvxpy import CVXPY

            second = CVXPY().run(problem)
        else:
            from sdplip.solvers.interior_point import InteriorPoint  # loads torch

            second = InteriorPoint(gap=self.gap or 1e-8).run(problem, start=first.t, progress=progress)
        best = second if second.objective <= first.objective else first
        return replace(best, seconds=first.seconds + second.seconds)


def _most(problem: Problem) -> int:
    """Up to how many entries of `t` there is another solver."""
    if isinstance(problem, ConvolutionMinTrace):
        return FREQUENCIES_ORDER
    return GENERAL_ORDER if isinstance(problem, Nearest) else DENSE_ORDER


def solve(
    problem: Problem,
    solver: AbstractSolver | Literal["auto"] = "auto",
    *,
    start: Any = None,
    progress: Callable[[Progress], None] | None = None,
) -> Solution:
    """The untrusted solution of a problem by a solver, or by the one that suits it.

    "auto" is

    - `MixingThenInteriorPoint()` for `MinTrace`, `MaxVolume`, `Nearest` and `ConvolutionMinTrace`; only the first of the two above
      6000 columns (128 channels, 300 columns for `Nearest`);
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
    return MixingThenInteriorPoint()
