"""Low-rank dual ascent: optimal scalings without matrices of the order of `t` in every step, to ten thousands of columns."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdplip.condition import Array
from sdplip.errors import SolverUnavailable
from sdplip.solvers._climb import Bracket, brackets
from sdplip.solvers._limits import Limits
from sdplip.solvers._tasks import posed
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, Problem
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

SMALL = 1024
"""Up to so many rows and columns NumPy does it, and torch need not be imported; above, torch with all of its threads."""

FINE, COARSE, FINE_ORDER = 1e-8, 1e-4, 20_000
"""Relative gap to reach by default, up to this many columns and above."""

WAVES, FINE_WAVES = 1e-6, 2**26
"""Relative gap of convolutions with more entries at all frequencies than that: 256 channels on 32 x 32 pixels have half as many."""

SWEEPS, WAVE_SWEEPS = 1000, 4000
"""Steps by default, and of a convolution, whose working set makes them cheap."""

ROOM = 0.4
"""What of the tolerance the solver uses up; the rest is for the rounding of the proof."""


@dataclass(frozen=True)
class Mixing(AbstractSolver):
    r"""Low-rank method for problems with a diagonal: ascent on $X = V V^\top$, then the `t` that V asks for, lifted.

    The dual point comes first; `t` is made and lifted to feasibility whenever the gradient has become a third. A step costs
    one product of G with V, in single precision until that goes no further, and V loses the columns that it does not need. No
    matrix of order n is formed for a W with less than n/2 rows. Above 1024 columns block Lanczos iteration says how far to lift,
    which is accurate but no proof: `certify` has the last word. For a `ConvolutionMinTrace` V has a factor for each frequency of
    a growing working set, and `rank` is not used. It is fast also for small n and gaps down to 1e-8, but, unlike
    `InteriorPoint`, has no bound on its number of steps. `start` is not used.

    Attributes:
        rank: columns of V to begin with; by default the least with rank (rank + 1) / 2 > n, which excludes generic local maxima.
        tolerance: `objective - lower` to reach, relative to the objective (to n for `MaxVolume`: it is that of the mean log t);
            by default 1e-8, 1e-4 above 20,000 columns, and 1e-6 for convolutions with more than 2^26 entries at all frequencies
            (512 channels on 32 x 32 pixels). The solver goes to 0.4 of it, so that the proof has room.
        max_sweeps: steps of the ascent; by default 1,000, and 4,000 for a convolution, whose steps are cheap.
        time_limit: in seconds, looked at after every step.
    """

    rank: int | None = None
    tolerance: float | None = None
    max_sweeps: int | None = None
    time_limit: float | None = None

    def run(
        self,
        problem: Problem,
        *,
        start: Any = None,  # noqa: ARG002
        progress: Callable[[Progress], None] | None = None,
    ) -> Solution:
        """The scaling of least cost, and the low-rank dual point `(n, rank)`; `(m, rank)` for `MaxVolume`, `(F, n, rank)`
        for a convolution.

        Raises:
            SolverUnavailable: the problem is of another kind.
        """
        if not isinstance(problem, MinTrace | MaxVolume | Nearest | ConvolutionMinTrace):
            raise SolverUnavailable(
                f"`Mixing` does not solve {type(problem).__name__}. Use `InteriorPoint()` or `CVXPY()`."
            )
        if isinstance(problem, ConvolutionMinTrace):
            return self._convolution(problem, progress)
        like = np.asarray if max(problem.W.shape) <= SMALL else _tensor()
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = FINE if problem.W.shape[1] <= FINE_ORDER else COARSE
        tolerance = ROOM * tolerance
        begin = time.perf_counter()
        pose = posed(problem, self.rank, like)
        if pose.task is None:
            return self._solution(problem, pose.t, pose.dual, Status.OPTIMAL, 0, begin)
        limits = Limits(tolerance, self.max_sweeps or SWEEPS, self.time_limit, begin)
        first = Bracket(pose.task, None, pose.task.t, pose.task.V, -math.inf)
        best, status, count = limits.run(brackets(pose.task, tolerance), first, progress, pose.unit)
        if status is not Status.OPTIMAL:  # the last check of feasibility may be many steps old
            best = best.lifted(tolerance)[0]
            status = Status.OPTIMAL if best.gap <= tolerance else status
        return self._solution(problem, *pose.outside(best), status, count, begin)

    def _convolution(
        self, problem: ConvolutionMinTrace, progress: Callable[[Progress], None] | None
    ) -> Solution:
        from sdplip.solvers._wave_task import pose_waves  # loads torch

        tolerance = ROOM * (self.tolerance or (FINE if problem.symbols.size <= FINE_WAVES else WAVES))
        begin = time.perf_counter()
        pose = pose_waves(problem, tolerance)
        limits = Limits(tolerance, self.max_sweeps or WAVE_SWEEPS, self.time_limit, begin)
        best, status, count = limits.run(pose.points, pose.first, progress, pose.unit)
        if status is not Status.OPTIMAL:
            best = pose.lifted(best)
            status = Status.OPTIMAL if best.gap <= tolerance else status
        return self._solution(problem, *pose.outside(best), status, count, begin)

    def _solution(
        self, problem: Problem, t: np.ndarray, dual: np.ndarray, status: Status, count: int, begin: float
    ) -> Solution:
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


def _tensor() -> "Callable[[np.ndarray], Array]":
    import torch

    return torch.from_numpy
