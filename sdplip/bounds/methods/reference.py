r"""LipSDP as CVXPY writes it: the inequality of the paper in full, for small networks and second opinions."""

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cvxpy as cp
import numpy as np

from sdplip.bounds.numerics.chain import Chain, Proposal
from sdplip.solvers.cvxpy import CVXPY, options_of
from sdplip.solvers.solution import Status

EXACT = CVXPY("CLARABEL", eps=1e-8)


@dataclass(frozen=True)
class Reference:
    """LipSDP by a general solver.

    Attributes:
        form: "neuron", or "layer": one multiplier for all neurons of a layer.
        solver: which one, its tolerance on weights of norm 1 and its limits; `force` does not apply.
        reduced: divide the weights by their norms and replace a wide first and a tall last one by its triangular factor, which
            changes no bound; False is the paper's inequality word for word, tens to hundreds of times slower.
    """

    form: Literal["neuron", "layer"] = "neuron"
    solver: CVXPY = EXACT
    reduced: bool = True

    @property
    def name(self) -> str:
        return "reference" if self.form == "neuron" else "reference-layer"

    def __call__(self, chain: Chain) -> Proposal:
        r"""Minimise $\rho$ subject to $M(\rho, \lambda) \succeq 0$, with blocks

        $M_{00} = \rho I$, $M_{kk} = 2 \Lambda_k$, $M_{k,k-1} = -(A_k + B_k) \Lambda_k W_k$, to which
        $2 W_k^\top A_k B_k \Lambda_k W_k$ is added in block $(k-1, k-1)$ and $-W_l^\top W_l$ in the last.

        Raises:
            SolverUnavailable: the solver is not installed, or has no such option.
        """
        options = options_of(self.solver)
        norms = [float(np.linalg.norm(W, 2)) if self.reduced else 1.0 for W in chain.weights]
        Ws = [W / norm for W, norm in zip(chain.weights, norms, strict=True)]
        if self.reduced and Ws[0].shape[1] > Ws[0].shape[0]:
            Ws[0] = np.linalg.qr(Ws[0].T)[1].T
        if self.reduced and Ws[-1].shape[0] > Ws[-1].shape[1]:
            Ws[-1] = np.linalg.qr(Ws[-1])[1]
        sizes = [len(W) for W in Ws[:-1]]
        rho = cp.Variable(name="rho")
        layer = self.form == "layer"
        lams = [
            (cp.Variable(nonneg=True) * np.ones(n)) if layer else cp.Variable(n, nonneg=True) for n in sizes
        ]
        M = _inequality(Ws, chain.slopes, rho, lams)
        problem = cp.Problem(cp.Minimize(rho), [(M + M.T) / 2 >> 0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(cp.SolverError):
                problem.solve(solver=self.solver.solver, **options)
        if rho.value is None or not float(rho.value) > 0:
            return Proposal(tuple(np.ones(n) for n in sizes), 0.0, Status.FAILED)
        squares = np.cumprod(np.square(norms[:-1]))
        multipliers = tuple(
            np.maximum(2 * np.asarray(lam.value) / float(rho.value), 1e-12) / s
            for lam, s in zip(lams, squares, strict=True)
        )
        status = Status.OPTIMAL if problem.status == cp.OPTIMAL else Status.INACCURATE
        iterations = int(problem.solver_stats.num_iters or 0)
        return Proposal(multipliers, 0.0, status, iterations=iterations)


def _inequality(
    Ws: list[np.ndarray],
    slopes: tuple[tuple[np.ndarray, np.ndarray], ...],
    rho: cp.Variable,
    lams: Sequence[cp.Expression],
) -> cp.Expression:
    at = np.concatenate([[0], np.cumsum([W.shape[1] for W in Ws])])

    def embedded(k: int) -> np.ndarray:
        return np.eye(at[-1])[at[k] : at[k + 1]]

    M = rho * embedded(0).T @ embedded(0) - embedded(len(lams)).T @ Ws[-1].T @ Ws[-1] @ embedded(len(lams))
    for k, (W, lam, (alpha, beta)) in enumerate(zip(Ws, lams, slopes, strict=False)):
        P, Q = (embedded(k + 1) - slope[:, None] * W @ embedded(k) for slope in (alpha, beta))
        M = M + P.T @ cp.diag(lam) @ Q + Q.T @ cp.diag(lam) @ P
    return M
