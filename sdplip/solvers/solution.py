"""What a solver is and what it returns: an untrusted proposal, with a sentence on how far to believe it."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.display import brief, equal, hashed, html
from sdplip.solvers.problems import Problem


class Status(Enum):
    """How a solve ended; the value is a sentence with the remedy."""

    OPTIMAL = "The solver reached its tolerance."
    STOPPED = (
        "The solver hit a limit; the point is feasible but not optimal."
        " Raise the limit, or pass the point as `start`."
    )
    INTERRUPTED = (
        "The solve was interrupted; the point is feasible but not optimal."
        " Run it again, with the point as `start`."
    )
    INACCURATE = (
        "The solver stopped short of its tolerance and the point may violate the condition a little;"
        " `certify` repairs that with a larger constant. Raise the limits, or use `InteriorPoint()`."
    )
    INFEASIBLE = "No point satisfies the constraints. Raise `gamma`, or leave it out to have it minimised."
    FAILED = (
        "The solver broke down; the point is only a safe fallback. Rescale the data, or use another solver."
    )


@dataclass(frozen=True)
class Progress:
    """One line of a running solve.

    Attributes:
        iteration: counted from 1.
        objective: of the best point so far.
        lower: of the best dual point so far, -inf before there is one.
        gap: `objective - lower`, relative to the objective.
        seconds: since the start of the solve.
    """

    iteration: int
    objective: float
    lower: float
    gap: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Solution:
    """A proposed point and, where the solver has one, a dual point that bounds all others from below.

    Nothing here is trusted: `sdplip.certify(W, solution.t)` proves what holds of it.

    Attributes:
        t: the proposed diagonal; for `ResidualLMI` it is `2 / multipliers` (the T of SLL), 0 where one is 0.
        status: how the solve ended.
        objective: `problem.objective` at the point.
        lower: `problem.lower(dual)`, below the objective of every feasible point, in floating point.
        dual: the dual point; the problem's docstring says its shape and meaning.
        iterations: as the solver counts them.
        seconds: wall time of the call.
        solver: name of the solver, with its back-end.
        gamma: only for `ResidualLMI`: the squared Lipschitz constant.
        multipliers: only for `ResidualLMI`: the diagonal of Lambda.
    """

    t: Float[np.ndarray, " n"]
    status: Status
    objective: float
    lower: float | None
    dual: np.ndarray | None
    iterations: int
    seconds: float = field(compare=False)
    solver: str
    gamma: float | None = None
    multipliers: Float[np.ndarray, " n"] | None = None

    __repr__ = brief("objective", "lower", "status", "solver", "iterations", "t")
    __eq__ = equal
    __hash__ = hashed
    _repr_html_ = html


class AbstractSolver(abc.ABC):
    """A method with its options as fields. It reports failure in `Solution.status`; it never raises it.

    What it does raise is `SolverUnavailable`, when nothing was run: not installed, wrong problem, too large.
    """

    @abc.abstractmethod
    def run(
        self,
        problem: Problem,
        *,
        start: Any = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Solution:
        """A proposed solution; `start` is a `t` to begin from, `progress` is called at every iteration."""
