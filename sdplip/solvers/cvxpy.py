r"""The reference formulations: every problem as CVXPY writes it, for any conic solver that CVXPY knows.

For small sizes, second opinions and odd constraints; for speed see `InteriorPoint`. Each formulation is one
function of the sizes with the data as CVXPY parameters, so it is compiled once and solved again with other
weights. A solver sees data of order one (see `_norms`); its answer is taken back to the scale of the problem.
"""

import functools
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
from jaxtyping import Float

from sdplip.condition import gram
from sdplip.errors import InvalidProblem, SolverUnavailable
from sdplip.scalings import aol
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, Problem, ResidualLMI
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
        proposal = _propose(problem, functools.partial(_solve, self, _options(self)))
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


# The formulations. Each is a function of sizes only.


@dataclass(frozen=True, eq=False)
class Formulation:
    """A CVXPY problem with parameters to fill and variables to read by name, and its matrix inequalities."""

    problem: cp.Problem
    conditions: list[cp.Constraint]
    lock: threading.Lock = field(default_factory=threading.Lock)


def min_trace(n: int) -> Formulation:
    r"""Minimise $c^\top t$ subject to $\mathrm{diag}(t) - G \succeq 0$."""
    t, c = cp.Variable(n, name="t"), cp.Parameter(n, name="cost", nonneg=True)
    G = cp.Parameter((n, n), name="G", symmetric=True)
    condition = cp.diag(t) - G >> 0
    return Formulation(cp.Problem(cp.Minimize(c @ t), [condition]), [condition])


def max_volume(m: int, n: int) -> Formulation:
    r"""Maximise $\sum_i \log s_i$ subject to $I - \sum_i s_i w_i w_i^\top \succeq 0$.

    A product of the parameter W with itself would not be DPP, so the parameter has columns $w_i w_i^\top$.
    """
    s, outer = cp.Variable(n, name="s"), cp.Parameter((m * m, n), name="outer")
    condition = np.eye(m) - cp.reshape(outer @ s, (m, m), order="F") >> 0
    return Formulation(cp.Problem(cp.Maximize(cp.sum(cp.log(s))), [condition]), [condition])


def nearest(n: int) -> Formulation:
    r"""Minimise $\lVert \sqrt p (t - \hat t) \rVert^2$ subject to $\mathrm{diag}(t) - G \succeq 0$."""
    t, root = cp.Variable(n, name="t"), cp.Parameter(n, name="root", nonneg=True)
    wish, G = cp.Parameter(n, name="wish"), cp.Parameter((n, n), name="G", symmetric=True)
    condition = cp.diag(t) - G >> 0
    distance = cp.sum_squares(cp.multiply(root, t) - wish)
    return Formulation(cp.Problem(cp.Minimize(distance), [condition]), [condition])


def residual_lmi(d: int, n: int) -> Formulation:
    r"""Minimise $\gamma$ subject to the LMI of `ResidualLMI` with slopes in $[0, 1]$ (SLL, Theorem 4)."""
    gamma, multipliers = cp.Variable(name="gamma"), cp.Variable(n, name="multipliers", nonneg=True)
    HH, GG = (cp.Parameter((k, k), name=name, symmetric=True) for k, name in ((d, "HH"), (n, "GG")))
    HG, W = cp.Parameter((d, n), name="HG"), cp.Parameter((d, n), name="W")
    side = -HG - cp.multiply(W, cp.reshape(multipliers, (1, n), order="F"))
    condition = cp.bmat([[gamma * np.eye(d) - HH, side], [side.T, 2 * cp.diag(multipliers) - GG]]) >> 0
    return Formulation(cp.Problem(cp.Minimize(gamma), [condition]), [condition])


def convolution_min_trace(frequencies: int, n: int, parts: int) -> Formulation:
    r"""Minimise $c^\top t$ subject to one inequality a frequency.

    With `parts == 2` the Hermitian $A + iB$ is the symmetric $\begin{bmatrix} A & -B \\ B & A \end{bmatrix}$.
    """
    t, c = cp.Variable(n, name="t"), cp.Parameter(n, name="cost", nonneg=True)
    order = parts * n
    G = [cp.Parameter((order, order), name=f"G{f}", symmetric=True) for f in range(frequencies)]
    T = cp.diag(cp.hstack([t] * parts))
    conditions: list[cp.Constraint] = [T - G_f >> 0 for G_f in G]
    return Formulation(cp.Problem(cp.Minimize(c @ t), conditions), conditions)


# Running a solver.


@dataclass(frozen=True, eq=False)
class Point:
    """What came back from the solver, still on the normalised scale; no values and duals if it failed."""

    status: Status
    iterations: int
    values: dict[str, np.ndarray]
    duals: list[np.ndarray]


Solve = Callable[..., Point]


@functools.lru_cache(maxsize=16)
def compiled(write: Callable[..., Formulation], sizes: tuple[int, ...], solver: str) -> Formulation:
    """The formulation `write(*sizes)`, compiled once for a solver, kept for the next problem of these sizes.

    Raises:
        SolverUnavailable: the solver does not know the cones that the formulation needs.
    """
    formulation = write(*sizes)
    for parameter in formulation.problem.parameters():
        parameter.value = np.zeros(parameter.shape)
    try:
        formulation.problem.get_problem_data(solver)
    except cp.SolverError as reason:
        raise SolverUnavailable(
            f'Solver "{solver}" does not know the cones of `{write.__name__}`. Use "SCS" or "CLARABEL".'
        ) from reason
    return formulation


def _options(settings: CVXPY) -> dict[str, Any]:
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


# From a problem to the data of its formulation, and back.


@dataclass(frozen=True, eq=False)
class Proposal:
    """A point on the scale of the problem: the fields of `Solution` that the solver decides."""

    t: Float[np.ndarray, " n"]
    status: Status
    iterations: int = 0
    dual: np.ndarray | None = None
    gamma: float | None = None
    multipliers: Float[np.ndarray, " n"] | None = None

    def objective(self, problem: Problem) -> float:
        return problem.objective(self.t if self.multipliers is None else self.multipliers)


@functools.singledispatch
def _propose(problem: Any, solve: Solve) -> Proposal:  # noqa: ARG001
    raise InvalidProblem(
        f"`problem` must come from sdplip.solvers.problems, but is {type(problem).__name__}."
    )


@_propose.register
def _(problem: MinTrace, solve: Solve) -> Proposal:
    d = _norms(problem.W)
    cost = problem.cost * d**2
    point = solve(min_trace, (len(d),), G=gram(problem.W / d), cost=cost / cost.max())
    if point.status is Status.FAILED:
        return Proposal(aol(problem.W), point.status, point.iterations)
    Y = _factor(point.duals[0])
    Y = Y * _root_ratio(problem.cost, (Y * Y).sum(-1))[:, None]
    return Proposal(_floor(problem.W, point.values["t"] * d**2), point.status, point.iterations, Y)


@_propose.register
def _(problem: MaxVolume, solve: Solve) -> Proposal:
    keep = problem.W.any(0)
    d = _norms(problem.W)
    m, n = problem.W.shape[0], int(keep.sum())
    if n == 0:
        return Proposal(np.zeros(len(d)), Status.OPTIMAL, dual=np.zeros((m, m)))
    Q, R = np.linalg.qr((problem.W / d)[:, keep])  # R has the same condition, and fewer rows where W is tall
    outer = np.einsum("ai,bi->abi", R, R).reshape(-1, n)
    point = solve(max_volume, (len(R), n), outer=outer)
    if point.status is Status.FAILED:
        return Proposal(aol(problem.W), point.status, point.iterations)
    t = np.zeros(len(d))
    t[keep] = d[keep] ** 2 / point.values["s"]
    Y = Q @ _factor(point.duals[0])
    Y = Y @ Y.T * (n / np.sum(Y * Y))  # the best multiple of Y has trace n
    return Proposal(_floor(problem.W, t), point.status, point.iterations, Y)


@_propose.register
def _(problem: Nearest, solve: Solve) -> Proposal:
    d = np.sqrt(_norms(problem.W) ** 2 + np.maximum(problem.target, 0))
    target, weight = problem.target / d**2, problem.weight * d**4
    G = gram(problem.W / d)
    if np.linalg.eigvalsh(np.diag(target) - G)[0] >= -len(d) * np.finfo(float).eps:
        return Proposal(problem.target, Status.OPTIMAL, dual=np.zeros((len(d), 1)))
    top = weight.max()
    root = np.sqrt(weight / top)
    point = solve(nearest, (len(d),), G=G, root=root, wish=root * target)
    if point.status is Status.FAILED:
        return Proposal(np.maximum(problem.target, aol(problem.W)), point.status, point.iterations)
    t = np.maximum(point.values["t"] * d**2, (problem.W**2).sum(0))
    Y = _factor(point.duals[0]) * np.sqrt(top) / d[:, None]
    return Proposal(t, point.status, point.iterations, Y)


@_propose.register
def _(problem: ConvolutionMinTrace, solve: Solve) -> Proposal:
    S = problem.symbols
    peaks = np.max([_norms(abs(S_f)) * S_f.any(0) for S_f in S], axis=0)
    d = np.where(peaks > 0, peaks, peaks.max() or 1.0)
    G = (S / d).conj().swapaxes(-1, -2) @ (S / d)
    parts = 2 if G.imag.any() else 1
    cost = problem.cost * d**2
    data = {f"G{f}": _real(G_f, parts) for f, G_f in enumerate(G)}
    point = solve(convolution_min_trace, (len(S), len(d), parts), cost=cost / cost.max(), **data)
    if point.status is Status.FAILED:
        return Proposal(np.max(abs(G).sum(-1) * d**2, axis=0), point.status, point.iterations)
    Y = np.stack([_factor(_complex(X, parts)) for X in point.duals])
    Y = Y / np.sqrt(problem.multiplicity)[:, None, None]
    Y = Y * _root_ratio(problem.cost, problem.multiplicity @ (abs(Y) ** 2).sum(-1))[:, None]
    t = np.maximum(point.values["t"] * d**2, peaks**2) * (peaks > 0)
    return Proposal(t, point.status, point.iterations, Y)


@_propose.register
def _(problem: ResidualLMI, solve: Solve) -> Proposal:
    H, G = problem.shifted()
    act = G.any(0)
    n = problem.W.shape[1]
    if not act.any():
        direction = np.linalg.svd(H)[2][:1].T
        dual = np.concatenate([direction, np.zeros((n, 1))])
        return _answer(problem, Status.OPTIMAL, 0, np.zeros(n), dual)
    top, a, small = _balanced(H, G[:, act], problem.W[:, act])
    data = {"HH": gram(small.H), "GG": gram(small.G), "HG": small.H.T @ small.G, "W": small.W}
    point = solve(residual_lmi, small.W.shape, **data)
    if point.status is Status.FAILED:
        return Proposal(np.zeros(n), point.status, point.iterations, multipliers=np.zeros(n))
    multipliers = np.zeros(n)
    raised = _feasible(small, point.values["multipliers"])
    multipliers[act] = raised * (a * top / (problem.beta - problem.alpha)) ** 2
    Yx, Yu = np.split(_factor(point.duals[0]), [len(small.W)])
    dual = np.zeros((len(small.W) + n, Yx.shape[1]))
    dual[: len(small.W)], dual[len(small.W) :][act] = Yx, Yu / a[:, None]
    return _answer(problem, point.status, point.iterations, multipliers, dual)


def _balanced(H: np.ndarray, G: np.ndarray, W: np.ndarray) -> tuple[float, np.ndarray, ResidualLMI]:
    r"""Scale of the output, scales $a_i$ of the units, and the problem with all its numbers of order one.

    A unit is also $a_i^{-1} \sigma(a_i z_i)$ with the same slopes: $w_i, g_i, \lambda_i$ may become
    $a_i w_i, g_i / a_i, \lambda_i / a_i^2$.
    """
    w, g = _norms(W), _norms(G)
    top = float(np.linalg.norm(H, 2) + np.linalg.norm(G * w, 2))
    a = np.sqrt(g / top / w)
    return top, a, ResidualLMI(H / top, G / top / a, W * a)


def _feasible(problem: ResidualLMI, multipliers: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The multipliers, raised just enough for the best gamma: 2 Lambda - G^T G must be positive definite."""
    raised = [np.maximum(multipliers, 0) + step for step in (0, *np.logspace(-12, -2, 11))]
    return min(raised, key=problem.objective)


def _answer(
    problem: ResidualLMI, status: Status, iterations: int, multipliers: np.ndarray, dual: np.ndarray
) -> Proposal:
    """The proposal; where a gamma was asked for: reached, refuted by the dual point, or too close to call."""
    gamma = problem.objective(multipliers)
    if problem.gamma is not None and gamma <= problem.gamma:
        status, gamma = Status.OPTIMAL, problem.gamma
    elif problem.gamma is not None:
        status = Status.INFEASIBLE if problem.lower(dual) > problem.gamma else Status.INACCURATE
    t = np.divide(2, multipliers, out=np.zeros(len(multipliers)), where=multipliers > 0)
    return Proposal(t, status, iterations, dual, gamma, multipliers)


def _norms(W: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " n"]:
    """Lengths of the columns, without overflow; for a zero column the largest, so that it does not set the scale."""
    peak = abs(W).max() or 1.0
    norms = np.linalg.norm(W / peak, axis=0) * peak
    return np.where(norms > 0, norms, norms.max() or 1.0)


def _floor(W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """`t` raised to what the diagonal of the condition asks for, and 0 on zero columns."""
    return np.maximum(t, (W**2).sum(0)) * W.any(0)


def _factor(X: np.ndarray) -> np.ndarray:
    """Y with Y Y^* the projection of the symmetrised X onto the positive semidefinite matrices."""
    eigenvalues, vectors = np.linalg.eigh((X + X.conj().T) / 2)
    return vectors * np.sqrt(np.maximum(eigenvalues, 0))


def _root_ratio(wanted: Float[np.ndarray, " n"], have: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.sqrt(wanted / np.where(have > 0, have, 1))


def _real(G: np.ndarray, parts: int) -> np.ndarray:
    A, B = np.real(G), np.imag(G)
    return A if parts == 1 else np.block([[A, -B], [B, A]])


def _complex(X: np.ndarray, parts: int) -> np.ndarray:
    """The Hermitian matrix whose inner product with G is that of X with `_real(G)`."""
    if parts == 1:
        return X
    n = len(X) // 2
    return X[:n, :n] + X[n:, n:] + 1j * (X[n:, :n] - X[:n, n:])
