"""From a problem to the normalised data of its formulation, and from the solver's point back to the scale of the problem."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.condition import gram
from sdplip.errors import InvalidProblem
from sdplip.scalings import aol
from sdplip.solvers.formulations import convolution_min_trace, max_volume, min_trace, nearest, residual_lmi
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, Problem, ResidualLMI
from sdplip.solvers.solution import Status


@dataclass(frozen=True, eq=False)
class Point:
    """What came back from the solver, still on the normalised scale; no values and duals if it failed."""

    status: Status
    iterations: int
    values: dict[str, np.ndarray]
    duals: list[np.ndarray]


Solve = Callable[..., Point]


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
def propose(problem: Any, solve: Solve) -> Proposal:  # noqa: ARG001
    raise InvalidProblem(
        f"`problem` must come from sdplip.solvers.problems, but is {type(problem).__name__}."
    )


@propose.register
def _(problem: MinTrace, solve: Solve) -> Proposal:
    d = _norms(problem.W)
    cost = problem.cost * d**2
    point = solve(min_trace, (len(d),), G=gram(problem.W / d), cost=cost / cost.max())
    if point.status is Status.FAILED:
        return Proposal(aol(problem.W), point.status, point.iterations)
    Y = _factor(point.duals[0])
    Y = Y * _root_ratio(problem.cost, (Y * Y).sum(-1))[:, None]
    return Proposal(_floor(problem.W, point.values["t"] * d**2), point.status, point.iterations, Y)


@propose.register
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


@propose.register
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


@propose.register
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


@propose.register
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
