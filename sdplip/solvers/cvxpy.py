r"""The reference solvers: every problem as CVXPY writes it, for any conic solver that CVXPY knows.

For small sizes, second opinions and odd constraints; for speed see `InteriorPoint`. Each formulation is compiled once and
solved again with other weights (`formulations.py`). A solver sees data of order one, and its answer is taken back to the scale
of the problem (`_normalised.py`).
"""

import functools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np

from sdplip.errors import SolverUnavailable
from sdplip.solvers._normalised import Point, propose
from sdplip.solvers.formulations import Formulation, compiled
from sdplip.solvers.problems import Problem
from sdplip.solvers.solution import AbstractSolver, Progress, Solution, Status

CLARABEL_ORDER = 80
"""Above this order n Clarabel needs gigabytes: it factors a dense block of order n (n + 1) / 2."""


@dataclass(frozen=True)
class CVXPY(AbstractSolver):
    """Any conic solver that CVXPY knows. The point is feasible up to about `eps`.

    CVXPY passes on neither `start`, which is not used, nor progress: `progress` is called once, at the end.

    Attributes:
        solver: a name of `cvxpy.installed_solvers()`: "SCS", "CLARABEL", "SDPA", "MOSEK".
        eps: tolerance on the normalised problem.
        max_iterations: None is the solver's own limit.
        time_limit: in seconds; None is no limit.
        force: run Clarabel on a matrix of order above 80 as well.
    """

    solver: str = "SCS"
    eps: float = 1e-6
    max_iterations: int | None = None
    time_limit: float | None = None
    force: bool = False

    def run(
        self,
        problem: Problem,
        *,
        start: Any = None,  # noqa: ARG002
        progress: Callable[[Progress], None] | None = None,
    ) -> Solution:
        """The solver's point on the scale of the problem, with a dual point that is exactly dual feasible.

        Raises:
            SolverUnavailable: the solver is not installed, does not know the cones of this problem, or the
                matrix is too large for it.
        """
        begin = time.perf_counter()
        proposal = propose(problem, functools.partial(_solve, self, options_of(self)))
        objective = proposal.objective(problem)
        lower = None if proposal.dual is None else problem.lower(proposal.dual)
        seconds = time.perf_counter() - begin
        if progress is not None:
            low = -np.inf if lower is None else lower
            gap = (objective - low) / max(abs(objective), np.finfo(float).tiny)
            progress(Progress(proposal.iterations, objective, low, gap, seconds))
        return Solution(
            t=proposal.t,
            status=proposal.status,
            objective=objective,
            lower=lower,
            dual=proposal.dual,
            iterations=proposal.iterations,
            seconds=seconds,
            solver=f"CVXPY({self.solver})",
            gamma=proposal.gamma,
            multipliers=proposal.multipliers,
        )


def options_of(settings: CVXPY) -> dict[str, Any]:
    """The fields of `CVXPY` in the words of its solver."""
    if settings.solver not in (names := cp.installed_solvers()):
        raise SolverUnavailable(
            f'Solver "{settings.solver}" is not installed. Install it, or use one of {", ".join(names)}.'
        )
    eps = settings.eps
    # Of all presets tried on min trace this one needed the fewest iterations: 225, against 575 by default.
    preset = {"scale": 1.0, "acceleration_type_1": 0, "acceleration_regularization": 1e-12}
    words = {
        "SCS": ("max_iters", "time_limit_secs", {"eps_abs": eps, "eps_rel": eps, **preset}),
        "CLARABEL": ("max_iter", "time_limit", {"tol_gap_abs": eps, "tol_gap_rel": eps, "tol_feas": eps}),
        "SDPA": ("maxIteration", "", {"epsilonStar": eps, "epsilonDash": eps}),
        "MOSEK": ("", "", {"eps": eps}),
    }
    iterations, seconds, options = words.get(settings.solver, ("", "", {}))
    rows = (
        (iterations, "max_iterations", settings.max_iterations),
        (seconds, "time_limit", settings.time_limit),
    )
    for theirs, ours, limit in rows:
        if limit is not None and not theirs:
            raise SolverUnavailable(f'Solver "{settings.solver}" takes no `{ours}` here. Use None, or "SCS".')
        options = options if limit is None else options | {theirs: limit}
    return options


def _solve(
    settings: CVXPY,
    options: dict[str, Any],
    write: Callable[..., Formulation],
    sizes: tuple[int, ...],
    **data: Any,
) -> Point:
    formulation = compiled(write, sizes, settings.solver)
    order = max(condition.shape[0] for condition in formulation.conditions)
    if settings.solver == "CLARABEL" and order > CLARABEL_ORDER and not settings.force:
        raise SolverUnavailable(
            f"Clarabel needs gigabytes for a matrix of order {order} (refused above {CLARABEL_ORDER})."
            ' Use "SCS" or `InteriorPoint()`, or pass `force=True`.'
        )
    with formulation.lock, warnings.catch_warnings():
        # Status.INACCURATE says the first; the second is SDPA checking matrices of order 1 and 2.
        warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
        warnings.filterwarnings("ignore", "k >= N", RuntimeWarning)
        for parameter in formulation.problem.parameters():
            parameter.value = data[parameter.name()]
        try:
            formulation.problem.solve(solver=settings.solver, warm_start=False, **options)
        except cp.SolverError:
            return Point(Status.FAILED, 0, {}, [])
        return _read(formulation)


def _read(formulation: Formulation) -> Point:
    problem = formulation.problem
    status = {cp.OPTIMAL: Status.OPTIMAL, cp.OPTIMAL_INACCURATE: Status.INACCURATE}.get(
        problem.status, Status.FAILED
    )
    iterations = int(problem.solver_stats.num_iters or 0)
    values = {variable.name(): np.asarray(variable.value, dtype=float) for variable in problem.variables()}
    if status is Status.FAILED or not all(np.isfinite(value).all() for value in values.values()):
        return Point(Status.FAILED, iterations, {}, [])
    return Point(status, iterations, values, [np.asarray(c.dual_value) for c in formulation.conditions])
