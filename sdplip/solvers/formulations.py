r"""What CVXPY is told: each problem as a function of its sizes, with the data as parameters (DPP), compiled once.

Gram form throughout: the Schur form takes SCS ten times the iterations.
"""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import cvxpy as cp
import numpy as np

from sdplip.errors import SolverUnavailable


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
