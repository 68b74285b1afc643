r"""LipSDP-Neuron as CVXPY writes it: the inequality of the paper in full, for small networks and second opinions."""

import contextlib
import warnings

import cvxpy as cp
import numpy as np

from sdplip.bounds.result import Proposal
from sdplip.networks import Chain
from sdplip.solvers.solution import Status


def reference(chain: Chain, solver: str = "CLARABEL") -> Proposal:
    r"""Minimise $\rho$ subject to $M(\rho, \lambda) \succeq 0$, with blocks

    $M_{00} = \rho I$, $M_{kk} = 2 \Lambda_k$, $M_{k,k-1} = -(A_k + B_k) \Lambda_k W_k$, to which
    $2 W_k^\top A_k B_k \Lambda_k W_k$ is
    added in block $(k-1, k-1)$ and $-W_l^\top W_l$ in the last. Weights are divided by their norms first.
    """
    norms = [float(np.linalg.norm(W, 2)) for W in chain.weights]
    Ws = [W / norm for W, norm in zip(chain.weights, norms, strict=True)]
    sizes = [Ws[0].shape[1], *(len(W) for W in Ws[:-1])]
    at = np.concatenate([[0], np.cumsum(sizes)])
    rho, lams = cp.Variable(name="rho"), [cp.Variable(n, nonneg=True) for n in sizes[1:]]

    def embedded(k: int) -> np.ndarray:
        return np.eye(at[-1])[at[k] : at[k + 1]]

    M = rho * embedded(0).T @ embedded(0) - embedded(len(lams)).T @ Ws[-1].T @ Ws[-1] @ embedded(len(lams))
    for k, (W, lam, (alpha, beta)) in enumerate(zip(Ws, lams, chain.slopes, strict=False)):
        P, Q = (embedded(k + 1) - slope[:, None] * W @ embedded(k) for slope in (alpha, beta))
        M = M + P.T @ cp.diag(lam) @ Q + Q.T @ cp.diag(lam) @ P
    problem = cp.Problem(cp.Minimize(rho), [(M + M.T) / 2 >> 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(cp.SolverError):
            problem.solve(solver=solver)
    if rho.value is None or not float(rho.value) > 0:
        return Proposal(tuple(np.ones(n) for n in sizes[1:]), chain.slopes, Status.FAILED)
    squares = np.cumprod(np.square(norms[:-1]))
    multipliers = tuple(
        np.maximum(2 * np.asarray(lam.value) / float(rho.value), 1e-12) / s
        for lam, s in zip(lams, squares, strict=True)
    )
    status = Status.OPTIMAL if problem.status == cp.OPTIMAL else Status.INACCURATE
    return Proposal(multipliers, chain.slopes, status)
